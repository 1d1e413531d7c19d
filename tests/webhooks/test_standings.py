"""Where endpoints stand, when their consumer, its workers and its operators do something else just then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from django_eventstore import EventForwarder, record
from django_eventstore.consumers import OffsetStore, move
from django_eventstore.consumers.leases import Tenure
from django_eventstore.models import Endpoint
from django_eventstore.webhooks import create_endpoint, disable, enable, standings
from django_eventstore.webhooks.round import Round
from django_eventstore.webhooks.standings import Standings
from django_eventstore.webhooks.threads import Threads
from tests.delivery import COUNTED, record_numbers
from tests.webhooks.conftest import ANY_PORT, SENDER, Hooks, row, until
from tests.webhooks.receiver import refusing

LONG = timedelta(seconds=25)


def tend(hooks: Hooks) -> None:
    hooks.senders[-1].tend("webhooks", events=("test.*",), using="default")


def run(hooks: Hooks) -> None:
    """A run of the consumer without a tick: nothing is tended."""
    (loop,) = hooks.forwarder.loops(1)
    loop.run(most_events=1_000, longest=LONG)


def begun(hooks: Hooks) -> None:
    OffsetStore().register([hooks.forwarder.consumer])


def in_the_batch(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let this happen when the next batch has seen who goes along."""
    going_along, acts = Round.run, [act]

    def intercepted(self, jobs):
        while acts:
            acts.pop()()
        return going_along(self, jobs)

    monkeypatch.setattr(Round, "run", intercepted)


def test_one_that_catches_up_goes_no_further_than_its_consumer(hooks):
    """Or it would get with the consumer what it has had already."""
    hooks.forwarder = EventForwarder(replace(hooks.forwarder.consumer, limit=2), sender=hooks.senders[-1])
    record_numbers(1, 2, 3)
    hooks.forward()
    behind = hooks.endpoint("/behind", offset=0, epoch=1)
    record_numbers(*range(4, 10))
    tend(hooks)
    until(lambda: row(behind).offset == 3 and row(behind).claimed_until is None)
    run(hooks)
    hooks.forward_until(lambda: hooks.is_level(behind))
    assert list(range(1, 10)) == hooks.receiver.numbers("/behind")


@pytest.mark.sqlite
def test_one_whose_last_event_was_skipped_is_well_again(hooks):
    record_numbers(1)
    hooks.forward()
    ill = hooks.endpoint("/ill", offset=1, epoch=1, attempts=3, failing_since=timezone.now(), problem="It was ill.")
    hooks.forward_until(lambda: hooks.is_level(ill))
    assert (0, "", None) == (row(ill).attempts, row(ill).problem, row(ill).failing_since)


@pytest.mark.parametrize("standing", [{"attempts": 1, "retry": True}, {"milliseconds": 60_000}, {"active": False}])
def test_a_consumer_that_is_moved_back_takes_those_along_that_are_on_their_own(hooks, standing):
    retry_at = timezone.now() + timedelta(hours=1) if standing.pop("retry", False) else None
    hooks.endpoint("/along")
    record_numbers(1, 2, 3)
    hooks.forward()
    alone = hooks.endpoint("/alone", offset=2, epoch=1, retry_at=retry_at, **standing)
    move(hooks.forwarder.consumer, 0, using="default")
    run(hooks)
    assert [1, 2, 3, 1, 2, 3] == hooks.receiver.numbers("/along")
    assert 0 == row(alone).offset
    enable(alone)
    hooks.forward_until(lambda: hooks.is_level(alone))
    assert [1, 2, 3] == hooks.receiver.numbers("/alone")


@pytest.mark.sqlite
def test_a_replay_that_begins_with_what_had_failed_takes_those_along_as_well(hooks):
    """That one is no replay: the consumer had not delivered it."""
    hooks.endpoint("/along")
    with transaction.atomic():
        record(COUNTED, {"n": 1}, stream="a\x01b")
    record_numbers(2, 3)
    hooks.forward()
    alone = hooks.endpoint("/alone", offset=3, epoch=1, milliseconds=60_000)
    move(hooks.forwarder.consumer, 0, using="default")
    run(hooks)
    assert [2, 3, 2, 3] == hooks.receiver.numbers("/along")
    hooks.forward_until(lambda: hooks.is_level(alone))
    assert [2, 3] == hooks.receiver.numbers("/alone")


def test_one_that_is_registered_during_a_batch_gets_what_comes_after_the_saved_offset(hooks, monkeypatch, settings):
    options = {"allow_http": True, "allow_private": True, "ports": ANY_PORT}
    declared = {"SENDER": SENDER, "OPTIONS": options, "START": "beginning"}
    settings.EVENTSTORE = {"CREATE_BEAT_SCHEDULE": False, "CONSUMERS": {"webhooks": declared}}
    hooks.endpoint("/old")
    record_numbers(1, 2)
    in_the_batch(monkeypatch, lambda: create_endpoint(hooks.receiver.url("/new")))
    hooks.forward()
    (new,) = Endpoint.objects.filter(url=hooks.receiver.url("/new"))
    hooks.forward_until(lambda: hooks.is_level(new))
    record_numbers(3)
    hooks.forward_until(lambda: hooks.is_level(new) and 3 in hooks.receiver.numbers("/new"))
    assert [1, 2, 3] == hooks.receiver.numbers("/new") == hooks.receiver.numbers("/old")


