"""Workers are killed at any moment: each endpoint has each event, in order of its first arrival."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.delivery import record_numbers
from tests.webhooks.conftest import Hooks, until
from tests.webhooks.receiver import Handler, Request, accept, refusing, slowly

LONG = bool(os.environ.get("EVENTSTORE_TEST_LONG"))
KILLS = 10 if LONG else 1
EVENTS = 40 * (KILLS + 1)
"""The long form kills more often, and on every database."""
PATHS = ("/well", "/slow", "/moody")

if not LONG:
    pytestmark = pytest.mark.postgresql


def moody(handler: Handler, request: Request) -> None:
    """Now and then it does not feel like it."""
    chosen = refusing(503) if random.random() < 1 / 6 else accept
    chosen(handler, request)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_and_the_order_stays_when_workers_are_killed(hooks: Hooks, spawn) -> None:
    for path in PATHS:
        hooks.endpoint(path)
    hooks.receiver.answers |= {"/slow": slowly(0.005), "/moody": moody}
    workers = [spawn("-m", "tests.webhooks.worker") for _ in range(2)]
    recorded = 0
    for _ in range(KILLS):
        before = len(hooks.receiver.seen)
        record_numbers(*range(recorded + 1, recorded + 41))
        recorded += 40
        until(lambda before=before: len(hooks.receiver.seen) > before + 10)
        time.sleep(random.uniform(0, 0.1))  # so that it is in the middle of anything
        random.choice(workers).kill9()
        workers = [worker for worker in workers if worker.running]
        if recorded + 40 < EVENTS:
            workers.append(spawn("-m", "tests.webhooks.worker"))
    record_numbers(*range(recorded + 1, EVENTS + 1))
    wanted = list(range(1, EVENTS + 1))
    until(lambda: all(set(hooks.receiver.numbers(path)) == set(wanted) for path in PATHS) and hooks.offset() >= EVENTS)
    for path in PATHS:
        assert wanted == list(dict.fromkeys(hooks.receiver.numbers(path)))
