"""Time-outs of the database for a worker that is stopped in the middle of a transaction.

A frozen process holds the row locks of its open transaction, and whoever takes over would wait for them. So its session ends
when its lease does. On PostgreSQL the time-outs are set in each transaction, since a session may be another one's behind
PgBouncer; MariaDB knows them for sessions only. SQLite has none: a frozen writer keeps every other one out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from django.db import connections

__all__ = ["limit_session", "limit_transaction"]

# Commands, which are not planned, and both in one round trip: this stands before each event of a handler.
LIMIT_IDLE = "SET LOCAL idle_in_transaction_session_timeout = {}"
LIMIT_LOCKS = "; SET LOCAL lock_timeout = {}"
SESSION = "SELECT @@SESSION.idle_transaction_timeout, @@SESSION.innodb_lock_wait_timeout"
SET_SESSION = "SET SESSION idle_transaction_timeout = %s, SESSION innodb_lock_wait_timeout = %s"
# Sessions that have them: the one that follows on a lost one has not.
_limited: WeakSet[Any] = WeakSet()
# Whether a connection came with a lock time-out of the project's own, which stays; asked once.
_has_own: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def limit_transaction(*, using: str, seconds: float) -> None:
    """In a transaction that has just begun: when it stands idle for this long the server ends it; locks take half of it."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        milliseconds = max(1, int(seconds * 1_000))
        connection.ensure_connection()
        has_own = _has_own.get(connection.connection)
        if has_own is None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('lock_timeout') <> '0'")
                has_own = _has_own[connection.connection] = cursor.fetchone()[0]
        statement = LIMIT_IDLE.format(milliseconds)
        if not has_own:
            statement += LIMIT_LOCKS.format(max(1, milliseconds // 2))
        # Not by a cursor of Django's: there is nothing to convert, to count or to show.
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(statement)
    elif connection.vendor == "mysql" and connection.connection not in _limited:
        _set_session(using, seconds)


@contextmanager
def limit_session(*, using: str, length: timedelta) -> Iterator[None]:
    """The same for every transaction within, on MariaDB."""
    connection = connections[using]
    if connection.vendor != "mysql":
        yield
        return
    idle, locks = _set_session(using, length.total_seconds())
    try:
        yield
    finally:
        if connection.connection is not None and connection.is_usable():
            _limited.discard(connection.connection)
            with connection.cursor() as cursor:
                cursor.execute(SET_SESSION, [idle, locks])


def _set_session(using: str, seconds: float) -> tuple[int, int]:
    """Returns what they were."""
    connection, whole = connections[using], max(1, math.ceil(seconds))
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        idle, locks = cursor.fetchone()
        cursor.execute(SET_SESSION, [whole, min(locks, max(1, whole // 2))])
    _limited.add(connection.connection)
    return idle, locks
