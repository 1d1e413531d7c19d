"""What the loop and the senders say to each other."""

import dataclasses
from datetime import timedelta

import pytest

from django_eventstore import Outcome
from django_eventstore.delivery import DeliveryPolicy

pytestmark = pytest.mark.no_database


def test_nothing_is_refused_unless_it_is_named():
    assert {} == Outcome(done=3).refused


def test_less_than_nothing_cannot_be_done():
    with pytest.raises(ValueError, match="-1"):
        Outcome(done=-1)


def test_an_outcome_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outcome(done=1).done = 2


def longest(low, high):
    return high


def policy(**given):
    return DeliveryPolicy(**{"base": timedelta(seconds=1), "cap": timedelta(minutes=5), "draw": longest, **given})


def test_the_longest_delay_doubles_with_each_attempt():
    assert [1, 2, 4, 8, 16] == [policy().delay(attempts).total_seconds() for attempts in range(1, 6)]


@pytest.mark.parametrize("attempts", [10, 62, 63, 64, 1_000, 10**9])
def test_the_delay_never_passes_the_cap(attempts):
    assert timedelta(minutes=5) == policy().delay(attempts)


def test_a_cap_below_the_base_counts():
    assert timedelta(seconds=1) == policy(base=timedelta(hours=1), cap=timedelta(seconds=1)).delay(1)


def test_the_delay_is_drawn_between_nothing_and_the_longest():
    asked = []
    policy(draw=lambda low, high: asked.append((low, high)) or 0.5).delay(3)
    assert [(0, 4.0)] == asked


def test_without_a_draw_given_delays_differ():
    jittered = DeliveryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=5))
    delays = {jittered.delay(5) for _ in range(50)}
    assert len(delays) > 40
    assert all(timedelta(0) <= delay <= timedelta(seconds=16) for delay in delays)
