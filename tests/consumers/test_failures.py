"""Blocked and parked streams: a bad event stops its own stream only, in order, and nothing is lost or done twice."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from django_eventstore import EventForwarder, EventStore, Outcome, handles, record
from django_eventstore.consumers import acquire, clear_wait, discard, retry, skip
from django_eventstore.delivery import DeliveryPolicy
from django_eventstore.exceptions import EventStoreError, PermanentError, RetryAfter, Unavailable
from django_eventstore.models import DeliveryDecision, FailedDelivery
from django_eventstore.signals import (
    consumer_paused,
    delivery_failed,
    stream_blocked,
    stream_parked,
    stream_unblocked,
)
from tests.consumers.test_leases import MINUTE
from tests.delivery import (
    COUNTED,
    ENOUGH,
    RecordingSender,
    failure_of,
    failures,
    forwarder_of,
    offset_of,
    refunds,
    retry_now,
    state_of,
)
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = pytest.mark.parametrize("scope", ["event", "batch"])


class Failed(Exception):
    pass


def record_in(stream, *numbers):
    """One event per number about one thing."""
    with transaction.atomic():
        for number in numbers:
            record(COUNTED, {"n": number}, stream=stream)


class Shop:
    """A handler that refunds, and fails for the numbers that are bad."""

    def __init__(self):
        self.bad = {}
        self.calls = []

    def declare(self, *, scope="event", **given):
        handles(COUNTED, **{"name": "numbers", "start": "beginning", "transaction": scope, **given})(self.handle)

    def handle(self, event):
        self.calls.append(event["n"])
        Refund.objects.create(order_id=event["n"])
        if error := self.bad.get(event["n"]):
            raise error


@pytest.fixture
def shop():
    return Shop()


def forward(**bounds):
    return EventForwarder("numbers").get_and_send(**bounds)


def open_failures():
    return FailedDelivery.objects.filter(consumer="numbers")


# --- a blocked stream ---


@BOTH
def test_a_failing_event_blocks_its_stream_and_the_others_flow(shop, scope):
    shop.declare(scope=scope)
    shop.bad = {2: Failed("two")}
    record_in("a", 1)
    record_in("b", 10)
    record_in("a", 2)
    record_in("b", 11)
    record_in("a", 3)
    record_in("", 20)
    assert 4 == forward().delivered
    assert [1, 10, 11, 20] == refunds()
    assert [(3, "blocked", 1)] == failures()
    assert 6 == offset_of()
    row = failure_of(3)
    assert ("a", COUNTED, True) == (row.stream, row.type, row.blocking)
    assert "Failed: two" in row.error


@BOTH
def test_when_it_succeeds_its_stream_catches_up_in_order_and_each_effect_happens_once(shop, scope):
    shop.declare(scope=scope)
    shop.bad = {1: Failed()}
    record_in("a", 1, 2, 3)
    record_in("b", 10)
    forward()
    record_in("a", 4, 5)
    record_in("b", 11)
    forward()
    assert [10, 11] == refunds()
    shop.bad, shop.calls = {}, []
    retry_now()
    assert 5 == forward().delivered
    assert [1, 2, 3, 4, 5] == shop.calls
    assert [1, 2, 3, 4, 5, 10, 11] == refunds()
    assert [] == failures()
    record_in("a", 6)
    forward()
    assert [1, 2, 3, 4, 5, 6] == shop.calls


def test_while_the_head_fails_nothing_behind_it_is_delivered(shop):
    shop.declare()
    shop.bad = {1: Failed()}
    record_in("a", 1, 2, 3)
    forward()
    for attempts in (2, 3):
        retry_now()
        forward()
        assert [(1, "blocked", attempts)] == failures()
    assert {1} == set(shop.calls)
    assert [] == refunds()


def test_another_event_of_the_queue_that_fails_is_the_new_head_with_attempts_of_its_own(shop):
    shop.declare()
    shop.bad = {1: Failed(), 3: Failed("three")}
    record_in("a", 1, 2, 3, 4)
    forward()
    retry_now()
    forward()
    assert [(1, "blocked", 2)] == failures()
    del shop.bad[1]
    retry_now()
    assert 2 == forward().delivered
    assert [1, 2] == refunds()
    assert [(3, "blocked", 1)] == failures()
    shop.bad.clear()
    retry_now()
    forward()
    assert [1, 2, 3, 4] == refunds()
    assert [] == failures()


def test_a_stream_stays_blocked_until_its_time_has_come(shop):
    shop.declare()
    shop.bad = {1: RetryAfter(timedelta(hours=1))}
    record_in("a", 1)
    forward()
    shop.bad = {}
    assert 0 == forward().delivered
    FailedDelivery.objects.update(retry_at="2000-01-01T00:00:00Z")
    assert 1 == forward().delivered


def test_an_event_without_a_stream_holds_up_nothing(shop):
    shop.declare()
    shop.bad = {1: Failed()}
    record_in("", 1, 2)
    forward()
    assert [2] == refunds()
    assert not failure_of(1).blocking
    shop.bad = {}
    retry_now()
    forward()
    assert [1, 2] == refunds()
    assert [] == failures()


@BOTH
def test_a_worker_that_is_stopped_while_a_stream_catches_up_leaves_effects_and_queue_together(shop, scope):
    shop.declare(scope=scope)
    shop.bad = {1: Failed()}
    record_in("a", 1, 2, 3, 4)
    forward()
    shop.bad = {3: KeyboardInterrupt()}
    retry_now()
    with pytest.raises(KeyboardInterrupt):
        forward()
    shop.bad = {}
    retry_now()
    forward()
    assert [1, 2, 3, 4] == refunds()
    assert [] == failures()


def test_what_is_recorded_while_a_stream_catches_up_comes_after_it(shop):
    """The stream is free with its last queued event; the one recorded meanwhile is delivered by the loop, once."""
    shop.declare()
    shop.bad = {1: Failed()}
    record_in("a", 1, 2)
    forward()
    shop.bad, shop.calls, handle = {}, [], shop.handle

    @handles(COUNTED, name="follow-up", consumer="numbers", start="beginning")
    def follow_up(event):
        if event["n"] < 5:
            record(COUNTED, {"n": event["n"] + 10}, stream="a")

    assert handle
    retry_now()
    forward()
    forward()
    assert [1, 2, 11, 12] == shop.calls
    assert [1, 2, 11, 12] == refunds()


def test_events_passed_by_for_a_blocked_stream_are_in_its_queue_though_nothing_else_was_delivered(shop):
    """Had the offset stayed behind them, another process would deliver them, and then the queue once more."""
    shop.declare()
    shop.bad = {1: Failed()}
    record_in("a", 1)
    forward()
    record_in("a", 2, 3)
    forward()
    assert 3 == offset_of()
    shop.bad = {}
    retry_now()
    EventForwarder("numbers").get_and_send(longest=timedelta(0))
    EventForwarder("numbers").get_and_send()
    assert [1, 2, 3] == refunds()


def test_whether_a_stream_is_blocked_costs_no_query_per_event(shop):
    shop.declare(scope="batch")
    shop.bad = {1: Failed()}
    record_in("a", 1)
    forward()
    FailedDelivery.objects.update(retry_at="2999-01-01T00:00:00Z")

    def statements(number):
        record_in("a", *range(100, 100 + number))
        with CaptureQueriesContext(connection) as captured:
            forward()
        return len(captured)

    assert statements(200) == statements(1)
    assert [] == refunds()


def test_a_queue_longer_than_a_batch_is_delivered_in_order(shop):
    shop.declare(scope="batch")
    shop.bad = {0: Failed()}
    record_in("a", *range(250))
    forward()
    shop.bad, shop.calls = {}, []
    retry_now()
    forward()
    assert list(range(250)) == shop.calls
    assert list(range(250)) == refunds()


def test_signals_tell_what_becomes_of_a_stream(shop):
    shop.declare(max_attempts=2)
    shop.bad = {1: Failed("one")}
    got = []

    def receive(name):
        def receiver(*, signal, sender, error=None, **arguments):
            got.append((name, *sorted(arguments.items()), str(error) if error else ""))

        return receiver

    signals = {"blocked": stream_blocked, "parked": stream_parked, "free": stream_unblocked, "failed": delivery_failed}
    receivers = [(signal, receive(name)) for name, signal in signals.items()]
    for signal, receiver in receivers:
        signal.connect(receiver)
    try:
        record_in("a", 1, 2)
        forward()
        retry_now()
        forward()
        shop.bad = {}
        retry(open_failures(), by="ada")
        forward()
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver)
    about = (("consumer", "numbers"), ("position", 1))
    assert [
        ("failed", *about, "one"),
        ("blocked", ("attempts", 1), *about, ("stream", "a"), "one"),
        ("failed", *about, "one"),
        ("parked", *about, ("stream", "a"), "one"),
        ("free", ("consumer", "numbers"), ("position", 2), ("stream", "a"), ""),
    ] == got


# --- parked ---


def test_after_the_most_attempts_the_event_is_parked_and_its_stream_stays_blocked(shop):
    shop.declare(max_attempts=2)
    shop.bad = {1: Failed()}
    record_in("a", 1, 2)
    forward()
    retry_now()
    forward()
    assert [(1, "parked", 2)] == failures()
    shop.bad = {}
    retry_now()
    forward()
    assert [] == refunds()


def test_a_parked_event_may_let_its_stream_go_on(shop):
    shop.declare(max_attempts=2, on_parked="continue")
    shop.bad = {1: Failed()}
    record_in("a", 1, 2, 3)
    forward()
    assert [] == refunds()
    retry_now()
    forward()
    assert [(1, "parked", 2)] == [failure for failure in failures() if failure[1] == "parked"]
    forward()
    record_in("a", 4)
    forward()
    assert [2, 3, 4] == refunds()
    assert [(1, "parked", 2)] == failures()
    assert not failure_of(1).blocking


def test_a_permanent_error_parks_at_once(shop):
    shop.declare()
    shop.bad = {1: PermanentError("never")}
    record_in("a", 1)
    forward()
    assert [(1, "parked", 1)] == failures()


@pytest.mark.parametrize(
    "on_undecodable, expected, paused",
    [("retry", "blocked", False), ("park", "parked", False), ("pause", "parked", True)],
)
def test_an_event_that_cannot_be_read_is_never_passed_over(on_undecodable, expected, paused, settings):
    settings.EVENTSTORE = {"ON_UNDECODABLE": on_undecodable}
    from tests.shop.events import OrderPlaced

    handles(OrderPlaced, name="numbers", start="beginning")(lambda event: None)
    got = []

    def receiver(*, consumer, reason, **kwargs):
        got.append(reason)

    consumer_paused.connect(receiver)
    try:
        with transaction.atomic():
            record("shop.OrderPlaced", {"order_id": "no number"}, stream="a")
        forward()
    finally:
        consumer_paused.disconnect(receiver)
    assert [expected] == [state for _, state, _ in failures()]
    assert paused == (state_of().paused_at is not None)
    if paused:
        assert "position 1 cannot be read" in got[0] == state_of().paused_reason


def test_too_many_open_failures_pause_the_consumer(shop, settings):
    settings.EVENTSTORE = {"MAX_FAILURES": 3}
    shop.declare()
    shop.bad = dict.fromkeys(range(10), Failed())
    for number in range(10):
        record_in(f"order-{number}", number)
    forward()
    assert 3 == len(failures())
    assert "3 of its events have failed" in state_of().paused_reason
    assert 3 == offset_of()


# --- nobody's fault ---


class Deadlock(Exception):
    sqlstate = "40P01"


def contention():
    error = OperationalError("deadlock detected")
    error.__cause__ = Deadlock()
    return error


def test_a_deadlock_is_tried_again_at_once_and_burns_no_attempt(shop):
    shop.declare()
    errors = [contention(), contention()]

    class OnceMore(dict):
        def get(self, number):
            return errors.pop() if number == 1 and errors else None

    shop.bad = OnceMore()
    record_in("a", 1, 2)
    assert 2 == forward().delivered
    assert [1, 1, 1, 2] == shop.calls
    assert [1, 2] == refunds()
    assert [] == failures()


def test_an_error_that_django_let_through_from_the_driver_is_judged_like_one_of_its_own(shop):
    """It wraps no error of a cursor that is closed, and MariaDB's driver then asks the server for what is left."""
    lost = connection.Database.OperationalError(2013, "Lost connection to server during query")
    shop.declare(max_attempts=1)
    shop.bad = {1: lost}
    record_in("a", 1)
    forward()
    assert [(1, "blocked", 0)] == failures()
    shop.bad = {1: connection.Database.IntegrityError(1062, "Duplicate entry")}
    retry_now()
    forward()
    assert [(1, "parked", 1)] == failures()


