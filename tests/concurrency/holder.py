"""A process that keeps transactions open for the whole run: unrelated ones, or one that has recorded an event.

``python -m tests.concurrency.holder own|unrelated --journal FILE --stop FILE``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.concurrency import process
from tests.concurrency.journal import Journal

LOGIN = {"dbname", "user", "password", "host", "port"}
KEYS = ("held/1/1", "held/1/2")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("own", "unrelated"))
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    arguments = parser.parse_args()
    process.begin()
    if arguments.kind == "own":
        _hold_own(Journal(arguments.journal), arguments.stop)
    else:
        with _unrelated():
            _wait(arguments.stop)


def _wait(stop: Path) -> None:
    print("ready", flush=True)
    while not stop.exists():
        time.sleep(0.02)


def _hold_own(journal: Journal, stop: Path) -> None:
    from django.db import transaction

    from django_eventstore import record
    from tests.concurrency.events import Beta

    line = {"writer": "held", "transaction": 1}
    with transaction.atomic():
        record(Beta(key=KEYS[0], count=None, at=time.monotonic()), stream="held")
        _wait(stop)
        record(Beta(key=KEYS[1], count=None, at=time.monotonic()), stream="held")
        journal.append({**line, "outcome": "committing", "keys": KEYS})
    journal.append({**line, "outcome": "committed", "at": time.monotonic()})


@contextmanager
def _unrelated() -> Iterator[None]:
    """PostgreSQL: an xid of another database of the server, and an old snapshot of this one; elsewhere an old snapshot."""
    from django.db import connection

    cursor = connection.cursor()
    if connection.vendor == "postgresql":
        import psycopg

        elsewhere = {**connection.get_connection_params(), "dbname": "postgres"}
        with psycopg.connect(**{name: elsewhere[name] for name in elsewhere.keys() & LOGIN}) as other:
            other.execute("SELECT pg_current_xact_id()")
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM eventstore_entry")
            yield
            cursor.execute("ROLLBACK")
        return
    cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT" if connection.vendor == "mysql" else "BEGIN DEFERRED")
    cursor.execute("SELECT count(*) FROM eventstore_entry")
    yield
    cursor.execute("ROLLBACK")


if __name__ == "__main__":
    main()
