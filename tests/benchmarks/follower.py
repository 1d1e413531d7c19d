"""Who waits for the events of the latency figure, as a process: ``python -m tests.benchmarks.follower KIND FILE``.

KIND ``follow``: ``eventstore_forward --follow`` with one typed handler; ``listen``: a psycopg connection that listens. Each
appends a line to FILE for everything that arrives: its number, and when, by the clock that all processes of a machine share.
"""

from __future__ import annotations

import os
import sys
import time

import django

CHANNEL = "benchmarks_bare"


def main() -> None:
    kind, path = sys.argv[1:]
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(number: int) -> None:
        os.write(file, f"{number} {time.monotonic()}\n".encode())

    django.setup()
    if kind == "listen":
        _listen(note)
        return
    from django.core.management import call_command

    from django_eventstore import handles
    from tests.benchmarks.entries import FIRST_ORDER, OrderShipped

    @handles(OrderShipped, name="benchmarks.latency", start="beginning", transaction="batch")
    def arrived(event: OrderShipped) -> None:
        note(event.order_id - FIRST_ORDER)

    call_command("eventstore_forward", "--follow")


def _listen(note: object) -> None:
    from django.db import connection

    connection.ensure_connection()
    driver = connection.connection
    driver.execute(f"LISTEN {CHANNEL}")
    for told in driver.notifies():
        note(int(told.payload))


if __name__ == "__main__":
    main()
