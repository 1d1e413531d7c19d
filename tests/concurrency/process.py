"""How the processes of this suite begin, and which errors of a server are part of the play."""

from __future__ import annotations

import os
from datetime import timedelta

LEASE = timedelta(seconds=1)
"""Short, because forwarders are killed all the time."""

DEADLOCK_ERRORS = {1205, 1213, "40P01", "40001"}


def begin() -> None:
    """Set Django up on the test's database, with the fault that ``EVENTSTORE_TEST_FAULT`` names, if any."""
    import django
    from django.conf import settings

    # Nobody listens to wake-ups here, and a message broker in memory would only grow.
    settings.EVENTSTORE = {"LEASE": LEASE, "WAKE_UP": False, "TRACING": False}
    django.setup()

    from tests.concurrency import faults

    name = os.environ.get(faults.VARIABLE)
    if name:
        faults.plant(name)


def is_deadlock(error: Exception) -> bool:
    """Whether the server rolled the transaction back because it and another one waited for each other."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or (error.args[0] if error.args else None)
    return code in DEADLOCK_ERRORS
