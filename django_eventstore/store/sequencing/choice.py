"""Which sequencer a connection has, and whether it may run now."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .base import Pass, Sequencer
from .mysql import MariaDBSequencer
from .postgresql import PostgreSQLSequencer
from .sqlite import SQLiteSequencer

__all__ = ["in_test_case", "sequence", "sequencer"]

SEQUENCERS: dict[str, type[Sequencer]] = {
    "postgresql": PostgreSQLSequencer,
    "mysql": MariaDBSequencer,
    "sqlite": SQLiteSequencer,
}


def sequencer(using: str) -> Sequencer:
    """The sequencer of a database alias. Raises ImproperlyConfigured for a database that has none."""
    connection = connections[using]
    try:
        return SEQUENCERS[connection.vendor](connection)
    except KeyError:
        raise ImproperlyConfigured(
            f"The event log runs on PostgreSQL, MariaDB and SQLite; alias {using!r} is {connection.vendor}."
        ) from None


def in_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Whether the only open transactions are those a ``TestCase`` wraps around a test, which nobody ever commits."""
    blocks = connection.atomic_blocks
    return bool(blocks) and all(getattr(block, "_from_testcase", False) for block in blocks)


def sequence(using: str) -> Pass:
    """Bring the log up to date, if this connection may.

    Inside an open transaction the pass is refused: a snapshot never lists its own transaction as running, and what that
    transaction records afterwards would never be found. Without autocommit every statement is in such a transaction.
    """
    connection = connections[using]
    if in_test_case(connection):
        return sequencer(using).place_in_test()
    if connection.in_atomic_block or not connection.get_autocommit():
        return Pass(reached=False, refused=True)
    return sequencer(using).run()
