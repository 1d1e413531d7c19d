"""When a waiter looks, when it is told, and that it wakes for nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import pytest
from django.db import transaction

from django_eventstore.store import Listener, Waiter, waiter
from django_eventstore.store.sequencing import sequence
from tests.delivery import Clock, Elsewhere, elsewhere
from tests.store.log import save

__all__ = ["elsewhere"]

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class World:
    """Time passes in pauses; at given times something is told, or the log grows."""

    def __init__(self, *, told: Sequence[float] = (), grows: Sequence[float] = (), stops: float = 1e9) -> None:
        self.clock = Clock()
        self.began = self.clock.now
        self.told = [self.began + seconds for seconds in told]
        self.grows = [self.began + seconds for seconds in grows]
        self.stops = self.began + stops
        self.is_listening = True
        self.connected = False
        self.looks: list[float] = []
        self.files = (7,)

    @property
    def passed(self) -> float:
        return round(self.clock.now - self.began, 6)

    def end(self) -> int:
        self.looks.append(self.passed)
        return sum(moment <= self.clock.now for moment in self.grows)

    def pause(self, seconds: float, files: Sequence[int] = ()) -> bool:
        until = self.clock.now + seconds
        if files and self.is_listening:
            until = min([until, *(moment for moment in self.told if moment > self.clock.now)])
        self.clock.now = min(until, self.stops)
        return self.clock.now >= self.stops

    # --- the listener's port ---

    def connect(self) -> bool:
        fresh, self.connected = not self.connected and self.is_listening, True
        return fresh

    def hears(self) -> bool:
        heard = [moment for moment in self.told if moment <= self.clock.now]
        self.told = [moment for moment in self.told if moment > self.clock.now]
        return bool(heard) and self.is_listening

    def close(self) -> None:
        self.connected = False


def looking(world: World) -> Waiter:
    return Waiter(end=world.end, pause=world.pause, clock=world.clock)


def listening(world: World) -> Waiter:
    """One that has listened for so long that it trusts what it hears."""
    made = Waiter(end=world.end, pause=world.pause, clock=world.clock, listener=cast(Listener, world))
    assert made.wait(SECOND, seen=0)
    assert not made.wait(timedelta(seconds=100), seen=0)
    world.began = world.clock.now
    world.looks.clear()
    return made


def test_without_a_listener_it_looks_more_rarely_the_longer_nothing_happens() -> None:
    world = World()
    assert not looking(world).wait(10 * SECOND, seen=0)

    gaps = [round(after - before, 6) for before, after in zip(world.looks, world.looks[1:], strict=False)]
    assert gaps == sorted(gaps)
    assert 0.005 == gaps[0]
    assert 0.1 == gaps[-1]
    assert 90 < len(world.looks) < 150


def test_it_wakes_when_the_log_has_more_than_was_seen_and_then_looks_often_again() -> None:
    world = World(grows=[5.0])
    made = looking(world)
    assert made.wait(HOUR, seen=0)
    assert 5 <= world.passed <= 5.1
    world.looks.clear()
    assert not made.wait(timedelta(milliseconds=20), seen=1)
    assert len(world.looks) >= 4


def test_what_the_reader_has_seen_wakes_nobody() -> None:
    world = World(grows=[0.0])
    assert not looking(world).wait(SECOND, seen=1)


def test_what_the_reader_cannot_get_wakes_it_once_and_not_again_and_again() -> None:
    world = World(grows=[0.0, 5.0])
    made = looking(world)
    assert made.wait(HOUR, seen=0)
    assert not made.wait(SECOND, seen=0)
    assert made.wait(HOUR, seen=0)
    assert 5 <= world.passed <= 5.1


def test_a_look_that_takes_long_is_followed_by_a_longer_pause() -> None:
    world = World()

    def slow() -> int:
        world.clock.now += 1
        return world.end()

    Waiter(end=slow, pause=world.pause, clock=world.clock).wait(timedelta(seconds=60), seen=0)
    assert len(world.looks) <= 11


def test_it_ends_when_the_pause_says_so() -> None:
    world = World(stops=3.0)
    assert not looking(world).wait(HOUR, seen=0)
    assert 3 == world.passed


def test_with_a_listener_it_does_not_look_while_nothing_is_told() -> None:
    world = World(told=[150.0])
    made = listening(world)
    assert made.wait(HOUR, seen=0)
    assert 50 == pytest.approx(world.passed, abs=1)
    assert [] == world.looks


def test_after_it_was_told_it_looks_once_more_when_others_may_have_kept_silent() -> None:
    world = World(told=[150.0])
    made = listening(world)
    assert made.wait(HOUR, seen=0)
    told_at = world.passed

    assert not made.wait(SECOND, seen=0)
    assert [told_at + 0.002, told_at + 1] == pytest.approx(world.looks)


def test_what_commits_within_the_silence_is_found_by_that_look() -> None:
    world = World(told=[150.0], grows=[150.0015])
    made = listening(world)
    assert made.wait(HOUR, seen=0)
    told_at = world.passed
    assert made.wait(HOUR, seen=0)
    assert told_at + 0.002 == pytest.approx(world.passed)


def test_a_new_listener_makes_the_reader_look_and_looks_itself_until_others_know_of_it() -> None:
    world = World(grows=[30.0])
    made = Waiter(end=world.end, pause=world.pause, clock=world.clock, listener=cast(Listener, world))
    assert made.wait(HOUR, seen=0)
    assert 0 == world.passed
    assert made.wait(HOUR, seen=0)
    assert 30 <= world.passed <= 30.2


def test_while_the_listening_connection_is_lost_it_looks() -> None:
    world = World(told=[150.0], grows=[130.0])
    made = listening(world)
    world.is_listening = False
    assert made.wait(HOUR, seen=0)
    assert 29.9 <= world.passed <= 30.1


def test_what_nobody_told_of_is_found_at_the_end_of_the_wait_and_the_next_at_once() -> None:
    world = World(grows=[120.0, 150.0])
    made = listening(world)
    assert made.wait(timedelta(seconds=25), seen=0)
    assert 25 == pytest.approx(world.passed)
    assert made.wait(HOUR, seen=1)
    assert 49 <= world.passed <= 50.5


def test_its_end_closes_the_listening_connection() -> None:
    world = World()
    with listening(world):
        assert world.connected
    assert not world.connected


# --- on the databases ---


class Brief:
    """A pause that ends the wait when it has been asked for 30 times since the last renew()."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.left = 30

    def __call__(self, seconds: float, files: Sequence[int] = ()) -> bool:
        time.sleep(min(seconds, 0.02))
        self.left -= 1
        return self.left <= 0