def test_an_event_in_lasting_contention_blocks_its_own_stream_and_loses_no_attempt(shop):
    shop.declare(max_attempts=1)
    shop.bad = {1: contention()}
    record_in("a", 1)
    record_in("b", 2)
    forward()
    assert [2] == refunds()
    assert [(1, "blocked", 0)] == failures()
    retry_now()
    forward()
    assert [(1, "blocked", 0)] == failures()
    assert 2 == failure_of(1).tries


@BOTH
def test_a_handler_that_says_unavailable_lets_its_consumer_wait_and_blames_no_event(shop, scope):
    shop.declare(scope=scope)
    shop.bad = {2: Unavailable("the payment service is down")}
    record_in("a", 1)
    record_in("b", 2)
    record_in("c", 3)
    forward()
    assert [] == failures()
    assert 1 == state_of().attempts
    assert "payment service" in state_of().error
    assert len(refunds()) == offset_of()
    shop.bad = {}
    retry_now()
    forward()
    assert [1, 2, 3] == refunds()
    assert 0 == state_of().attempts


# --- senders to the outside ---


def test_what_a_sender_accepted_behind_a_refused_event_of_the_same_stream_comes_again_after_it():
    record_in("a", 1, 2, 3)
    record_in("b", 10)
    sender = RecordingSender(lambda batch: Outcome(done=len(batch.entries), refused={2: Failed()}))
    forwarder = forwarder_of(sender)
    assert 3 == forwarder.get_and_send().delivered
    assert [[1, 2, 3, 10]] == sender.batches
    sender.script = None
    retry_now()
    forwarder.get_and_send()
    assert [[1, 2, 3, 10], [2], [3]] == sender.batches
    assert [] == failures()


