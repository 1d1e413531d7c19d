"""The loop that one would write by hand: read in batches with the driver alone, save an offset, commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connections

from django_eventstore.models import EventEntry

__all__ = ["COLUMNS", "read_by_hand"]

COLUMNS = tuple(field.column for field in EventEntry._meta.concrete_fields)
BATCH = 1_000


def read_by_hand(count: int, take: Callable[[Sequence[Any]], None]) -> int:
    """Give each of the first ``count`` entries of the log, as a row, to ``take``; returns how many there were.

    What it leaves out: leases, tokens, failures, epochs, and whatever else is looked at while a consumer runs.
    """
    driver, mark = _connect()
    cursor = driver.cursor()
    try:
        cursor.execute("CREATE TABLE IF NOT EXISTS bare_offset (id integer PRIMARY KEY, upto bigint NOT NULL)")
        cursor.execute("DELETE FROM bare_offset")
        cursor.execute("INSERT INTO bare_offset (id, upto) VALUES (1, 0)")
        return _read(cursor, mark, count, take)
    finally:
        cursor.close()
        if driver is not connections["default"].connection:
            driver.close()


def _read(cursor: Any, mark: str, count: int, take: Callable[[Sequence[Any]], None]) -> int:
    columns = ", ".join(f"e.{column}" for column in COLUMNS)
    taken = offset = 0
    while offset < count:
        cursor.execute("BEGIN")
        cursor.execute(
            f"SELECT {columns}, p.position FROM eventstore_position p JOIN eventstore_entry e ON e.id = p.entry_id "
            f"WHERE p.position > {mark} ORDER BY p.position LIMIT {BATCH}",
            (offset,),
        )
        rows = cursor.fetchall()
        if not rows:
            cursor.execute("COMMIT")
            break
        for row in rows:
            take(row)
        taken, offset = taken + len(rows), rows[-1][-1]
        cursor.execute(f"UPDATE bare_offset SET upto = {mark} WHERE id = 1", (offset,))
        cursor.execute("COMMIT")
    return taken


def _connect() -> tuple[Any, str]:
    """A connection that commits as it is told to, and the mark of a parameter."""
    connection = connections["default"]
    if connection.vendor != "postgresql":
        connection.ensure_connection()
        return connection.connection, "?" if connection.vendor == "sqlite" else "%s"
    import psycopg

    given = connection.get_connection_params()
    # Without what Django puts on its own: psycopg as it comes.
    names = ("dbname", "host", "port", "user", "password")
    return psycopg.connect(**{name: given[name] for name in names if name in given}, autocommit=True), "%s"
