"""The one door in the append-only triggers, for retention, erasure and the flush of a test database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

__all__ = ["open_door"]

OPEN = {
    "postgresql": "SELECT set_config('eventstore.door', 'open', true)",
    "mysql": "INSERT INTO eventstore_door (session) VALUES (CONNECTION_ID())",
    "sqlite": "INSERT INTO eventstore_door (session) VALUES (1)",
}
CLOSE = {
    "postgresql": "SELECT set_config('eventstore.door', '', true)",
    "mysql": "DELETE FROM eventstore_door WHERE session = CONNECTION_ID()",
    "sqlite": "DELETE FROM eventstore_door",
}


@contextmanager
def open_door(using: str) -> Iterator[None]:
    """Let the statements inside change the log; begins a transaction, and the door closes with it however it ends."""
    connection = connections[using]
    vendor = connection.vendor
    if vendor == "mysql" and not connection.in_atomic_block:
        # At REPEATABLE READ the trigger's delete of a pending row that is not there would lock a gap, and writers wait.
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute(OPEN[vendor])
        yield
        cursor.execute(CLOSE[vendor])
