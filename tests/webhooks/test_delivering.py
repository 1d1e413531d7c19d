"""Events reach the endpoints: all of them, in order, and whoever fails delays only itself."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook

from django_eventstore import EventEntry, EventForwarder, Outcome, record
from django_eventstore.consumers import OffsetStore, retry, set_partitions
from django_eventstore.delivery import DeliveryPolicy
from django_eventstore.exceptions import LeaseLost
from django_eventstore.models import ConsumerState, Endpoint, EndpointAttempt, FailedDelivery
from django_eventstore.signals import endpoint_disabled
from django_eventstore.testing.contracts import SenderContract
from django_eventstore.webhooks.signing import new_secret
from django_eventstore.webhooks.standings import Standings
from tests.delivery import COUNTED, record_numbers
from tests.webhooks.conftest import row, until
from tests.webhooks.receiver import accept, hang, in_turn, refusing, slowly

OTHER = "test.Other"
SOON = timedelta(milliseconds=100)
LONG = timedelta(seconds=25)
contract = SenderContract()
once = pytest.mark.sqlite
"""What no database has a part in."""


def record_one(number: int, *, type: str = COUNTED, stream: str = "") -> EventEntry:
    with transaction.atomic():
        return record(type, {"n": number}, stream=stream or None)[0]


def test_each_endpoint_gets_what_it_wants_in_order(hooks):
    all_of_it, some, none = (
        hooks.endpoint("/all"),
        hooks.endpoint("/some", events=OTHER),
        hooks.endpoint("/none", events="x.*"),
    )
    for number in range(1, 11):
        record_numbers(number, type=OTHER if number % 3 == 0 else COUNTED)
    assert 10 == hooks.forward()
    assert list(range(1, 11)) == hooks.receiver.numbers("/all")
    assert [3, 6, 9] == hooks.receiver.numbers("/some")
    assert [] == hooks.receiver.numbers("/none")
    assert [None, None, None] == [row(each).offset for each in (all_of_it, some, none)]


@once
def test_a_webhook_is_a_signed_cloudevent(calm):
    secret = new_secret()
    calm.endpoint("/in", secret=secret)
    entry = record_one(1, stream="order-7")
    calm.forward()
    (request,) = calm.receiver.seen
    assert {"n": 1} == Webhook(secret).verify(request.body, request.headers)["data"]
    assert str(entry.event_id) == request.headers["webhook-id"] == request.event["id"]
    assert ("application/cloudevents+json", "order-7", COUNTED) == (
        request.headers["content-type"],
        request.event["subject"],
        request.event["type"],
    )


@once
def test_without_endpoints_the_consumer_goes_on(calm):
    record_numbers(1, 2)
    assert 2 == calm.forward()
    assert 2 == calm.offset()


@once
def test_a_new_endpoint_gets_what_comes_after_the_consumers_offset(calm):
    calm.endpoint("/old")
    record_numbers(1, 2)
    calm.forward()
    calm.endpoint("/new")
    record_numbers(3)
    calm.forward()
    assert ([1, 2, 3], [3]) == (calm.receiver.numbers("/old"), calm.receiver.numbers("/new"))


def test_an_endpoint_that_fails_delays_only_itself_and_gets_all_in_order_later(hooks):
    ill = hooks.endpoint("/ill")
    hooks.endpoint("/well")
    hooks.receiver.answers["/ill"] = in_turn(accept, refusing(500))
    record_numbers(1, 2, 3)
    hooks.forward()
    record_numbers(4)
    hooks.forward()
    assert [1, 2, 3, 4] == hooks.receiver.numbers("/well")
    until(lambda: row(ill).claimed_until is None)
    found = row(ill)
    assert (1, "The answer is 500.") == (found.offset, found.problem)
    assert found.attempts >= 1
    assert found.failing_since is not None
    assert {1, 2} == set(hooks.receiver.numbers("/ill"))  # nothing behind the one that it does not take

    hooks.receiver.answers["/ill"] = accept
    hooks.forward_until(lambda: hooks.is_level(ill))
    tried = hooks.receiver.numbers("/ill")
    assert [1, 2, 3, 4] == sorted(set(tried))
    assert [3, 4] == tried[-2:]
    assert (0, "", None) == (row(ill).attempts, row(ill).problem, row(ill).failing_since)
    assert [1, 2, 3, 4] == hooks.receiver.numbers("/well")


def test_one_that_has_caught_up_goes_along_again_from_the_next_batch_on(hooks):
    ill = hooks.endpoint("/ill")
    hooks.receiver.answers["/ill"] = in_turn(refusing(503), accept)
    record_numbers(1, 2, 3)
    hooks.forward_until(lambda: hooks.is_level(ill))
    record_numbers(4, 5)
    hooks.forward()
    assert row(ill).offset is None
    assert [1, 1, 2, 3, 4, 5] == hooks.receiver.numbers("/ill")


def test_one_that_has_not_caught_up_does_not_go_along(hooks):
    record_numbers(1, 2, 3)
    hooks.forward()
    behind = hooks.endpoint("/behind", offset=1, epoch=1)
    record_numbers(4)
    (loop,) = hooks.forwarder.loops(1)
    loop.run(most_events=10, longest=LONG)  # and nothing is tended
    assert (4, 1, []) == (hooks.offset(), row(behind).offset, hooks.receiver.seen)
    hooks.forward_until(lambda: hooks.is_level(behind))
    assert [2, 3, 4] == hooks.receiver.numbers("/behind")


@once
def test_an_idle_tick_writes_nothing_for_one_that_has_caught_up(hooks):
    ill = hooks.endpoint("/ill")
    hooks.receiver.answers["/ill"] = in_turn(refusing(503), accept)
    record_numbers(1)
    hooks.forward_until(lambda: hooks.is_level(ill))
    claim = row(ill).claim
    for _ in range(3):
        hooks.forward()
    assert (1, claim) == (row(ill).offset, row(ill).claim)
    assert [1, 1] == hooks.receiver.numbers("/ill")


def test_the_batch_waits_for_no_endpoint_that_hangs(hooks):
    hooks.use(patience=SOON)
    dead = hooks.endpoint("/dead")
    hooks.endpoint("/well")
    hooks.receiver.answers["/dead"] = hang
    began = time.monotonic()
    for number in range(1, 9):
        record_numbers(number)
        hooks.forward()
    hooks.forward_until(lambda: list(range(1, 9)) == hooks.receiver.numbers("/well"))
    assert time.monotonic() - began < LONG.total_seconds()
    assert (0, [1]) == (row(dead).offset, hooks.receiver.numbers("/dead"))
    assert row(dead).claimed_until is not None  # its thread still waits

    hooks.receiver.answers["/dead"] = accept
    hooks.receiver.going_on.set()
    hooks.forward_until(lambda: hooks.is_level(dead))
    assert [1, *range(1, 9)] == hooks.receiver.numbers("/dead")


@once
def test_more_endpoints_that_hang_than_may_be_in_flight_hold_nobody_up(hooks):
    hooks.use(patience=SOON, max_in_flight=2)
    for number in range(6):
        hooks.endpoint(f"/dead{number}")
        hooks.receiver.answers[f"/dead{number}"] = hang
    hooks.endpoint("/well")
    record_numbers(1)
    began = time.monotonic()
    hooks.forward()
    hooks.forward_until(lambda: [1] == hooks.receiver.numbers("/well"))
    assert time.monotonic() - began < LONG.total_seconds()
    dead = Endpoint.objects.filter(url__contains="/dead")
    assert 6 == dead.filter(offset=0, claimed_until__isnull=False).count()


@once
def test_one_that_is_slow_has_its_events_at_its_own_pace(hooks):
    hooks.use(patience=timedelta(milliseconds=50))
    slow = hooks.endpoint("/slow")
    hooks.endpoint("/fast")
    hooks.receiver.answers["/slow"] = slowly(0.4)
    record_numbers(1, 2)
    hooks.forward()
    hooks.forward_until(lambda: [1, 2] == hooks.receiver.numbers("/fast"))
    hooks.forward_until(lambda: hooks.is_level(slow))
    assert [1, 2] == hooks.receiver.numbers("/slow")
    assert (0, None) == (row(slow).attempts, row(slow).failing_since)  # nothing is wrong with it
    record_numbers(3)
    hooks.forward()
    assert row(slow).offset is not None  # it would hold the others up
    hooks.forward_until(lambda: 3 in hooks.receiver.numbers("/slow"))


@once
def test_what_nobody_of_them_wants_is_passed_over_by_one_that_is_behind(hooks):
    ill = hooks.endpoint("/ill", events=OTHER)
    hooks.receiver.answers["/ill"] = refusing(500)
    record_numbers(1, type=OTHER)
    hooks.forward()
    hooks.receiver.answers["/ill"] = accept
    record_numbers(*range(2, 150))
    record_numbers(150, type=OTHER)
    record_one(151, type="elsewhere.Unwanted")  # not by the consumer
    hooks.forward_until(lambda: 150 in hooks.receiver.numbers("/ill") and hooks.is_level(ill))
    assert [1, 150] == sorted(set(hooks.receiver.numbers("/ill")))


# --- what an answer means ---


@once
@pytest.mark.parametrize("status", [302, 400, 500])
def test_an_answer_that_is_no_success_is_a_failure(calm, status):
    found = calm.endpoint("/in")
    calm.receiver.answers["/in"] = refusing(status, Location=calm.receiver.url("/secret"))
    record_numbers(1)
    calm.forward()
    assert (0, 1) == (row(found).offset, row(found).attempts)
    assert str(status) in row(found).problem
    assert [] == calm.receiver.numbers("/secret")


class Told:
    """Receives a signal."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []

    def __call__(self, *, endpoint: int, reason: str, **keywords: object) -> None:
        self.calls.append((endpoint, reason))


