"""Of each stream one at a time: what may leave when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_eventstore.senders.lanes import AHEAD, Lanes
from django_eventstore.testing.contracts import ContractEntry

pytestmark = pytest.mark.no_database


def entries_of(streams: str) -> list[ContractEntry]:
    """One entry per letter, of the stream by that name; a dot has none."""
    return [
        ContractEntry(position=number + 1, payload="{}", stream="" if name == "." else name)
        for number, name in enumerate(streams)
    ]


def taken(lanes: Lanes) -> list[int]:
    found = []
    while (number := lanes.take()) is not None:
        found.append(number)
    return found


def test_those_of_other_streams_do_not_wait():
    lanes = Lanes(entries_of("aabac"))
    assert [0, 2, 4] == taken(lanes)
    lanes.settle(2)
    assert [] == taken(lanes)
    lanes.settle(0)
    assert [1] == taken(lanes)
    lanes.settle(1)
    assert [3] == taken(lanes)


def test_those_without_a_stream_wait_for_nobody():
    assert [0, 1, 2] == taken(Lanes(entries_of("...")))


def test_behind_one_that_is_refused_nothing_of_its_stream_leaves():
    lanes = Lanes(entries_of("abab"))
    assert [0, 1] == taken(lanes)
    lanes.close(0)
    lanes.settle(0)  # a message that is returned is confirmed as well
    lanes.settle(1)
    assert [3] == taken(lanes)


def test_one_that_is_refused_before_it_has_left_keeps_the_rest_as_well():
    lanes = Lanes(entries_of("aab"))
    assert 0 == lanes.take()
    lanes.close(0)
    assert [2] == taken(lanes)


def test_others_leave_only_so_far_ahead():
    lanes = Lanes(entries_of("aa" + "." * 2 * AHEAD))
    ahead = taken(lanes)
    assert [0, *range(2, AHEAD + 1)] == ahead
    lanes.settle(0)
    assert [1, *range(AHEAD + 1, 2 * AHEAD + 2)] == taken(lanes)


def test_a_wider_lane_has_several_on_their_way():
    lanes = Lanes(entries_of("aaaab"), width=2)
    assert [0, 1, 4] == taken(lanes)
    lanes.settle(1)
    assert [2] == taken(lanes)
    lanes.close(0)
    lanes.settle(2)
    assert [] == taken(lanes)


@given(st.text("ab.", max_size=60), st.integers(1, 3), st.randoms(use_true_random=False))
def test_each_is_given_once_and_never_too_many_of_a_stream(streams, width, random):
    entries = entries_of(streams)
    lanes, on_their_way, given_out = Lanes(entries, width=width), [], []
    while True:
        fresh = taken(lanes)
        on_their_way += fresh
        given_out += fresh
        for name in "ab":
            assert width >= sum(streams[number] == name for number in on_their_way)
        if not on_their_way:
            break
        lanes.settle(on_their_way.pop(random.randrange(len(on_their_way))))
    assert sorted(given_out) == list(range(len(entries)))
    for name in "ab":
        of_stream = [number for number in given_out if streams[number] == name]
        assert of_stream == sorted(of_stream)