def test_one_that_is_enabled_during_a_batch_gets_what_comes_after_the_saved_offset(hooks, monkeypatch):
    found = hooks.endpoint("/in")
    hooks.endpoint("/other")
    record_numbers(1)
    hooks.forward()
    disable(found)
    record_numbers(2)
    hooks.forward()
    record_numbers(3)
    in_the_batch(monkeypatch, lambda: enable(found, missed=False))
    hooks.forward()
    hooks.forward_until(lambda: hooks.is_level(found))
    assert [1, 3] == hooks.receiver.numbers("/in")


@pytest.mark.sqlite
def test_those_that_wait_for_the_next_batch_are_not_looked_at_in_place_of_others(hooks, monkeypatch):
    monkeypatch.setattr(standings, "MOST_LOOKED_AT", 1)
    record_numbers(1)
    hooks.forward()
    hooks.endpoint("/well", offset=1, epoch=1)
    ill = hooks.endpoint("/ill", offset=0, epoch=1, attempts=1, failing_since=timezone.now())
    tend(hooks)
    until(lambda: row(ill).offset == 1)
    assert [1] == hooks.receiver.numbers("/ill")


@pytest.mark.sqlite
def test_an_endpoint_cannot_ask_to_be_tried_again_at_once_for_ever(calm):
    calm.use(retry_base=timedelta(hours=1), retry_cap=timedelta(hours=1))
    busy = calm.endpoint("/busy")
    calm.receiver.answers["/busy"] = refusing(503, Retry_After="0")
    record_numbers(1)
    calm.forward()
    assert row(busy).retry_at - timezone.now() > timedelta(minutes=50)


@pytest.mark.sqlite
def test_one_whose_thread_did_not_begin_in_time_gives_its_claim_back(hooks, monkeypatch, settings, caplog):
    """The machine was busy: the batch is over before the first request."""
    settings.EVENTSTORE = {"LEASE": timedelta(seconds=1)}
    hooks.use(patience=timedelta(milliseconds=50))
    start, ready = Threads.start, threading.Event()

    def late(self, job):
        start(self, lambda: (ready.wait(60), job()))

    monkeypatch.setattr(Threads, "start", late)
    found = hooks.endpoint("/in")
    record_numbers(1)
    run(hooks)
    assert (0, []) == (row(found).offset, hooks.receiver.seen)
    assert row(found).claimed_until is not None
    ready.set()
    until(lambda: row(found).claimed_until is None)
    hooks.forward_until(lambda: hooks.is_level(found))
    assert [1] == hooks.receiver.numbers("/in")
    assert "ended in the middle" not in caplog.text


@pytest.mark.parametrize("stalled", ["before it looks at its lease", "behind that"])
def test_none_joins_the_batch_of_a_worker_that_has_lost_its_lease(hooks, monkeypatch, settings, stalled):
    """It is stalled and dies. Whoever took over has begun without the endpoint, and claims the batch."""
    settings.EVENTSTORE = {"LEASE": timedelta(seconds=1)}
    begun(hooks)
    record_numbers(1, 2)
    there = timezone.now() + timedelta(hours=1)
    found = hooks.endpoint("/in", offset=0, epoch=1)
    successor, saved, still_held, stalls = hooks.another(), Standings.saved, Tenure.still_held, [True]

    def stall() -> None:
        stalls.clear()
        Endpoint.objects.filter(pk=found.pk).update(claim=7, claimed_until=there)
        time.sleep(1.1)
        successor.get_and_send()
        assert 2 == hooks.offset()
        Endpoint.objects.filter(pk=found.pk).update(claim=0, claimed_until=None)
        monkeypatch.setattr(type(hooks.senders[0]), "_run", die)

    def seen(self):
        offset = saved(self)
        if stalls and stalled.startswith("before"):
            stall()
        elif stalls:
            monkeypatch.setattr(Tenure, "still_held", held)
        return offset

    def held(self):
        answer = still_held(self)
        monkeypatch.setattr(Tenure, "still_held", still_held)
        if stalls:
            stall()
        return answer

    def die(*arguments):
        raise RuntimeError("It dies.")

    runs = type(hooks.senders[0])._run
    monkeypatch.setattr(Standings, "saved", seen)
    run(hooks)
    monkeypatch.undo()
    assert type(hooks.senders[0])._run is runs
    settings.EVENTSTORE = {"LEASE": timedelta(seconds=60)}
    hooks.forward_until(lambda: hooks.is_level(found))
    assert {1, 2} == set(hooks.receiver.numbers("/in"))