@pytest.fixture
def told():
    told = Told()
    endpoint_disabled.connect(told)
    yield told
    endpoint_disabled.disconnect(told)


def test_410_disables_the_endpoint(hooks, told):
    gone = hooks.endpoint("/gone")
    hooks.receiver.answers["/gone"] = refusing(410)
    record_numbers(1, 2)
    hooks.forward()
    record_numbers(3)
    hooks.forward()
    found = row(gone)
    assert (False, 0) == (found.active, found.offset)
    assert "410" in found.disabled_reason
    assert [(gone.pk, found.disabled_reason)] == told.calls
    assert [1] == hooks.receiver.numbers("/gone")


@once
def test_410_of_one_that_is_behind_disables_it_as_well(hooks, told):
    gone = hooks.endpoint("/gone")
    hooks.receiver.answers["/gone"] = in_turn(refusing(500), refusing(410))
    record_numbers(1)
    hooks.forward_until(lambda: not row(gone).active)
    assert [gone.pk] == [pk for pk, _ in told.calls]


@once
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(hooks, status):
    busy = hooks.endpoint("/busy")
    hooks.receiver.answers["/busy"] = refusing(status, Retry_After="3600")
    record_numbers(1)
    hooks.forward()
    for _ in range(3):
        hooks.forward()
    wait = row(busy).retry_at - timezone.now()
    assert timedelta(minutes=50) < wait <= timedelta(hours=1)
    assert [1] == hooks.receiver.numbers("/busy")


