"""drain(): everything that follows from what was recorded, now, on this thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from asgiref.sync import sync_to_async

from ..consumers import Consumer, declared_consumer, declared_consumers
from ..consumers.definition import HANDLER_SENDER
from ..delivery import Batch, Outcome
from ..exceptions import EventStoreError
from ..forwarding import forward_all, make_sender
from ..forwarding.freezing import is_frozen
from ..handlers import handler_registry
from ..models import ConsumerState, FailedDelivery
from ..senders import EventSender
from .cascades import Cascade
from .commits import finish_commits
from .entry_lists import log_alias
from .failures import Failure, collected_failures, raise_first
from .faults import Faults, FaultySender
from .recording_sender import RecordingSender

__all__ = ["Consumers", "Delivery", "Drained", "Senders", "adrain", "drain"]

Consumers = Iterable[str | Callable[..., Any]] | str | Callable[..., Any] | None
Senders = Literal["record", "real"] | Mapping[str, EventSender]

# No bounds: a test ends when nothing is left.
MOST_EVENTS = 10**9
LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What a drain has done.

    ``delivered``: number of events by consumer. ``sent``: the RecordingSender of each consumer that has one in this drain,
    also of those that were sent nothing. ``failures``: what failed, when drain() was told not to raise it.
    """

    delivered: Mapping[str, int]
    sent: Mapping[str, RecordingSender]
    failures: tuple[Failure, ...] = ()


def drain(
    *,
    consumers: Consumers = None,
    using: str | None = None,
    senders: Senders = "record",
    faults: Faults | None = None,
    until_quiet: bool = True,
    raise_errors: bool = True,
) -> Drained:
    """Deliver everything that is recorded, and what that records, until nothing is left; on this thread, by the same loop.

    ``consumers``: names or handler functions; by default every declared consumer. ``senders``: handlers always run; senders
    of the settings are replaced by a RecordingSender, so that no test talks to a broker, ``"real"`` takes those declared, a
    mapping gives some consumers a sender and records for the others. ``faults``: see Faults. ``until_quiet=False`` goes over
    the consumers once. Handlers with ``mode="after_commit"`` run before them: on this thread in a TestCase, else on their
    own, and are waited for.

    What a handler or sender raises is raised here, after the other consumers have run; its first cause is DeliveryFailed,
    which names the consumer and the event. ``raise_errors=False`` returns it in ``failures``. A failure of an
    earlier drain is tried again at once. A paused consumer stays paused. Raises EndlessDelivery when handlers feed each
    other without an end, UnknownConsumer, and EventStoreError inside atomic() and inside freeze_forwarding().
    """
    __tracebackhide__ = True
    delivery = Delivery(consumers=consumers, using=using, senders=senders, faults=faults)
    return delivery.run(until_quiet=until_quiet, raise_errors=raise_errors)


async def adrain(**arguments: Any) -> Drained:
    """See drain()."""
    return await sync_to_async(drain)(**arguments)


