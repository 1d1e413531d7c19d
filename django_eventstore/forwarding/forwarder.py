"""EventForwarder: binds the loop to a sender."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.utils.module_loading import import_string

from ..conf import get_settings
from ..consumers import (
    Consumer,
    ConsumerLoop,
    OffsetStore,
    Partition,
    declared_consumer,
    declared_consumers,
    readiness,
    wait,
)
from ..delivery import Batch, Outcome
from ..exceptions import EventStoreError
from ..models import EventEntry
from ..senders import EventSender
from ..store import Extent, LogReader, LogState
from ..store.sequencing import in_test_case
from ..tracing import sending
from .freezing import is_frozen

__all__ = ["EventForwarder", "Forwarded", "forget_forwarders", "forward_all", "make_sender"]


def make_sender(consumer: Consumer) -> EventSender:
    """The consumer's sender. Raises ImproperlyConfigured when the path or the options are wrong."""
    where = f"Consumer {consumer.name!r}: sender {consumer.sender!r}"
    try:
        sender_class = import_string(consumer.sender)
    except ImportError as error:
        raise ImproperlyConfigured(f"{where} cannot be imported: {error}") from error
    if not (isinstance(sender_class, type) and issubclass(sender_class, EventSender)):
        raise ImproperlyConfigured(f"{where} is not a subclass of EventSender.")
    try:
        return sender_class(**consumer.options)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{where} does not take these OPTIONS: {error}") from error