@once
def test_nobody_has_to_wait_longer_than_a_day(calm):
    busy = calm.endpoint("/busy")
    calm.receiver.answers["/busy"] = refusing(429, Retry_After="999999999")
    record_numbers(1)
    calm.forward()
    assert row(busy).retry_at - timezone.now() <= timedelta(days=1)


@once
def test_waits_grow(calm):
    calm.use(retry_base=timedelta(hours=1), retry_cap=timedelta(hours=30))
    calm.endpoint("/ill", attempts=0)
    standings = calm.senders[-1]._standings("webhooks", "default")
    assert timedelta(hours=30) >= max(standings.policy.delay(10) for _ in range(20)) > timedelta(hours=1)


def test_one_that_has_failed_for_too_long_is_disabled(hooks, told):
    hooks.use(disable_after=timedelta(days=5))
    ill, fresh = hooks.endpoint("/ill"), hooks.endpoint("/fresh")
    hooks.receiver.answers |= {"/ill": refusing(500), "/fresh": refusing(500)}
    record_numbers(1)
    hooks.forward()
    Endpoint.objects.filter(pk=ill.pk).update(failing_since=timezone.now() - timedelta(days=5, seconds=1))
    Endpoint.objects.filter(pk=fresh.pk).update(failing_since=timezone.now() - timedelta(days=4))
    hooks.forward_until(lambda: not row(ill).active)
    assert row(ill).disabled_reason == "It has failed for 5 days, 0:00:00: The answer is 500."
    assert [ill.pk] == [pk for pk, _ in told.calls]
    assert row(fresh).active


@once
def test_none_is_disabled_when_the_option_says_never(hooks):
    hooks.use(disable_after=None)
    ill = hooks.endpoint("/ill")
    hooks.receiver.answers["/ill"] = refusing(500)
    record_numbers(1)
    hooks.forward()
    Endpoint.objects.filter(pk=ill.pk).update(failing_since=timezone.now() - timedelta(days=500))
    hooks.forward_until(lambda: row(ill).attempts > 3)
    assert row(ill).active


