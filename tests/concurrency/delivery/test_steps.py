"""A worker dies, or is frozen past its lease, at a step of a delivery: nothing is lost, and effects happen once.

This is also the race of freeing a stream: between delivering the last event of its queue and letting it go, and between
passing by an event and saving that, another worker is as far as it can be.
"""

from __future__ import annotations

import itertools
import os
import random

import pytest

from tests.concurrency.delivery import plays
from tests.concurrency.delivery.play import Play
from tests.concurrency.delivery.steps import STEPS
from tests.concurrency.marks import on_shared_log

pytestmark = on_shared_log

CASES = [("effects", "event"), ("effects", "batch"), ("outside", "event")]
OWN = {"effects": "in handler", "outside": "after write"}
ALL = [(*case, step) for case in CASES for step in (*STEPS, OWN[case[0]])]
LONG = "EVENTSTORE_TEST_LONG"
"""Set: every step with every consumer, which takes minutes; else some of them, others in each run."""


def chosen(seed: str, most: int, *always: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    if os.environ.get(LONG):
        return ALL
    return list(dict.fromkeys(itertools.chain(always, random.Random(seed).sample(ALL, most))))


def test_a_worker_may_be_killed_at_any_step(play: Play, seed: str) -> None:
    always = ("outside", "event", "before save"), ("effects", "event", "before move on")
    for consumer, scope, step in chosen(seed, 5, *always):
        print(consumer, scope, step)
        done = plays.die_at(play, step, consumers=("effects", "outside"), at=consumer, scope=scope)
        assert done, "no worker came to the step"
        assert [] == play.violations()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_a_worker_may_be_frozen_past_its_lease_at_any_step(play: Play, seed: str) -> None:
    always = ("effects", "event", "before put aside"), ("outside", "event", "before save")
    for consumer, scope, step in chosen(seed, 3, *always):
        print(consumer, scope, step)
        done = plays.freeze_at(play, step, consumers=("effects", "outside"), at=consumer, scope=scope, lease=0.5)
        assert done, "no worker came to the step"
        assert [] == play.violations()
