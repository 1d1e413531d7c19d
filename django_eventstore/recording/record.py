"""record(): what happened, inside the transaction that made it happen."""

from __future__ import annotations

import logging
import os
import warnings
from asyncio import _get_running_loop
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypedDict, cast
from uuid import UUID
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..conf import get_settings
from ..consumers import OffsetStore, declared_consumers
from ..context import active_context
from ..exceptions import EventStoreError
from ..handlers import call_handler, handler_registry
from ..models import EventEntry
from ..signals import event_recorded, events_committed, send
from ..store import EventStore
from ..store.new_entries import NewEntries, Row
from ..tracing import get_tracer
from .after_commit import run_after_commit
from .aliases import alias_for
from .commit_hooks import CommitHook, in_test, is_registered, register
from .suppression import explained

__all__ = ["arecord", "forget_known_consumers", "record", "record_each"]

logger = logging.getLogger(__name__)

# By alias: the declarations of which this process has seen that every consumer has its start. Only a commit may say so.
_consumers_known: dict[str, object] = {}


def record(
    *events: object,
    stream: models.Model | str | None = None,
    expected_version: int | None = None,
    metadata: Mapping[str, object] | None = None,
    event_id: UUID | None = None,
    subject: str | None = None,
    using: str | None = None,
) -> Sequence[EventEntry]:
    """Record events in the caller's transaction: they are in the log if and only if it commits.

    ``events``: instances of event classes, or a type name and a mapping: ``record("orders.OrderPlaced", {"order_id": 1})``.
    ``stream``: a saved model instance or a text; what the events are about, and the unit of ordering.
    ``expected_version``: the version the stream is expected to have, 0 for a new one; a stream takes either versioned or
    plain events. ``metadata``: a mapping kept beside the payload. ``event_id``: makes recording the same event again a
    no-op that returns the first entry. ``subject``: whose data it is. ``using``: the database alias of the transaction, by
    default that of the stream's instance, or the one on which a transaction is open.

    Runs handlers with ``mode="sync"`` first and inserts all entries in one statement, with what the context says of actor
    and cause, see event_context(). After the commit it wakes the consumers and starts handlers with
    ``mode="after_commit"``. Returns the entries in order; they get their positions after the commit.

    Raises EventEncodingError, ConcurrencyError, MixedStreamError, EventIdConflict, and what a sync handler raises: then
    nothing is recorded. Raises EventStoreError in a running event loop, see arecord().
    """
    if _get_running_loop() is not None:
        _refuse_in_event_loop()
    store = EventStore(using or alias_for(stream))
    connection = connections[store.using]
    if not connection.in_atomic_block:
        _outside_transaction(connection)
        with transaction.atomic(using=store.using):
            return _record(store, events, stream, expected_version, metadata, event_id, subject)
    return _record(store, events, stream, expected_version, metadata, event_id, subject)


async def arecord(*events: object, **arguments: Any) -> Sequence[EventEntry]:
    """record() on the thread of synchronous code.

    By itself it is outside ``atomic()``, which async code cannot open: put the change and record() into one function and
    await that by ``sync_to_async``. See record().
    """
    return await sync_to_async(record)(*events, **arguments)


def _record(
    store: EventStore,
    events: tuple[object, ...],
    stream: models.Model | str | None,
    expected_version: int | None,
    metadata: Mapping[str, object] | None,
    event_id: UUID | None,
    subject: str | None,
) -> Sequence[EventEntry]:
    if event_id is not None and store.recorded(event_id) is not None:
        return store.save(*events, stream=stream, event_id=event_id)

    def prepare() -> NewEntries:
        return store.prepare(
            *events, stream=stream, event_id=event_id, subject=subject, **_circumstances(metadata, store.using)
        )

    return _traced(store, prepare, expected_version=expected_version, once=event_id is not None)


def _traced(
    store: EventStore, prepare: Callable[[], NewEntries], *, expected_version: int | None = None, once: bool = False
) -> Sequence[EventEntry]:
    """Prepare and store, within a span where there is a tracer."""
    tracer = get_tracer()
    if tracer is None:
        return _store(store, prepare(), expected_version=expected_version, once=once)
    with tracer.recording(active_context()) as recording:
        entries = prepare()
        first = entries.rows[0]
        recording.of([row.type for row in entries.rows], event_id=UUID(bytes=first.event_id))
        return _store(store, entries, expected_version=expected_version, once=once)


def record_each(events: Sequence[tuple[object, str]], *, using: str) -> Sequence[EventEntry]:
    """Record events, each with its own stream, in one statement; a transaction is open.

    An event without a class is a pair of its type name and a mapping.
    """
    store = EventStore(using)

    def prepare() -> NewEntries:
        circumstances = _circumstances(None, using)
        rows: list[Row] = []
        for is_pair, group in groupby(events, key=lambda told: isinstance(told[0], tuple)):
            if is_pair:
                for pair, stream in group:
                    rows += store.prepare(*cast(tuple[object, ...], pair), stream=stream, **circumstances).rows
            else:
                alike, streams = zip(*group, strict=True)
                rows += store.prepare(*alike, streams=streams, **circumstances).rows
        return NewEntries(rows)

    return _traced(store, prepare)