def test_of_two_refused_events_of_a_stream_the_first_is_its_head_and_the_other_waits_behind_it():
    record_in("a", 1, 2, 3)
    sender = RecordingSender(lambda batch: Outcome(done=3, refused={1: Failed(), 3: Failed()}))
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()
    assert [(1, "blocked", 1)] == failures()
    sender.script = None
    retry_now()
    forwarder.get_and_send()
    assert [1, 2, 3] == sender.numbers[3:]


def test_a_queue_whose_sender_claims_less_goes_on_from_there():
    record_in("a", 1, 2, 3, 4)
    sender = RecordingSender(lambda batch: Outcome(done=1, refused={1: Failed()}))
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()
    answers = iter([Outcome(done=1), Outcome(done=2), Outcome(done=1)])
    sender.script, sender.batches = (lambda batch: next(answers)), []
    retry_now()
    forwarder.get_and_send()
    assert [[1], [2, 3, 4], [4]] == sender.batches
    assert [] == failures()


def test_a_sender_is_told_that_a_blocked_stream_catches_up():
    record_in("a", 1, 2)
    seen = []

    def refuse_first(batch):
        seen.append(batch.catches_up)
        return Outcome(done=2, refused={1: Failed()})

    sender = RecordingSender(refuse_first)
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()
    sender.script = lambda batch: seen.append(batch.catches_up) or Outcome(done=len(batch.entries))
    retry_now()
    forwarder.get_and_send()
    record_in("a", 3)
    forwarder.get_and_send()
    assert [False, True, True, False] == seen