@pytest.mark.mariadb
@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_a_commit_of_another_connection_is_noticed_and_nothing_else(elsewhere: Elsewhere) -> None:
    pause = Brief()
    made = waiter("default", pause=pause)
    assert not made.wait(HOUR, seen=0)
    elsewhere(save, 1).result(30)
    pause.renew()
    assert made.wait(HOUR, seen=0)
    assert not waiter("default", pause=Brief()).wait(HOUR, seen=1)


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_what_another_reader_has_given_its_position_counts_as_well(elsewhere: Elsewhere) -> None:
    made = waiter("default", pause=Brief())
    save(1)
    assert made.wait(HOUR, seen=0)
    elsewhere(sequence, "default").result(30)
    assert not waiter("default", pause=Brief()).wait(HOUR, seen=1)
    assert waiter("default", pause=Brief()).wait(HOUR, seen=0)


@pytest.mark.mariadb
@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_what_is_not_committed_wakes_nobody(elsewhere: Elsewhere) -> None:
    saved, may_commit = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            save(1)
            saved.set()
            may_commit.wait(30)

    written = elsewhere(write)
    assert saved.wait(30)
    try:
        assert not waiter("default", pause=Brief()).wait(HOUR, seen=0)
    finally:
        may_commit.set()
    written.result(30)
    assert waiter("default", pause=Brief()).wait(HOUR, seen=0)
