"""What an inspection has to find, planted behind the package's back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import connection

from django_eventstore.store.door import open_door
from tests.store.log import execute

ENTRY = "INSERT INTO eventstore_entry (type, payload) VALUES ('test.Copied', '{\"n\": 0}')"


def remove_positions(low: int, high: int) -> None:
    """Positions and their entries, as retention does it."""
    with open_door("default"):
        ids = [
            row[0]
            for row in execute(f"SELECT entry_id FROM eventstore_position WHERE position BETWEEN {low} AND {high}")
        ]
        execute(f"DELETE FROM eventstore_position WHERE position BETWEEN {low} AND {high}")
        for id_ in ids:
            execute(f"DELETE FROM eventstore_entry WHERE id = {id_}")


def change(sql: str) -> None:
    """A statement that the append-only triggers would refuse."""
    with open_door("default"):
        execute(sql)


def insert_unseen(number: int = 1, *, ids: Sequence[int] = ()) -> None:
    """Committed entries that the sequencer does not find by itself: so many, and those with these ids."""
    with blinded():
        for _ in range(number - len(ids)):
            execute(ENTRY)
        for id_ in ids:
            execute(f"INSERT INTO eventstore_entry (id, type, payload) VALUES ({id_}, 'test.Copied', '{{\"n\": 0}}')")


@contextmanager
def blinded() -> Iterator[None]:
    """While it lasts, inserted entries do not come to the sequencer's notice."""
    if connection.vendor == "postgresql":
        # As a data-only restore into a table whose stamp trigger was disabled: transaction ids of another cluster.
        execute("ALTER TABLE eventstore_entry DISABLE TRIGGER eventstore_entry_stamp")
        execute("ALTER TABLE eventstore_entry ALTER COLUMN xid SET DEFAULT '3'")
        try:
            yield
        finally:
            execute("ALTER TABLE eventstore_entry ALTER COLUMN xid DROP DEFAULT")
            execute("ALTER TABLE eventstore_entry ENABLE ALWAYS TRIGGER eventstore_entry_stamp")
    elif connection.vendor == "mysql":
        yield
        execute("DELETE FROM eventstore_pending")
    else:
        ((create,),) = execute("SELECT sql FROM sqlite_master WHERE name = 'eventstore_entry_sequence'")
        execute("DROP TRIGGER eventstore_entry_sequence")
        try:
            yield
        finally:
            execute(create)
