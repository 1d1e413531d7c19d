"""Writing entries: one statement for one event, one stream of rows for many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from ..exceptions import EventStoreError, MixedStreamError
from ..models import EventEntry
from .streams import is_versioned

__all__ = ["append"]

FIELDS = (
    "event_id",
    "type",
    "version",
    "content_type",
    "payload",
    "stream",
    "stream_version",
    "metadata",
    "timestamp",
    "correlation_id",
    "causation_id",
    "subject",
)
COLUMNS = ", ".join(FIELDS)
ROW = f"({', '.join(['%s'] * len(FIELDS))})"
INSERT = f"INSERT INTO eventstore_entry ({COLUMNS}) VALUES "
# A plain event on a versioned stream is found in the same round trip, and the raised error undoes the insert.
RETURNING_MIXED = (
    "RETURNING id, stream_version IS NULL AND stream <> '' AND EXISTS "
    "(SELECT 1 FROM eventstore_stream_version v WHERE v.stream = eventstore_entry.stream)"
)
IS_VERSIONED = "SELECT EXISTS (SELECT 1 FROM eventstore_stream_version WHERE stream = %s)"
INSERT_ONE = {
    # SQLite sees nothing of the outer row in a subquery of RETURNING, so the stream is given once more.
    "sqlite": f"{INSERT}{ROW} RETURNING ({IS_VERSIONED}), id",
    # On MariaDB a subquery inside an INSERT takes locks, which a SELECT of its own does not: two statements in one packet.
    "mysql": f"{IS_VERSIONED}; {INSERT}{ROW} RETURNING id",
}
COPY = f"COPY eventstore_entry ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
COPY_TYPES = (
    *("uuid", "varchar", "int4", "varchar", "text", "varchar", "int8", "text", "timestamptz"),
    *("varchar", "varchar", "varchar"),
)
COPY_FROM = 50  # rows; below it the extra round trips cost more than the statement saves
# Bounds of one multi-row INSERT, under every server's limits: rows because of the number of parameters, characters because
# MariaDB takes no statement above max_allowed_packet, 16 MB by default (a character may take 4 bytes, or be escaped).
CHUNK = 500
CHUNK_CHARACTERS = 1_000_000


def append(entries: Sequence[EventEntry], *, using: str) -> None:
    """Insert new entries in their order and set their ids; the caller's transaction is open.

    Raises MixedStreamError when a plain event names a stream that holds versioned ones; the transaction can then only be
    rolled back.
    """
    connection = connections[using]
    if connection.vendor == "postgresql" and len(entries) >= COPY_FROM and _has_copy(connection):
        _refuse_mixed(entries, using)
        _copy(entries, connection)
    elif connection.vendor in INSERT_ONE and len(entries) == 1:
        _insert_one(entries[0], connection)
    elif connection.vendor == "sqlite":
        _refuse_mixed(entries, using)
        _execute_many(entries, connection)
    else:
        if connection.vendor != "postgresql":
            _refuse_mixed(entries, using)
        for chunk in _chunks(entries):
            _insert(chunk, connection)
    for entry in entries:
        entry._state.adding = False
        entry._state.db = using


def _refuse_mixed(entries: Sequence[EventEntry], using: str) -> None:
    plain = {entry.stream for entry in entries if entry.stream and entry.stream_version is None}
    mixed = is_versioned(plain, using) if plain else None
    if mixed is not None:
        raise MixedStreamError(stream=mixed, versioned=True)


def _rows(entries: Sequence[EventEntry], connection: BaseDatabaseWrapper) -> Iterator[list[Any]]:
    """The values of each entry in the order of FIELDS, as the driver wants them."""
    event_id: Callable[[UUID], Any] = lambda value: value  # noqa: E731
    timestamp: Callable[[datetime], Any] = lambda value: value  # noqa: E731
    if connection.vendor != "postgresql":
        native = connection.vendor == "mysql" and connection.features.has_native_uuid_field
        event_id = str if native else _hex
        timestamp = lru_cache(maxsize=1)(connection.ops.adapt_datetimefield_value)  # one moment for all of a call
    for entry in entries:
        yield [
            event_id(entry.event_id),
            entry.type,
            entry.version,
            entry.content_type,
            entry.payload,
            entry.stream,
            entry.stream_version,
            entry.metadata,
            timestamp(entry.timestamp),
            entry.correlation_id,
            entry.causation_id,
            entry.subject,
        ]


def _hex(value: UUID) -> str:
    return value.hex


def _chunks(entries: Sequence[EventEntry]) -> Iterator[Sequence[EventEntry]]:
    start, size = 0, 0
    for end, entry in enumerate(entries):
        size += len(entry.payload) + len(entry.metadata)
        if end > start and (end - start == CHUNK or size > CHUNK_CHARACTERS):
            yield entries[start:end]
            start, size = end, len(entry.payload) + len(entry.metadata)
    if start < len(entries):
        yield entries[start:]


def _insert_one(entry: EventEntry, connection: BaseDatabaseWrapper) -> None:
    (row,) = _rows([entry], connection)
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(INSERT_ONE["mysql"], [entry.stream, *row])
            (versioned,) = cursor.fetchone()
            cursor.nextset()  # an error of the insert is raised here
            (entry.id,) = cursor.fetchone()
            while cursor.nextset():
                pass
        else:
            cursor.execute(INSERT_ONE["sqlite"], [*row, entry.stream])
            versioned, entry.id = cursor.fetchone()
    if versioned and entry.stream_version is None and entry.stream:
        _refuse(entry.stream, connection)


def _refuse(stream: str, connection: BaseDatabaseWrapper) -> NoReturn:
    """The entry is in already: the transaction can only be rolled back."""
    transaction.set_rollback(True, using=connection.alias)
    raise MixedStreamError(stream=stream, versioned=True)


def _insert(entries: Sequence[EventEntry], connection: BaseDatabaseWrapper) -> None:
    parameters = [value for row in _rows(entries, connection) for value in row]
    returning = RETURNING_MIXED if connection.vendor == "postgresql" else "RETURNING id, 0"
    with connection.cursor() as cursor:
        cursor.execute(INSERT + f"{', '.join([ROW] * len(entries))} {returning}", parameters)
        rows = cursor.fetchall()
    for entry, (id_, mixed) in zip(entries, rows, strict=True):
        if mixed:
            _refuse(entry.stream, connection)
        entry.id = id_


def _has_copy(connection: BaseDatabaseWrapper) -> bool:
    connection.ensure_connection()
    return hasattr(connection.connection, "pgconn")  # psycopg 3


def _copy(entries: Sequence[EventEntry], connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        with cursor.copy(COPY) as copy:
            copy.set_types(COPY_TYPES)
            for row in _rows(entries, connection):
                copy.write_row(row)
        _set_ids(entries, cursor, "SELECT id FROM eventstore_entry WHERE xid = pg_current_xact_id()")


def _execute_many(entries: Sequence[EventEntry], connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(INSERT + ROW, _rows(entries, connection))
        _set_ids(entries, cursor, "SELECT id FROM eventstore_entry")


def _set_ids(entries: Sequence[EventEntry], cursor: CursorWrapper, own: str) -> None:
    """The ids of the rows just written: the newest of this transaction, which nothing else of it can come between."""
    newest = f"{own} ORDER BY id DESC LIMIT {len(entries)}"
    cursor.execute(f"SELECT min(id), max(id), count(*) FROM ({newest}) q")
    first, last, count = cursor.fetchone()
    if count != len(entries):
        raise EventStoreError(f"{len(entries)} entries were written and {count} found: is a trigger removing them?")
    ids: Iterable[int] = range(first, last + 1)
    if last - first + 1 != count:  # other writers drew ids in between
        cursor.execute(newest)
        ids = reversed([id_ for (id_,) in cursor.fetchall()])
    for entry, id_ in zip(entries, ids, strict=True):
        entry.id = id_
