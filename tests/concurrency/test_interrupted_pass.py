"""The client of a pass is frozen or killed while the server works on it: the log goes on, and nothing is lost."""

from __future__ import annotations

import json
import time

import pytest
from django.db import connection

from django_eventstore import EventStore
from django_eventstore.store import log_state
from tests.concurrency.marks import on_shared_log
from tests.concurrency.observation import stored_rows
from tests.conftest import Spawn
from tests.processes import Process

pytestmark = [on_shared_log, pytest.mark.postgresql, pytest.mark.mariadb]

BACKLOG = 40_000
LONGEST_INTERRUPTION = 15.0
"""Seconds until complete pages come again; a pass over the backlog itself takes one or two."""

SEQUENCE = (
    "import sys; from tests.concurrency import process; process.begin(); "
    "from django.db import connection; connection.ensure_connection(); "
    "from django_eventstore import EventStore; print('ready', flush=True); EventStore().get(limit=1)"
)

NUMBERS = {
    "postgresql": "SELECT generate_series(1, %s) AS n",
    "mysql": "SELECT seq AS n FROM seq_1_to_1000000 WHERE seq <= %s",
}

RUNNING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CALL eventstore_seq%'",
    "mysql": (
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND command <> 'Sleep' "
        "AND info IS NOT NULL AND id <> CONNECTION_ID()"
    ),
}


def _commit_backlog() -> None:
    payload = json.dumps({"key": "bulk", "count": None, "at": 0.0})
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventstore_entry (type, payload, stream) "
            f"SELECT 'load.Alpha', %s, 'bulk' FROM ({NUMBERS[connection.vendor]}) numbers",
            [payload, BACKLOG],
        )


def _caught_in_a_pass(spawn: Spawn) -> Process:
    """A process whose pass the server is working on."""
    process = spawn("-c", SEQUENCE)
    process.wait_for("ready")
    end = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute(RUNNING[connection.vendor])
            if cursor.fetchone()[0]:
                return process
    raise AssertionError("no pass was seen")


@pytest.mark.parametrize("kind", ["frozen", "killed"])
def test_other_readers_go_on_when_the_client_of_a_pass_is(log: str, spawn: Spawn, kind: str) -> None:
    _commit_backlog()
    process = _caught_in_a_pass(spawn)
    if kind == "frozen":
        process.stop()
    else:
        process.kill9()
    interrupted = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM eventstore_position")
        assert cursor.fetchone()[0] < BACKLOG, "the pass was over before it could be interrupted"

    # Each of these brings the log up to date first; the limit keeps what is read out of the measurement.
    EventStore().get(limit=1)
    while EventStore().get(log_state("default").head).head != BACKLOG:
        assert time.monotonic() - interrupted < LONGEST_INTERRUPTION
    print(f"complete again after {time.monotonic() - interrupted:.2f} s")

    rows = list(stored_rows("default"))
    assert list(range(1, BACKLOG + 1)) == [row.position for row in rows]
    if kind == "frozen":
        process.cont()
        process.wait()
        assert BACKLOG == EventStore().get(BACKLOG).head