def test_a_sender_that_is_unavailable_during_a_retry_blames_nobody():
    record_in("a", 1, 2)
    sender = RecordingSender(lambda batch: Outcome(done=1, refused={1: Failed()}))
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()

    def down(batch):
        raise ConnectionError("broker down")

    sender.script = down
    retry_now()
    forwarder.get_and_send()
    assert [(1, "blocked", 1)] == failures()
    assert 1 == state_of().attempts


# --- decisions ---


def blocked_at(shop, number, *others, **declared):
    shop.declare(**declared)
    shop.bad = {number: Failed()}
    record_in("a", number, *others)
    forward()


def decisions():
    return list(DeliveryDecision.objects.order_by("id").values_list("decision", "position", "by", "reason"))


def test_skipping_passes_over_one_event_and_its_stream_goes_on(shop):
    blocked_at(shop, 1, 2, 3)
    assert 1 == skip(open_failures(), by="ada", reason="paid by hand")
    forward()
    assert [] == failures()
    forward()
    assert [2, 3] == refunds()
    assert [("skip", 1, "ada", "paid by hand")] == decisions()


def test_discarding_drops_the_queue_as_well_and_wants_a_reason(shop):
    blocked_at(shop, 1, 2, 3)
    with pytest.raises(EventStoreError, match="say why"):
        discard(open_failures(), by="ada", reason=" ")
    discard(open_failures(), by="ada", reason="test data")
    record_in("a", 4)
    forward()
    forward()
    assert [4] == refunds()
    assert [] == failures()
    assert [("discard", 1, "ada", "test data")] == decisions()