@once
def test_an_address_that_is_not_allowed_is_a_failure_of_its_endpoint(calm):
    calm.use(allow_private=False)
    found = calm.endpoint("/in")
    record_numbers(1)
    assert 1 == calm.forward()
    assert "127.0.0.1, which webhooks must not connect to" in row(found).problem
    assert [] == calm.receiver.seen


@once
def test_a_secret_that_cannot_be_read_is_a_failure_of_its_endpoint(calm, settings):
    found, other = calm.endpoint("/in"), calm.endpoint("/other")
    settings.SECRET_KEY = "another"
    Endpoint.objects.filter(pk=other.pk).update(secret=calm.endpoint("/unused", active=False).secret)
    record_numbers(1)
    calm.forward()
    assert "SECRET_KEY_FALLBACKS" in row(found).problem
    assert ([], [1]) == (calm.receiver.numbers("/in"), calm.receiver.numbers("/other"))


@once
def test_both_secrets_sign_while_they_overlap(calm):
    new, old = new_secret(), new_secret()
    stored = calm.endpoint("/unused", secret=old, active=False).secret
    for path, left in (("/during", timedelta(hours=1)), ("/after", -timedelta(seconds=1))):
        calm.endpoint(path, secret=new, previous_secret=stored, previous_until=timezone.now() + left)
    record_numbers(1)
    calm.forward()
    found = {request.path: request for request in calm.receiver.seen}
    Webhook(new).verify(found["/during"].body, found["/during"].headers)
    Webhook(old).verify(found["/during"].body, found["/during"].headers)
    Webhook(new).verify(found["/after"].body, found["/after"].headers)
    assert 1 == len(found["/after"].headers["webhook-signature"].split())


# --- what costs and what is refused ---


@once
def test_a_thousand_idle_endpoints_cost_a_tick_one_read(hooks):
    record_numbers(1)
    hooks.forward()
    stored = hooks.endpoint("/unused", active=False).secret
    Endpoint.objects.bulk_create(
        Endpoint(url=hooks.receiver.url(f"/{n}"), secret=stored, events="x.*") for n in range(1_000)
    )
    with CaptureQueriesContext(
        connection,
    ) as captured:
        hooks.forward()
    assert 1 == sum("eventstore_endpoint" in query["sql"] for query in captured)
    record_numbers(2)
    with CaptureQueriesContext(connection) as captured:
        assert 1 == hooks.forward()
    assert 2 == sum("eventstore_endpoint" in query["sql"] for query in captured)  # one by the tick, one by the batch


@once
def test_one_event_reaches_a_hundred_endpoints(calm):
    stored = calm.endpoint("/unused", active=False).secret
    Endpoint.objects.bulk_create(Endpoint(url=calm.receiver.url(f"/{n}"), secret=stored) for n in range(100))
    record_numbers(1)
    assert 1 == calm.forward()
    assert {f"/{n}" for n in range(100)} == {request.path for request in calm.receiver.seen}
    assert 100 == len(calm.receiver.seen)


@once
def test_an_event_that_cannot_be_written_is_refused_and_parked(calm):
    calm.endpoint("/in")
    record_one(1, stream="a\x01b")
    record_one(2, stream="c")
    calm.forward()
    assert [2] == calm.receiver.numbers("/in")
    assert ["parked"] == list(FailedDelivery.objects.values_list("state", flat=True))


@once
def test_an_event_that_was_put_aside_reaches_one_that_was_left_behind_after_it(hooks):
    """The stream of an event that cannot be written waits in the consumer, and endpoints go on without it."""
    ill = hooks.endpoint("/ill")
    record_one(1, stream="a\x01b")
    record_one(2, stream="a\x01b")
    hooks.use(format="json")
    json = hooks.forwarder
    hooks.use()
    hooks.forward()
    hooks.receiver.answers["/ill"] = refusing(500)
    record_one(3, stream="c")
    hooks.forward()
    assert 2 == row(ill).offset  # it had neither 1 nor 2
    hooks.receiver.answers["/ill"] = accept
    (failed,) = FailedDelivery.objects.all()
    retry([failed], by="", reason="another format")
    hooks.forwarder = json
    hooks.forward_until(lambda: not FailedDelivery.objects.exists() and hooks.is_level(ill))
    numbers = [request.event.get("payload", request.event.get("data"))["n"] for request in hooks.receiver.seen]
    assert {1, 2, 3} == set(numbers)


