"""Writing entries: one statement for one event, one stream of rows for many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NoReturn
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from ..exceptions import EventStoreError, MixedStreamError
from .new_entries import NewEntries, Row
from .streams import is_versioned

__all__ = ["append"]

COLUMNS = ", ".join(Row._fields)
ROW = f"({', '.join(['%s'] * len(Row._fields))})"
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
# In binary form a uuid is its 16 bytes, which is what a row holds.
COPY_TYPES = (
    *("bytea", "varchar", "int4", "varchar", "text", "varchar", "int8", "text", "timestamptz"),
    *("varchar", "varchar", "varchar"),
)
COPY_FROM = 50  # rows; below it the extra round trips cost more than the statement saves
# Bounds of one multi-row INSERT, under every server's limits: rows because of the number of parameters, characters because
# MariaDB takes no statement above max_allowed_packet, 16 MB by default (a character may take 4 bytes, or be escaped).
CHUNK = 500
CHUNK_CHARACTERS = 1_000_000


def append(entries: NewEntries, *, using: str) -> None:
    """Insert new entries in their order and tell them their ids; the caller's transaction is open.

    Raises MixedStreamError when a plain event names a stream that holds versioned ones; the transaction can then only be
    rolled back.
    """
    connection, rows = connections[using], entries.rows
    if not rows:
        return
    if len(rows) == 1 and connection.vendor in INSERT_ONE:
        ids: Sequence[int] = [_insert_one(rows[0], connection)]
    elif connection.vendor == "postgresql" and len(rows) >= COPY_FROM and _has_copy(connection):
        _refuse_mixed(rows, using)
        ids = _copy(rows, connection)
    elif connection.vendor == "sqlite":
        _refuse_mixed(rows, using)
        ids = _execute_many(rows, connection)
    else:
        if connection.vendor != "postgresql":
            _refuse_mixed(rows, using)
        ids = [id_ for chunk in _chunks(rows) for id_ in _insert(chunk, connection)]
    entries.stored(ids=ids, using=using)


def _refuse_mixed(rows: Sequence[Row], using: str) -> None:
    plain = {row.stream for row in rows if row.stream and row.stream_version is None}
    mixed = is_versioned(plain, using) if plain else None
    if mixed is not None:
        raise MixedStreamError(stream=mixed, versioned=True)


def _adapted(rows: Sequence[Row], connection: BaseDatabaseWrapper) -> Iterable[Sequence[Any]]:
    """The rows as the driver wants them."""
    if connection.vendor == "postgresql":
        return ((UUID(bytes=row[0]), *row[1:]) for row in rows)
    native = connection.vendor == "mysql" and connection.features.has_native_uuid_field
    timestamp = lru_cache(maxsize=1)(connection.ops.adapt_datetimefield_value)  # one moment for all of a call
    return (
        (str(UUID(bytes=row[0])) if native else row[0].hex(), *row[1:8], timestamp(row.timestamp), *row[9:])
        for row in rows
    )


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start, size = 0, 0
    for end, row in enumerate(rows):
        size += len(row.payload) + len(row.metadata)
        if end > start and (end - start == CHUNK or size > CHUNK_CHARACTERS):
            yield rows[start:end]
            start, size = end, len(row.payload) + len(row.metadata)
    if start < len(rows):
        yield rows[start:]


def _insert_one(row: Row, connection: BaseDatabaseWrapper) -> int:
    (values,) = _adapted([row], connection)
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(INSERT_ONE["mysql"], [row.stream, *values])
            (versioned,) = cursor.fetchone()
            cursor.nextset()  # an error of the insert is raised here
            (id_,) = cursor.fetchone()
            while cursor.nextset():
                pass
        else:
            cursor.execute(INSERT_ONE["sqlite"], [*values, row.stream])
            versioned, id_ = cursor.fetchone()
    if versioned and row.stream_version is None and row.stream:
        _refuse(row.stream, connection)
    return int(id_)


def _refuse(stream: str, connection: BaseDatabaseWrapper) -> NoReturn:
    """The entry is in already: the transaction can only be rolled back."""
    transaction.set_rollback(True, using=connection.alias)
    raise MixedStreamError(stream=stream, versioned=True)


def _insert(rows: Sequence[Row], connection: BaseDatabaseWrapper) -> list[int]:
    parameters = [value for values in _adapted(rows, connection) for value in values]
    returning = RETURNING_MIXED if connection.vendor == "postgresql" else "RETURNING id, 0"
    with connection.cursor() as cursor:
        cursor.execute(INSERT + f"{', '.join([ROW] * len(rows))} {returning}", parameters)
        returned = cursor.fetchall()
    for row, (_, mixed) in zip(rows, returned, strict=True):
        if mixed:
            _refuse(row.stream, connection)
    return [id_ for id_, _ in returned]


def _has_copy(connection: BaseDatabaseWrapper) -> bool:
    connection.ensure_connection()
    return hasattr(connection.connection, "pgconn")  # psycopg 3


def _copy(rows: Sequence[Row], connection: BaseDatabaseWrapper) -> Sequence[int]:
    with connection.cursor() as cursor:
        with cursor.copy(COPY) as copy:
            copy.set_types(COPY_TYPES)
            for row in rows:
                copy.write_row(row)
        return _new_ids(len(rows), cursor, "SELECT id FROM eventstore_entry WHERE xid = pg_current_xact_id()")


def _execute_many(rows: Sequence[Row], connection: BaseDatabaseWrapper) -> Sequence[int]:
    with connection.cursor() as cursor:
        cursor.executemany(INSERT + ROW, _adapted(rows, connection))
        return _new_ids(len(rows), cursor, "SELECT id FROM eventstore_entry")


def _new_ids(count: int, cursor: CursorWrapper, own: str) -> Sequence[int]:
    """The ids of the rows just written: the newest of this transaction, which nothing else of it can come between."""
    newest = f"{own} ORDER BY id DESC LIMIT {count}"
    cursor.execute(f"SELECT min(id), max(id), count(*) FROM ({newest}) q")
    first, last, found = cursor.fetchone()
    if found != count:
        raise EventStoreError(f"{count} entries were written and {found} found: is a trigger removing them?")
    if last - first + 1 == count:
        return range(first, last + 1)
    cursor.execute(newest)  # other writers drew ids in between
    return [id_ for (id_,) in reversed(cursor.fetchall())]
