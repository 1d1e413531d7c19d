"""assert_idempotent(): a handler that is called again with the same event changes nothing more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

from asgiref.sync import sync_to_async

from ..consumers import Consumer
from ..consumers.definition import HANDLER_SENDER
from ..delivery import Batch, DeliveredEntry
from ..forwarding import make_sender
from ..handlers import handler_registry
from ..senders import EventSender
from .draining import Consumers, Delivery, Drained
from .faults import InjectedCrash
from .observation import changes, database_state

__all__ = ["aassert_idempotent", "assert_idempotent"]

Repeat = Literal["rewind", "crash"]


def assert_idempotent(
    observe: Callable[[], object] | None = None,
    *,
    consumers: Consumers = None,
    using: str | None = None,
    repeat: Repeat = "rewind",
) -> Drained:
    """Drain, then give the handlers the same events once more, and fail if that changes what ``observe()`` returns.

    ``observe``: returns what to compare, such as the calls of a fake payment service; by default database_state(): every
    row, recorded event and mail. ``consumers``: names or handler functions; by default every handler. ``repeat``:
    ``"rewind"`` keeps the effects of the second time, as when an operator rewinds a consumer; ``"crash"`` rolls back what it
    writes to the log's database, as when a worker dies between effect and commit, and so looks at effects outside only.

    Each consumer gets all of its events again, in order, and what that records is drained, before its state is compared:
    a repeat never stops half way. Raises AssertionError, which names the handlers and the first event that made a
    difference, also when no handler was given anything; what a handler raises; and what drain() raises.
    """
    __tracebackhide__ = True
    if repeat not in get_args(Repeat):
        raise ValueError(f"repeat must be one of {', '.join(map(repr, get_args(Repeat)))}, got {repeat!r}.")
    look = observe or partial(database_state, using=using)
    delivery = Delivery(consumers=consumers, using=using)
    drained = delivery.run()
    given = [(consumer, batches) for consumer, batches in delivery.batches() if consumer.sender == HANDLER_SENDER]
    if not given:
        raise AssertionError(
            "No handler was given an event: record one that a handler wants, and leave the draining to assert_idempotent()."
        )
    for consumer, batches in given:
        before = look()
        first = _repeat(consumer, batches, look, before, crash=repeat == "crash")
        Delivery(using=using).run()
        after = look()
        if before != after:
            raise AssertionError(_message(consumer, first, before, after, repeat=repeat))
    return drained


async def aassert_idempotent(observe: Callable[[], object] | None = None, **arguments: Any) -> Drained:
    """See assert_idempotent()."""
    return await sync_to_async(assert_idempotent)(observe, **arguments)


def _repeat(
    consumer: Consumer, batches: list[Batch], look: Callable[[], object], before: object, *, crash: bool
) -> DeliveredEntry | None:
    """Deliver everything again, event by event. Returns the first event after which something was different."""
    __tracebackhide__ = True
    sender = make_sender(consumer)
    first = None
    again = [
        replace(batch, entries=[entry], advance=_crash if crash else _keep, is_saved=_never)
        for batch in batches
        for entry in batch.entries
    ]
    for batch in again:
        _deliver(sender, replace(batch, still_held=lambda: True))
        if first is None and look() != before:
            first = batch.entries[0]
    return first


def _deliver(sender: EventSender, batch: Batch) -> None:
    __tracebackhide__ = True
    try:
        outcome = sender.send(batch)
    except InjectedCrash:
        return
    for error in outcome.refused.values():
        error.__cause__ = error.__cause__ or AssertionError(
            f"{_handlers(batch.consumer, batch.entries[0])} failed when {_event(batch.entries[0])} was delivered again"
        )
        raise error


def _keep(position: int) -> None:
    """The offset is where it was: past the event."""


def _crash(position: int) -> None:
    raise InjectedCrash


def _never(position: int) -> bool:
    """What fails the second time has not been saved by the second time."""
    return False


def _message(consumer: Consumer, first: DeliveredEntry | None, before: object, after: object, *, repeat: Repeat) -> str:
    who = _handlers(consumer.name, first)
    when = f"when {_event(first)} was delivered again" if first is not None else "by what its second time recorded"
    kept = " (what it wrote to the database was rolled back)" if repeat == "crash" else ""
    return f"{who} is not idempotent: {when}{kept}, this changed:\n{changes(before, after)}"


def _handlers(consumer: str, entry: DeliveredEntry | None) -> str:
    names = [
        handler.name
        for handler in handler_registry.durable()
        if handler.consumer == consumer and (entry is None or handler.wants(entry.type))
    ]
    return f"Handler {', '.join(names)}"


def _event(entry: DeliveredEntry) -> str:
    about = f" of {entry.stream}" if entry.stream else ""
    return f"{entry.type}{about} (position {entry.position})"