class EventForwarder:
    """Reads the log from a consumer's saved offset, sends what is new, and saves the next offset.

    ``consumer``: the name of a declared consumer, or a Consumer. ``sender``: by default the one the consumer declares.
    """

    def __init__(
        self, consumer: str | Consumer, *, sender: EventSender | None = None, using: str | None = None
    ) -> None:
        self.consumer = declared_consumer(consumer) if isinstance(consumer, str) else consumer
        self.sender = sender or make_sender(self.consumer)
        self.using = using or router.db_for_write(EventEntry)
        self._loops: tuple[ConsumerLoop, ...] = ()

    def loops(self, partitions: int) -> tuple[ConsumerLoop, ...]:
        """One loop per partition; they share the sender, and run one after the other in this process."""
        if len(self._loops) != partitions:
            self.let_go()
            self._loops = tuple(
                ConsumerLoop(
                    consumer=self.consumer,
                    deliver=self._deliver,
                    using=self.using,
                    lease=get_settings().LEASE,
                    partition=Partition(consumer=self.consumer.name, number=number, count=partitions),
                    batch_size=self.sender.batch_size,
                )
                for number in range(partitions)
            )
        return self._loops

    def _deliver(self, batch: Batch) -> Outcome:
        if self.sender.capabilities.transactional:  # handlers of this process have spans of their own
            return self.sender.send(batch)
        with sending(batch.consumer, batch.entries):
            return self.sender.send(batch)

    @property
    def kept(self) -> tuple[ConsumerLoop, ...]:
        """Its loops, if all of them hold their leases for a next run."""
        return self._loops if all(loop.is_kept for loop in self._loops) else ()

    def let_go(self) -> None:
        """Release the leases that were kept."""
        with _errors_of(self.using):
            for loop in self._loops:
                loop.let_go()

    def get_and_send(self, *, most_events: int | None = None, longest: timedelta | None = None) -> Forwarded:
        """Deliver until the end of the log, or within these bounds (by default those of the settings).

        Returns the number of delivered events and whether more is waiting. Delivers nothing while another worker holds
        the consumer, while it is paused, and while it waits for its sender. Raises EventStoreError inside an open
        transaction, where no offset could be saved.
        """
        _require_autocommit(self.using)
        if is_frozen():
            return Forwarded()
        settings = get_settings()
        with _errors_of(self.using):
            state = readiness(self.consumer.name, using=self.using)
            if not state.ready or not _tends(self):
                return Forwarded()
            return _in_turns(
                self.loops(state.partitions),
                events=most_events or settings.FORWARD_EVENTS,
                longest=longest or settings.FORWARD_SECONDS,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """``delivered`` events; ``more``: the bounds were reached and more is waiting."""

    delivered: int = 0
    more: bool = False
    head: int = field(default=0, compare=False)
    """The end of the log when the consumers were asked whether they are behind; 0 where nobody was asked."""


def _require_autocommit(using: str) -> None:
    connection = connections[using]
    if in_test_case(connection) or (connection.get_autocommit() and not connection.in_atomic_block):
        return
    raise EventStoreError(
        f"Forwarding commits as it goes, and database alias {using!r} is inside a transaction. Call it outside atomic(); "
        "with AUTOCOMMIT False, give the event store an alias of its own with AUTOCOMMIT True."
    )


def _errors_of(using: str) -> AbstractContextManager[None]:
    """Raises as Django's what a driver raises as a cursor is closed: Django itself lets that through as it is."""
    wrapper: AbstractContextManager[None] = connections[using].wrap_database_errors
    return wrapper


def _tends(forwarder: EventForwarder) -> bool:
    """Let the sender look after what it has to do besides batches. Whether it could: else the consumer waits."""
    consumer, using = forwarder.consumer, forwarder.using
    try:
        forwarder.sender.tend(consumer.name, events=consumer.events, using=using)
    except Exception as error:  # noqa: BLE001 - as with what send() raises: its own consumer's trouble only
        wait(consumer.name, error=error, policy=consumer.policy, using=using)
        return False
    return True


TURN = timedelta(seconds=2)
TURN_EVENTS = 1_000


def _never() -> bool:
    return False


def _in_turns(
    loops: Iterable[ConsumerLoop],
    *,
    events: int,
    longest: timedelta,
    stopping: Callable[[], bool] = _never,
    keep: bool = False,
    extent: Extent | None = None,
) -> Forwarded:
    """Run each loop until none has more, within these bounds together."""
    deadline = time.monotonic() + longest.total_seconds()
    waiting, delivered = deque(loops), 0
    # A single one has nobody to take turns with.
    turn_events, turn = (TURN_EVENTS, TURN) if len(waiting) > 1 else (events, longest)
    while waiting:
        seconds = deadline - time.monotonic()
        if delivered >= events or seconds <= 0 or stopping():
            return Forwarded(delivered=delivered, more=True)
        loop = waiting.popleft()
        # In turns, so that a long backlog of one consumer does not starve the others.
        run = loop.run(
            most_events=min(turn_events, events - delivered),
            longest=min(turn, timedelta(seconds=seconds)),
            stopping=stopping,
            keep=keep,
            extent=extent,
        )
        delivered += run.delivered
        if run.more:
            waiting.append(loop)
            extent = None  # by now the log may go further
    return Forwarded(delivered=delivered)


# One forwarder per process and consumer: senders keep connections, which must not be shared across a fork.
_forwarders: dict[tuple[int, str, str], EventForwarder] = {}


def _forwarder(consumer: Consumer, using: str) -> EventForwarder:
    key = (os.getpid(), using, consumer.name)
    found = _forwarders.get(key)
    if found is None or found.consumer != consumer:
        found = _forwarders[key] = EventForwarder(consumer, using=using)
    return found


def let_go() -> None:
    """Release the leases that ``forward_all(keep=True)`` has kept in this process."""
    for (process, _, _), forwarder in list(_forwarders.items()):
        if process == os.getpid():
            forwarder.let_go()


def forget_forwarders() -> None:
    """Make them anew when they are next needed: what they know of a log is not true of one that was emptied."""
    for (process, _, _), forwarder in _forwarders.items():
        if process == os.getpid():  # a connection that came by a fork is the parent's to close
            forwarder.sender.close()
    _forwarders.clear()


def forward_all(
    *,
    consumers: Iterable[str] | None = None,
    using: str | None = None,
    most_events: int | None = None,
    longest: timedelta | None = None,
    stopping: Callable[[], bool] = _never,
    keep: bool = False,
    sender_for: Callable[[Consumer], EventSender] | None = None,
) -> Forwarded:
    """One tick: every consumer, or the named ones, each in turn, within the bounds together.

    ``stopping()``: asked between events; once it is True, the event in hand is the last. ``keep``: hold on to the leases of
    those that came to the end of the log, so that the next tick delivers at once; let_go() ends that.

    Sequences once, asks each consumer with one query whether it is behind, and runs those that are. Safe to overlap with
    any number of other ticks: a consumer that another worker holds is left to it.

    ``sender_for``: gives each consumer the sender of this tick, in place of the one it declares and the process keeps.
    """
    alias = using or router.db_for_write(EventEntry)
    _require_autocommit(alias)
    if is_frozen():
        return Forwarded()
    with _errors_of(alias):
        return _tick(
            consumers,
            alias,
            most_events=most_events,
            longest=longest,
            stopping=stopping,
            keep=keep,
            sender_for=sender_for,
        )


def _tick(
    consumers: Iterable[str] | None,
    alias: str,
    *,
    most_events: int | None,
    longest: timedelta | None,
    stopping: Callable[[], bool],
    keep: bool,
    sender_for: Callable[[Consumer], EventSender] | None,
) -> Forwarded:
    settings = get_settings()
    declared = declared_consumers()
    chosen = [declared_consumer(name) for name in consumers] if consumers is not None else list(declared.values())
    if not (keep and all(_forwarder_is_kept(consumer, alias) for consumer in chosen)):
        OffsetStore(alias).register(chosen)
    extent = LogReader(alias).extent()
    loops = [
        loop
        for forwarder in _able_forwarders(chosen, alias, sender_for)
        for loop in _loops_with_work(forwarder, extent.state)
    ]
    done = _in_turns(
        loops,
        events=most_events or settings.FORWARD_EVENTS,
        longest=longest or settings.FORWARD_SECONDS,
        stopping=stopping,
        keep=keep,
        extent=extent,
    )
    return Forwarded(delivered=done.delivered, more=done.more or extent.more, head=extent.state.head)


def _forwarder_is_kept(consumer: Consumer, using: str) -> bool:
    found = _forwarders.get((os.getpid(), using, consumer.name))
    return found is not None and found.consumer == consumer and bool(found.kept)


def _loops_with_work(forwarder: EventForwarder, log: LogState) -> list[ConsumerLoop]:
    """The partitions that are behind, and all of them while something that failed is due."""
    has_nothing_to_tend = type(forwarder.sender).tend is EventSender.tend
    if forwarder.kept and has_nothing_to_tend:  # each loop asks for its state itself
        return [loop for loop in forwarder.kept if loop.is_behind(log)]
    state = readiness(forwarder.consumer.name, using=forwarder.using)
    if not state.ready or not _tends(forwarder):
        return []
    if forwarder.kept:
        return [loop for loop in forwarder.kept if loop.is_behind(log)]
    loops = forwarder.loops(state.partitions)
    return [loop for loop in loops if state.has_due or loop.is_behind(log)]


def _able_forwarders(
    consumers: Iterable[Consumer], using: str, sender_for: Callable[[Consumer], EventSender] | None
) -> Iterator[EventForwarder]:
    """The forwarders of the consumers whose sender can be made; for the others the reason goes on their row."""
    for consumer in consumers:
        try:
            if sender_for is None:
                yield _forwarder(consumer, using)
            else:
                yield EventForwarder(consumer, sender=sender_for(consumer), using=using)
        except ImproperlyConfigured as error:
            # Its own trouble only: those after it are to run. It is looked at again after a wait.
            if readiness(consumer.name, using=using).ready:
                wait(consumer.name, error=error, policy=consumer.policy, using=using)
