"""Faults: each thing that may happen to a delivery happens, and nothing that may not."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import transaction
from django.test import override_settings

from django_eventstore import Outcome, handles, record
from django_eventstore.testing import DeliveryFailed, EndlessDelivery, Faults, RecordingSender, drain
from tests.delivery import COUNTED, numbers_of, record_numbers, refunds
from tests.delivery import failures as failures_of
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db

SEEDS = range(8)
EVERY = [
    Faults(duplicate=True),
    Faults(delay=True),
    Faults(reorder=True),
    Faults(crash=True),
    *(Faults.all(seed=seed) for seed in SEEDS),
]
SCOPES = ["event", "batch"]


class Refused(Exception):
    pass


each_kind = pytest.mark.usefixtures("each_kind_of_test")


@pytest.fixture(autouse=True)
def _no_wake_up():
    with override_settings(EVENTSTORE={"WAKE_UP": False}):
        yield


def following(**options):
    """A handler that has an effect inside the database and one outside; the latter is returned."""
    calls = []

    @handles(COUNTED, name="follow", **options)
    def follow(event):
        calls.append(event["n"])
        Refund.objects.create(order_id=event["n"])

    return calls


def record_in_streams(*streams):
    """Numbers from 0 on, each in its stream."""
    with transaction.atomic():
        for number, stream in enumerate(streams):
            record(COUNTED, {"n": number}, stream=stream)


def test_some_fault_must_be_chosen():
    with pytest.raises(ValueError, match="Choose a fault"):
        Faults()


def test_a_drain_without_faults_delivers_once_and_in_order():
    calls = following()
    record_in_streams("a", "b", "a")
    drain()
    assert [0, 1, 2] == calls


@each_kind
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("faults", EVERY, ids=str)
def test_whatever_happens_everything_is_delivered_and_the_offset_is_at_the_end(faults, scope):
    calls = following(transaction=scope)
    record_in_streams(*"abacbc")
    drained = drain(faults=faults)
    assert set(range(6)) == set(calls)
    assert {"follow": 6} == drained.delivered
    assert {} == drain().delivered
    assert Counter(refunds()) == Counter(dict.fromkeys(range(6), 2 if faults.duplicate else 1))


@each_kind
@pytest.mark.parametrize("scope", SCOPES)
def test_duplicate_delivers_the_batch_twice_and_keeps_both_effects(scope):
    calls = following(transaction=scope)
    record_numbers(1, 2)
    drain(faults=Faults(duplicate=True))
    assert [1, 2, 1, 2] == calls
    assert [1, 1, 2, 2] == refunds()


@each_kind
def test_crash_delivers_each_event_again_and_keeps_one_effect_in_the_database():
    calls = following()
    record_numbers(1, 2)
    drain(faults=Faults(crash=True))
    assert [1, 1, 2, 2] == calls
    assert [1, 2] == refunds()


@each_kind
def test_crash_takes_back_a_batch_that_commits_together():
    calls = following(transaction="batch")
    record_numbers(1, 2)
    drain(faults=Faults(crash=True))
    assert [1, 2, 1, 2] == calls
    assert [1, 2] == refunds()


def test_delay_lets_one_consumer_handle_what_another_has_not_seen():
    order = []

    @handles(COUNTED, name="a")
    def first(event):
        order.append(("a", event["n"]))

    @handles(COUNTED, name="b")
    def second(event):
        order.append(("b", event["n"]))

    seen = set()
    for seed in range(20):
        record_numbers(1, 2)
        order.clear()
        drain(faults=Faults(delay=True, seed=seed))
        assert Counter({("a", 1): 1, ("a", 2): 1, ("b", 1): 1, ("b", 2): 1}) == Counter(order)
        assert [1, 2] == [number for consumer, number in order if consumer == "a"]
        seen.add(tuple(order))
    assert any(order.index(("b", 1)) < order.index(("a", 1)) for order in seen)
    assert any(order.index(("b", 1)) < order.index(("a", 2)) for order in seen)
    assert any(order.index(("b", 2)) < order.index(("a", 2)) for order in seen)


def test_reorder_changes_the_order_across_streams_and_never_within_one():
    calls = following()
    streams = "abcabcaab"
    for seed in SEEDS:
        calls.clear()
        record_in_streams(*streams)
        drain(faults=Faults(reorder=True, seed=seed))
        assert sorted(calls) == list(range(9))
        assert calls != sorted(calls)
        for stream in "abc":
            of_stream = [number for number in calls if streams[number] == stream]
            assert sorted(of_stream) == of_stream


def test_reorder_leaves_a_single_stream_alone():
    calls = following()
    record_in_streams(*"aaaa")
    drain(faults=Faults(reorder=True))
    assert [0, 1, 2, 3] == calls


def test_events_about_nothing_have_no_order():
    calls = following()
    record_in_streams("", "", "")
    drain(faults=Faults(reorder=True))
    assert [0, 1, 2] == sorted(calls)
    assert [0, 1, 2] != calls


def test_a_seed_does_the_same_again_and_another_does_not():
    calls = following()
    runs = []
    for seed in (1, 1, 2):
        calls.clear()
        record_in_streams(*"abcdefg")
        drain(faults=Faults(reorder=True, delay=True, seed=seed))
        runs.append(list(calls))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_what_handlers_record_meets_the_faults_too():
    numbers = []

    @handles("test.Second", name="second")
    def second(event):
        numbers.append(event["n"])

    @handles(COUNTED, name="first")
    def first(event):
        record("test.Second", event)

    record_numbers(1)
    drain(faults=Faults(crash=True))
    assert [1, 1] == numbers


# --- failures ---


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("faults", EVERY, ids=str)
def test_a_handler_that_fails_is_reported_with_the_faults_and_blocks_as_ever(faults, scope):
    @handles(COUNTED, name="follow", transaction=scope)
    def follow(event):
        if event["n"] == 3:
            raise Refused
        Refund.objects.create(order_id=event["n"])

    record_in_streams(*"abacbc")
    with pytest.raises(Refused) as raised:
        drain(faults=faults)
    failures = raised.value.__cause__
    assert isinstance(failures, DeliveryFailed)
    assert f"A delivery failed under {faults}: consumer follow" in str(failures)
    assert {"n": 3} == failures.failures[0].entry.data
    assert [(failures.failures[0].position, "blocked")] == [put_aside[:2] for put_aside in failures_of("follow")]
    assert {0, 1, 2} <= set(refunds())
    assert 3 not in refunds()
    assert 5 not in refunds()  # the next of its stream


def test_a_handler_that_fails_the_second_time_fails_the_test():
    seen = set()

    @handles(COUNTED, name="follow")
    def follow(event):
        if event["n"] in seen:
            raise Refused
        seen.add(event["n"])

    record_numbers(1, 2)
    for faults in (Faults(duplicate=True), Faults(crash=True)):
        seen.clear()
        with pytest.raises(Refused) as raised:
            drain(faults=faults)
        assert {"n": 1} == raised.value.__cause__.failures[0].entry.data


def test_of_two_that_fail_the_first_in_the_log_is_reported():
    @handles(COUNTED, name="follow")
    def follow(event):
        raise Refused(event["n"])

    for seed in SEEDS:
        record_in_streams("a", "b", "c")
        with pytest.raises(Refused) as raised:
            drain(faults=Faults(reorder=True, seed=seed))
        assert (0,) == raised.value.args


def test_handlers_that_feed_each_other_are_found_under_faults():
    @handles("test.Again", name="again")
    def again(event):
        record("test.Again", {})

    record("test.Again", {})
    with pytest.raises(EndlessDelivery):
        drain(faults=Faults(crash=True, delay=True))


# --- senders to the outside ---


@pytest.fixture
def warehouse():
    consumers = {"warehouse": {"SENDER": "nowhere.Sender", "EVENTS": [COUNTED], "START": "beginning"}}
    with override_settings(EVENTSTORE={"WAKE_UP": False, "CONSUMERS": consumers}):
        yield


@pytest.mark.parametrize("fault", ["duplicate", "crash"])
def test_a_sender_gets_the_batch_again(warehouse, fault):
    record_numbers(1, 2)
    sent = drain(faults=Faults(**{fault: True})).sent["warehouse"]
    assert [[1, 2], [1, 2]] == [numbers_of(batch.entries) for batch in sent.batches]


@pytest.mark.parametrize("faults", EVERY, ids=str)
def test_a_sender_is_sent_everything_in_the_order_of_streams(warehouse, faults):
    record_in_streams(*"abacbc")
    drained = drain(faults=faults)
    first_time = list(dict.fromkeys(numbers_of(drained.sent["warehouse"].entries)))
    assert list(range(6)) == sorted(first_time)
    for stream in ((0, 2), (1, 4), (3, 5)):
        assert stream == tuple(number for number in first_time if number in stream)
    assert {} == drain().delivered


@pytest.mark.parametrize("faults", EVERY, ids=str)
def test_a_sender_that_takes_a_part_gets_the_rest(warehouse, faults):
    sender = RecordingSender([1, 2, 1])
    record_in_streams(*"abacbc")
    drain(faults=faults, senders={"warehouse": sender})
    assert list(range(6)) == sorted(set(numbers_of(sender.entries)))
    assert {} == drain().delivered


@pytest.mark.parametrize("faults", EVERY, ids=str)
def test_a_sender_that_is_unavailable_gets_everything_later(warehouse, faults):
    sender = RecordingSender([None, Refused("down")])
    record_in_streams(*"abacbc")
    drain(faults=faults, senders={"warehouse": sender}, raise_errors=False)
    drain(faults=faults, senders={"warehouse": sender})
    assert list(range(6)) == sorted(set(numbers_of(sender.entries)))
    assert {} == drain().delivered


@pytest.mark.parametrize("faults", EVERY, ids=str)
def test_a_sender_that_refuses_an_event_stops_there(warehouse, faults):
    def refuse_2(batch):
        positions = {e.position: Refused("no") for e in batch.entries if e.data["n"] == 2}
        return Outcome(done=len(batch.entries), refused=positions)

    sender = RecordingSender([refuse_2] * 100)
    record_in_streams(*"abacbc")
    drained = drain(faults=faults, senders={"warehouse": sender}, raise_errors=False)
    assert {"n": 2} == drained.failures[0].entry.data
    assert [(drained.failures[0].position, "blocked")] == [put_aside[:2] for put_aside in failures_of("warehouse")]
