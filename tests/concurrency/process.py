"""How the processes of this suite begin, and what they take for the end of their server."""

from __future__ import annotations

import os
from datetime import timedelta

LEASE = timedelta(seconds=1)
"""Short, because forwarders are killed all the time."""

LOST_SERVER_ERRORS = {2002, 2006, 2013, 1053, 1180, 1927}
DEADLOCK_ERRORS = {1205, 1213, "40P01", "40001"}


def begin() -> None:
    """Set Django up on the test's database, with the fault that ``EVENTSTORE_TEST_FAULT`` names, if any."""
    import django
    from django.conf import settings

    # Nobody listens to wake-ups here, and a message broker in memory would only grow.
    settings.EVENTSTORE = {"LEASE": LEASE, "WAKE_UP": False}
    django.setup()

    from tests.concurrency import faults

    name = os.environ.get(faults.VARIABLE)
    if name:
        faults.plant(name)


def _code(error: Exception) -> object:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or (error.args[0] if error.args else None)


def is_deadlock(error: Exception) -> bool:
    """Whether the server rolled the transaction back because it and another one waited for each other."""
    return _code(error) in DEADLOCK_ERRORS


def is_lost_server(error: Exception) -> bool:
    """Whether the connection went away, whatever became of the statement."""
    from django.db import connection

    code = _code(error)
    if connection.vendor == "mysql":
        return code in LOST_SERVER_ERRORS
    return connection.connection is None or bool(getattr(connection.connection, "closed", False))