def test_a_parked_event_is_tried_again_when_somebody_asks_with_all_its_attempts(shop):
    blocked_at(shop, 1, 2, max_attempts=1)
    assert [(1, "parked", 1)] == failures()
    retry(open_failures(), by="ada")
    forward()
    assert [(1, "parked", 1)] == failures()
    shop.bad = {}
    retry(open_failures(), by="ada", reason="fixed")
    forward()
    assert [1, 2] == refunds()
    assert [("retry", 1, "ada", ""), ("retry", 1, "ada", "fixed")] == decisions()


def test_an_edited_payload_is_delivered_in_place_of_the_one_in_the_log(shop):
    blocked_at(shop, 1, 2, max_attempts=1)
    retry(open_failures(), by="ada", reason="typo", payload={"n": 100})
    forward()
    assert [2, 100] == refunds()
    assert 1 == EventStore().get().entries[0].data["n"]
    decision = DeliveryDecision.objects.get()
    assert ("edit", '{"n":100}') == (decision.decision, decision.edited_payload)


def test_a_payload_that_its_class_does_not_take_is_refused_and_nothing_is_asked_for():
    from tests.shop.events import OrderPlaced

    handles(OrderPlaced, name="numbers", start="beginning", max_attempts=1)(lambda event: None)
    with transaction.atomic():
        record("shop.OrderPlaced", {"order_id": "no number"}, stream="a")
    forward()
    with pytest.raises(ValueError, match="order_id"):
        retry(open_failures(), by="ada", payload={"order_id": "none"})
    assert "" == failure_of(1).request
    assert failure_of(1).edited_payload is None


def test_many_are_retried_at_a_rate(shop):
    shop.declare(max_attempts=1)
    shop.bad = dict.fromkeys(range(6), Failed())
    for number in range(6):
        record_in(f"order-{number}", number)
    forward()
    shop.bad = {}
    assert 6 == retry(open_failures(), by="ada", per_second=2)
    forward()
    assert [0, 1] == refunds()
    FailedDelivery.objects.update(retry_at=None)
    forward()
    assert [0, 1, 2, 3, 4, 5] == refunds()


def test_a_request_made_while_the_event_is_tried_is_not_forgotten(shop):
    blocked_at(shop, 1, 2)
    retry_now()

    class Asking(dict):
        def get(self, number):
            return Failed() if number == 1 else None

    shop.bad = Asking()

    def receiver(**kwargs):
        skip(open_failures(), by="ada")

    delivery_failed.connect(receiver)
    try:
        forward()
    finally:
        delivery_failed.disconnect(receiver)
    forward()
    forward()
    assert [2] == refunds()


def test_a_failed_event_that_is_not_wanted_any_more_is_let_go(shop):
    blocked_at(shop, 1, 2)
    sender = RecordingSender()
    record_in("a", 3)
    retry_now()
    forwarder_of(sender, events=("test.Other",)).get_and_send()
    assert [] == failures()
    assert ["gone"] == [decision for decision, *_ in decisions()]


