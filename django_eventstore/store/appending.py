"""Writing entries: one statement for one event, one stream of rows for many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

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
# A plain event on a versioned stream is found in the same round trip, after the insert, which the raised error undoes.
# Elsewhere it is asked before: on MariaDB a subquery inside an INSERT takes locks, which a plain SELECT does not, and SQLite
# sees nothing of a subquery's outer row there.
RETURNING_MIXED = (
    "RETURNING id, stream_version IS NULL AND stream <> '' AND EXISTS "
    "(SELECT 1 FROM eventstore_stream_version v WHERE v.stream = eventstore_entry.stream)"
)
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
    elif connection.vendor == "sqlite" and len(entries) > 1:
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


def _values(entry: EventEntry, connection: BaseDatabaseWrapper) -> list[Any]:
    values = [
        entry.event_id,
        entry.type,
        entry.version,
        entry.content_type,
        entry.payload,
        entry.stream,
        entry.stream_version,
        entry.metadata,
        entry.timestamp,
        entry.correlation_id,
        entry.causation_id,
        entry.subject,
    ]
    if connection.vendor != "postgresql":
        if connection.vendor == "mysql" and connection.features.has_native_uuid_field:
            values[0] = str(entry.event_id)
        else:
            values[0] = entry.event_id.hex
        values[8] = connection.ops.adapt_datetimefield_value(entry.timestamp)
    return values


def _chunks(entries: Sequence[EventEntry]) -> Iterator[Sequence[EventEntry]]:
    start, size = 0, 0
    for end, entry in enumerate(entries):
        size += len(entry.payload) + len(entry.metadata)
        if end > start and (end - start == CHUNK or size > CHUNK_CHARACTERS):
            yield entries[start:end]
            start, size = end, len(entry.payload) + len(entry.metadata)
    if start < len(entries):
        yield entries[start:]


def _insert(entries: Sequence[EventEntry], connection: BaseDatabaseWrapper) -> None:
    parameters = [value for entry in entries for value in _values(entry, connection)]
    returning = RETURNING_MIXED if connection.vendor == "postgresql" else "RETURNING id, 0"
    with connection.cursor() as cursor:
        cursor.execute(INSERT + f"{', '.join([ROW] * len(entries))} {returning}", parameters)
        rows = cursor.fetchall()
    for entry, (id_, mixed) in zip(entries, rows, strict=True):
        if mixed:
            transaction.set_rollback(True, using=connection.alias)
            raise MixedStreamError(stream=entry.stream, versioned=True)
        entry.id = id_


def _has_copy(connection: BaseDatabaseWrapper) -> bool:
    connection.ensure_connection()
    return hasattr(connection.connection, "pgconn")  # psycopg 3


def _copy(entries: Sequence[EventEntry], connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        with cursor.copy(COPY) as copy:
            copy.set_types(COPY_TYPES)
            for entry in entries:
                copy.write_row(_values(entry, connection))
        _set_ids(entries, cursor, "SELECT id FROM eventstore_entry WHERE xid = pg_current_xact_id()")


def _execute_many(entries: Sequence[EventEntry], connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(INSERT + ROW, [_values(entry, connection) for entry in entries])
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