@once
def test_the_text_of_an_answer_is_shown_to_nobody(calm):
    found = calm.endpoint("/in")
    calm.receiver.answers["/in"] = lambda handler, request: handler.wfile.write(b"root:x:0:0\r\n")
    record_numbers(1)
    calm.forward()
    assert "The answer is none of HTTP: BadStatusLine." == row(found).problem


@once
def test_one_that_is_behind_goes_without_an_event_that_cannot_be_written(hooks, caplog):
    ill = hooks.endpoint("/ill")
    hooks.receiver.answers["/ill"] = refusing(500)
    record_numbers(1)
    hooks.forward()
    record_one(2, stream="a\x01b")
    record_numbers(3)
    hooks.forward()
    hooks.receiver.answers["/ill"] = accept
    hooks.forward_until(lambda: hooks.is_level(ill))
    assert [1, 3] == list(dict.fromkeys(hooks.receiver.numbers("/ill")))
    assert "goes without position 2" in caplog.text


@once
def test_a_consumer_of_webhooks_that_is_divided_waits_and_says_why(hooks):
    hooks.endpoint("/in")
    record_numbers(1)
    hooks.forward()
    set_partitions(hooks.forwarder.consumer, 4, using="default")
    days = DeliveryPolicy(base=timedelta(days=100), cap=timedelta(days=100))  # a wait is drawn from nothing on
    consumer = replace(hooks.forwarder.consumer, policy=days)
    hooks.forwarder = EventForwarder(consumer, sender=hooks.senders[-1])
    record_numbers(2)
    hooks.forward()
    assert "cannot be divided" in ConsumerState.objects.get(pk="webhooks").error
    assert [1] == hooks.receiver.numbers("/in")


@once
def test_in_a_test_case_no_thread_catches_up(calm):
    found = calm.endpoint("/in")
    calm.receiver.answers["/in"] = in_turn(refusing(500), accept)
    record_numbers(1)
    for _ in range(3):
        calm.forward()
    assert (0, [1]) == (row(found).offset, calm.receiver.numbers("/in"))


def test_the_last_twenty_attempts_are_kept(hooks):
    found = hooks.endpoint("/in")
    hooks.receiver.answers["/in"] = in_turn(*[accept] * 29, refusing(418), accept)
    record_numbers(*range(1, 31))
    hooks.forward()
    hooks.senders[-1]._at_desk().attempts.write(using="default")
    hooks.forward_until(lambda: hooks.is_level(found))
    hooks.close()
    hooks.senders[-1]._at_desk().attempts.write(using="default")
    kept = list(EndpointAttempt.objects.filter(endpoint=found).order_by("id"))
    assert 20 >= len(kept)
    refused = [each for each in kept if each.status == 418]
    assert [(30, COUNTED, "The answer is 418.")] == [(each.position, each.type, each.problem) for each in refused]
    assert {204, 418} == {each.status for each in kept}
    assert all(each.milliseconds < 60_000 for each in kept)


# --- interruptions ---


@once
def test_a_crash_before_the_offset_is_saved_repeats_and_loses_nothing(hooks, monkeypatch):
    hooks.endpoint("/a")
    hooks.endpoint("/b")
    record_numbers(1, 2, 3)
    advance = OffsetStore.advance
    monkeypatch.setattr(
        OffsetStore,
        "advance",
        lambda *arguments, **keywords: (_ for _ in ()).throw(LeaseLost(consumer="webhooks", token=1)),
    )
    hooks.forward()
    monkeypatch.setattr(OffsetStore, "advance", advance)
    record_numbers(4)
    hooks.forward()
    for path in ("/a", "/b"):
        assert [1, 2, 3, 1, 2, 3, 4] == hooks.receiver.numbers(path)