class _Circumstances(TypedDict):
    metadata: Mapping[str, object] | None
    correlation_id: str | None
    causation_id: str | None


def _circumstances(metadata: Mapping[str, object] | None, using: str) -> _Circumstances:
    """What the caller, its context and a suppression around it say about the events."""
    metadata = explained(metadata, connections[using])
    context = active_context()
    if context is None:
        return {"metadata": metadata, "correlation_id": None, "causation_id": None}
    return {
        "metadata": context.add_to(metadata),
        "correlation_id": context.correlation_id,
        "causation_id": context.causation_id,
    }


def _store(
    store: EventStore, entries: NewEntries, *, expected_version: int | None = None, once: bool = False
) -> Sequence[EventEntry]:
    for number, row in enumerate(entries.rows):
        for handler in handler_registry.sync_for(row.type):
            call_handler(handler, entries[number])
    connection = connections[store.using]
    _know_consumers(connection)  # before the insert: on SQLite the entry has its position at once
    stored = store.append(entries, expected_version=expected_version, once=once)
    send(event_recorded, sender=EventEntry, entries=stored, using=store.using)
    if not once or stored[0] is entries[0]:  # else it was recorded by somebody else meanwhile
        run_after_commit(entries, connection)
    _wake_after_commit(connection)
    return stored


def _refuse_in_event_loop() -> None:
    # Where Django lets synchronous queries block the loop, in a notebook, record() does as well.
    if os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        return
    raise EventStoreError(
        "record() was called in a running event loop, where Django has no transactions: put the change and record() into one "
        "function with transaction.atomic() and await it by sync_to_async(), or await arecord() for an event alone."
    )


def _outside_transaction(connection: BaseDatabaseWrapper) -> None:
    if not connection.get_autocommit():
        return  # a transaction of the caller's own is open
    choice = get_settings().OUTSIDE_TRANSACTION
    message = (
        f"record() was called outside transaction.atomic() on the database {connection.alias!r}: the event is stored, but "
        "the change it reports is not in the same transaction. Wrap both in atomic(), or set "
        "EVENTSTORE['OUTSIDE_TRANSACTION'] to 'allow'."
    )
    if choice == "error":
        raise EventStoreError(message)
    if choice == "warn":
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _know_consumers(connection: BaseDatabaseWrapper) -> None:
    """A consumer that starts at now must not miss what is recorded by the first process that knows it."""
    alias = connection.alias
    # A module imported later may declare another handler.
    declared = (get_settings(), handler_registry.durable())
    if _consumers_known.get(alias) == declared:
        return
    looked = _looked.get(connection)
    if looked is not None and looked[0] is connection.run_on_commit and looked[1] == declared:
        return  # earlier in this transaction, and no savepoint was rolled back since: either would have replaced the list
    OffsetStore(alias).register(declared_consumers().values())
    # Rolled back, the rows are gone, and a TestCase rolls back even what its on_commit callbacks have seen.
    if not in_test(connection):

        def remember() -> None:
            _consumers_known[alias] = declared

        transaction.on_commit(remember, using=alias, robust=True)
    _looked[connection] = (connection.run_on_commit, declared)


# The transaction, by its list of hooks, in which a connection has looked.
_looked: WeakKeyDictionary[BaseDatabaseWrapper, tuple[list[Any], object]] = WeakKeyDictionary()


class _WakeUp(CommitHook):
    """What tells of one commit, once, however many savepoints of its transaction have registered it."""

    rank = 1

    def __init__(self, using: str) -> None:
        self.using = using
        self.told = False

    def run(self) -> None:
        if not self.told:
            self.told = True
            send(events_committed, sender=EventEntry, using=self.using)


# The next wake-up of each connection. One that was registered and rolled back serves the next transaction.
_wake_ups: WeakKeyDictionary[BaseDatabaseWrapper, _WakeUp] = WeakKeyDictionary()


def _wake_after_commit(connection: BaseDatabaseWrapper) -> None:
    """One wake-up per transaction. It only wakes somebody: losing it costs time, never an event."""
    wake_up = _wake_ups.get(connection)
    if wake_up is None or wake_up.told:
        wake_up = _wake_ups[connection] = _WakeUp(connection.alias)
    # A hook that is still in the list leaves it only with a savepoint that is open now, and then with what is recorded now.
    # In a TestCase nothing else leaves it, and captureOnCommitCallbacks() looks for what was registered since.
    if is_registered(wake_up, connection) and not in_test(connection):
        return
    register(wake_up, connection)


def forget_known_consumers() -> None:
    """Look again whether every consumer has its start; for a database that was emptied or another that took its place."""
    _consumers_known.clear()