# --- careful workers ---


DYING = """
import django, os
django.setup()
from django.db import transaction
from django_eventstore import EventForwarder, handles
from tests.shop.models import Refund

@handles("test.Counted", name="numbers", start="beginning", transaction={scope!r})
def follow(event):
    Refund.objects.create(order_id=event["n"])
    if event["n"] == 2:
        os._exit(9)

EventForwarder("numbers").get_and_send()
"""


@BOTH
def test_an_event_that_kills_its_workers_is_parked_and_the_others_flow(scope, spawn, settings, shop):
    from tests.consumers.test_leases import expire

    settings.EVENTSTORE = {"MAX_CRASHES": 2}
    record_in("a", 1)
    record_in("b", 2)
    record_in("b", 3)
    record_in("c", 4)
    for _ in range(3):  # once unknowing, twice knowing
        process = spawn("-c", DYING.format(scope=scope))
        assert 9 == process.wait(check=False)
        expire()
    assert [2] == list(FailedDelivery.objects.values_list("crashes", flat=True))
    shop.declare(scope=scope)
    forward()
    assert [1, 4] == refunds()
    assert [(2, "parked", 0)] == failures()
    assert "workers died" in failure_of(2).error
    retry(open_failures(), by="ada")
    forward()
    assert [1, 2, 3, 4] == refunds()


def test_what_a_dead_worker_had_in_hand_and_did_not_die_of_is_delivered_and_leaves_no_trace(shop):
    shop.declare(scope="batch")
    record_in("a", 1, 2, 3)
    from tests.consumers.test_leases import expire

    assert acquire("numbers", using="default", length=MINUTE) is not None
    expire()
    assert 3 == forward().delivered
    assert [1, 2, 3] == refunds()
    assert [] == failures()


def test_a_careful_worker_delivers_event_by_event_only_as_many_as_a_batch_had():
    from tests.consumers.test_leases import expire

    record_in("", *range(6))
    acquire("numbers", using="default", length=MINUTE)
    expire()
    sender = RecordingSender()
    forwarder_of(sender, limit=3).get_and_send(**ENOUGH)
    assert [[0], [1], [2], [3, 4, 5]] == sender.batches


def test_a_worker_that_let_go_of_its_lease_makes_nobody_careful():
    record_in("", 1, 2)
    acquire("numbers", using="default", length=MINUTE).release()
    sender = RecordingSender()
    forwarder_of(sender).get_and_send()
    assert [[1, 2]] == sender.batches


def test_the_time_of_a_failure_is_known(shop):
    blocked_at(shop, 1)
    first = failure_of(1)
    time.sleep(0.01)
    retry_now()
    forward()
    again = failure_of(1)
    assert first.first_failed_at == again.first_failed_at
    assert first.failed_at < again.failed_at


def test_a_policy_cannot_be_misspelt():
    with pytest.raises(ValueError, match="on_parked"):
        handles(COUNTED, on_parked="stop")
    with pytest.raises(ValueError, match="max_attempts"):
        handles(COUNTED, max_attempts=0)


def test_settings_name_the_policy_of_consumers_with_a_sender(settings):
    from django_eventstore.consumers import declared_consumer

    sender = "tests.delivery.RecordingSender"
    settings.EVENTSTORE = {
        "MAX_ATTEMPTS": 4,
        "CONSUMERS": {"a": {"SENDER": sender, "MAX_ATTEMPTS": 2, "ON_PARKED": "continue"}, "b": {"SENDER": sender}},
    }
    a, b = declared_consumer("a").policy, declared_consumer("b").policy
    assert (2, "continue") == (a.max_attempts, a.on_parked)
    assert (4, "block") == (b.max_attempts, b.on_parked)
    settings.EVENTSTORE = {"CONSUMERS": {"a": {"SENDER": sender, "ON_PARKED": "stop"}}}
    with pytest.raises(ImproperlyConfigured, match="ON_PARKED"):
        declared_consumer("a")


def test_clearing_a_wait_that_is_none_changes_nothing():
    clear_wait("numbers", using="default")
    assert DeliveryPolicy() == DeliveryPolicy()