def test_a_crash_before_an_endpoint_is_left_behind_repeats_and_loses_nothing(hooks, monkeypatch):
    ill = hooks.endpoint("/ill")
    hooks.endpoint("/well")
    hooks.receiver.answers["/ill"] = in_turn(accept, refusing(500), accept)
    record_numbers(1, 2, 3)

    def crash(*arguments, **keywords):
        raise RuntimeError("crash")

    leave_behind = Standings.leave_behind
    monkeypatch.setattr(Standings, "leave_behind", crash)
    hooks.forward()
    assert 0 == hooks.offset()  # the batch is not claimed
    assert "crash" in ConsumerState.objects.get(pk="webhooks").error
    monkeypatch.setattr(Standings, "leave_behind", leave_behind)
    ConsumerState.objects.update(retry_at=None)
    hooks.forward()
    assert [1, 2, 1, 2, 3] == hooks.receiver.numbers("/ill")
    assert [1, 2, 3, 1, 2, 3] == hooks.receiver.numbers("/well")
    assert row(ill).offset is None


@once
def test_a_stop_in_the_middle_of_a_batch_repeats_nothing(hooks):
    """What of the batch has not been sent is the endpoint's own backlog."""
    found = hooks.endpoint("/in")
    stop = threading.Event()

    def answer(handler, request):
        if request.number == 5:
            stop.set()
        accept(handler, request)

    hooks.receiver.answers["/in"] = answer
    record_numbers(*range(1, 101))
    (loop,) = hooks.forwarder.loops(1)
    loop.run(most_events=1_000, longest=LONG, stopping=stop.is_set)
    got = len(hooks.receiver.numbers("/in"))
    assert 5 <= got < 100
    assert (100, got, None) == (hooks.offset(), row(found).offset, row(found).claimed_until)
    hooks.use()
    hooks.forward_until(lambda: hooks.is_level(found))
    assert list(range(1, 101)) == hooks.receiver.numbers("/in")


@once
def test_a_batch_ends_within_half_of_the_lease(hooks, settings):
    settings.EVENTSTORE = {"LEASE": timedelta(seconds=1)}
    hooks.use(patience=timedelta(milliseconds=400))
    found = hooks.endpoint("/in")
    hooks.receiver.answers["/in"] = slowly(0.1)
    record_numbers(*range(1, 13))
    hooks.forward()
    assert row(found).offset is not None
    hooks.forward_until(lambda: hooks.is_level(found))
    assert list(range(1, 13)) == list(dict.fromkeys(hooks.receiver.numbers("/in")))


def test_two_workers_do_not_catch_up_the_same_endpoint_at_once(hooks):
    ill = hooks.endpoint("/ill")
    hooks.receiver.answers["/ill"] = refusing(500)
    record_numbers(*range(1, 41))
    hooks.forward()
    hooks.receiver.answers["/ill"] = slowly(0.01)
    Endpoint.objects.filter(pk=ill.pk).update(retry_at=None)
    workers = [hooks.forwarder, hooks.another(), hooks.another()]

    def tick() -> None:
        for worker in workers:
            worker.sender.tend("webhooks", events=("test.*",), using="default")

    until(lambda: row(ill).offset == 40, tick)
    assert [1, *range(1, 41)] == hooks.receiver.numbers("/ill")


def test_the_claim_of_a_dead_worker_runs_out(hooks):
    ill = hooks.endpoint("/ill", offset=0, epoch=1, claim=7, claimed_until=timezone.now() + timedelta(hours=1))
    record_numbers(1)
    hooks.forward()
    hooks.forward()
    assert [] == hooks.receiver.seen
    Endpoint.objects.filter(pk=ill.pk).update(claimed_until=timezone.now() - timedelta(hours=1))
    hooks.forward_until(lambda: hooks.is_level(ill))
    assert [1] == hooks.receiver.numbers("/ill")


def test_a_worker_that_has_lost_its_claim_changes_nothing(hooks):
    hooks.use(patience=SOON)
    found = hooks.endpoint("/in")
    hooks.receiver.answers["/in"] = hang
    record_numbers(1)
    hooks.forward()
    assert row(found).claim
    Endpoint.objects.filter(pk=found.pk).update(claim=7, offset=0)  # another's
    hooks.receiver.going_on.set()
    hooks.close()
    assert (7, 0) == (row(found).claim, row(found).offset)


@once
def test_a_sender_that_is_closed_is_opened_by_the_next_batch(calm):
    calm.endpoint("/in")
    for number in (1, 2):
        record_numbers(number)
        calm.forward()
        calm.close()
    assert [1, 2] == calm.receiver.numbers("/in")


@once
def test_a_batch_whose_lease_is_over_is_not_begun(calm):
    calm.endpoint("/in")
    batch = contract.batch(contract.entries(3), still_held=lambda: False)
    assert Outcome(done=0) == calm.senders[-1].send(batch)
    assert [] == calm.receiver.seen