class Delivery:
    """One drain: its consumers, a sender for each, and what came of it."""

    def __init__(
        self,
        *,
        consumers: Consumers = None,
        using: str | None = None,
        senders: Senders = "record",
        faults: Faults | None = None,
    ) -> None:
        if senders not in ("record", "real") and not isinstance(senders, Mapping):
            raise ValueError(f"senders must be 'record', 'real' or a mapping of senders by consumer, got {senders!r}.")
        self.using = log_alias(using)
        self.faults = faults
        self.names = _names(consumers)
        self._given = {declared_consumer(name).name: sender for name, sender in _given(senders).items()}
        self._real = senders == "real"
        self._made: dict[str, EventSender] = {}
        self._watched: dict[str, _WatchedSender] = {}
        self._cascade = Cascade(self.using)
        self.failures: list[Failure] = []

    def run(self, *, until_quiet: bool = True, raise_errors: bool = True) -> Drained:
        """Go over the consumers until nothing is left."""
        __tracebackhide__ = True
        if is_frozen():
            raise EventStoreError("Forwarding is frozen: call drain() after the block of freeze_forwarding().")
        end_waits(self.using)
        try:
            while self._go_over(raise_errors=raise_errors) and until_quiet:
                pass
        finally:
            for sender in self._made.values():
                sender.close()
        return Drained(
            delivered={name: watched.delivered for name, watched in self._watched.items() if watched.delivered},
            sent={name: w.inner for name, w in self._watched.items() if isinstance(w.inner, RecordingSender)},
            failures=tuple(self.failures),
        )

    def batches(self) -> list[tuple[Consumer, list[Batch]]]:
        """What each consumer was given."""
        return [(watched.consumer, watched.batches) for watched in self._watched.values() if watched.batches]

    def _go_over(self, *, raise_errors: bool) -> bool:
        """One tick for all consumers. Returns whether there may be more to do."""
        __tracebackhide__ = True
        for watched in self._watched.values():
            watched.go_on()
        with collected_failures(self.failures, using=self.using):
            followed = self._cascade.after_commits(finish_commits(self.using))
            done = forward_all(
                consumers=self.names,
                using=self.using,
                most_events=MOST_EVENTS,
                longest=LONGEST,
                sender_for=self._sender_for,
            )
        if self._cascade.error is not None:
            raise self._cascade.error
        if raise_errors:
            raise_first(self.failures, circumstances=f" under {self.faults}" if self.faults else "")
        held_back = any(watched.holds_back for watched in self._watched.values())
        return bool(followed or done.delivered or done.more or held_back)

    def _sender_for(self, consumer: Consumer) -> EventSender:
        if consumer.name not in self._watched:
            inner = self._inner(consumer)
            faulty = FaultySender(inner, consumer=consumer, faults=self.faults) if self.faults else None
            self._watched[consumer.name] = _WatchedSender(inner, faulty, consumer=consumer, cascade=self._cascade)
        return self._watched[consumer.name]

    def _inner(self, consumer: Consumer) -> EventSender:
        if consumer.name in self._given:
            return self._given[consumer.name]
        if consumer.sender == HANDLER_SENDER or self._real:
            return self._made.setdefault(consumer.name, make_sender(consumer))
        return RecordingSender()


class _WatchedSender(EventSender):
    """Passes batches on, and notes what was given and what was recorded meanwhile."""

    def __init__(
        self, inner: EventSender, faulty: FaultySender | None, *, consumer: Consumer, cascade: Cascade
    ) -> None:
        self.inner = inner
        self.consumer = consumer
        self.batches: list[Batch] = []
        self.delivered = 0
        self._faulty = faulty
        self._cascade = cascade

    @property
    def holds_back(self) -> bool:
        return self._faulty is not None and self._faulty.holds_back

    def go_on(self) -> None:
        if self._faulty is not None:
            self._faulty.go_on()

    def send(self, batch: Batch) -> Outcome:
        self.batches.append(batch)
        with self._cascade.delivering(batch):
            outcome = (self._faulty or self.inner).send(batch)
        self.delivered += outcome.done - len(outcome.refused)
        return outcome


def end_waits(using: str) -> None:
    """Let what failed be tried again now; the wait is for production."""
    for model in (ConsumerState, FailedDelivery):
        model._default_manager.using(using).filter(retry_at__isnull=False).update(retry_at=None)


def _names(consumers: Consumers) -> list[str] | None:
    if consumers is None:
        return None
    chosen = [consumers] if isinstance(consumers, str) or callable(consumers) else list(consumers)
    names = Counter(name for each in chosen for name in _consumers_of(each))
    return list(names)


def _consumers_of(consumer: str | Callable[..., Any]) -> list[str]:
    if isinstance(consumer, str):
        return [declared_consumer(consumer).name]
    names = [handler.consumer for handler in handler_registry.durable() if handler.function is consumer]
    if not names:
        known = ", ".join(declared_consumers()) or "none"
        raise TypeError(f"{consumer!r} is no durable handler. Declared consumers: {known}.")
    return names


def _given(senders: Senders) -> Mapping[str, EventSender]:
    return senders if isinstance(senders, Mapping) else {}
