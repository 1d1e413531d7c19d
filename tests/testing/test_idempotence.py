"""assert_idempotent(): it fails for a handler that does something twice, and only then."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.core import mail
from django.db import transaction
from django.test import override_settings

from django_eventstore import handles, record
from django_eventstore.testing import aassert_idempotent, assert_idempotent, drain
from tests.delivery import COUNTED, offset_of, record_numbers, refunds
from tests.shop.models import Counter, Refund

pytestmark = pytest.mark.django_db


class Refused(Exception):
    pass


each_kind = pytest.mark.usefixtures("each_kind_of_test")


@pytest.fixture(autouse=True)
def _no_wake_up():
    with override_settings(EVENTSTORE={"WAKE_UP": False}):
        yield


def handling(function, *, name="follow", **options):
    handles(COUNTED, name=name, **options)(function)


def create(event):
    Refund.objects.create(order_id=event["n"])


def create_once(event):
    Refund.objects.get_or_create(order_id=event["n"])


def mark_once(event):
    Counter.objects.get_or_create(name=str(event["n"]))


def raise_counter(event):
    counter, _ = Counter.objects.get_or_create(name="numbers")
    Counter.objects.filter(pk=counter.pk).update(value=counter.value + 1)


def send_mail(event):
    mail.send_mail("refund", "", None, ["ann@example.com"])


def record_another(event):
    record("test.Another", {})


def failure(**arguments):
    with pytest.raises(AssertionError) as raised:
        assert_idempotent(**arguments)
    return str(raised.value)


@each_kind
@pytest.mark.parametrize("scope", ["event", "batch"])
@pytest.mark.parametrize("repeat", ["rewind", "crash"])
def test_a_handler_that_does_nothing_twice_passes(scope, repeat):
    handling(create_once, transaction=scope)
    record_numbers(1, 2)
    assert {"follow": 2} == assert_idempotent(repeat=repeat).delivered
    assert [1, 2] == refunds()
    assert {} == drain().delivered


@each_kind
@pytest.mark.parametrize("scope", ["event", "batch"])
@pytest.mark.parametrize(
    "function, change",
    [
        (create, "shop.Refund: 1 became 2: + {"),
        (raise_counter, "shop.Counter: 1 became 1: - {'id': "),
        (send_mail, "mails: 1 became 2: + {'to': ['ann@example.com'], 'subject': 'refund', 'body': ''}"),
        (record_another, "events: 2 became 3: + {'type': 'test.Another', 'stream': '', 'payload': '{}'}"),
    ],
)
def test_a_handler_that_does_something_twice_fails_and_says_what(scope, function, change):
    handling(function, transaction=scope)
    [entry] = record_numbers(1)
    message = failure()
    assert f"Handler follow is not idempotent: when {COUNTED} (position " in message
    assert f") was delivered again, this changed:\n  {change}" in message
    assert entry.type in message


@each_kind
def test_effects_in_the_database_do_not_count_after_a_crash():
    handling(create)
    record_numbers(1)
    assert_idempotent(repeat="crash")
    assert [1] == refunds()


@each_kind
def test_effects_outside_count_after_a_crash():
    handling(send_mail)
    record_numbers(1)
    assert "(what it wrote to the database was rolled back), this changed:\n  mails: 1 became 2" in failure(
        repeat="crash"
    )


def test_the_guilty_handler_and_the_first_event_that_made_a_difference_are_named():
    handling(mark_once, name="innocent")

    @handles(COUNTED, name="guilty")
    def guilty(event):
        if event["n"] == 2:
            create(event)

    with transaction.atomic():
        for number in (1, 2, 3):
            record(COUNTED, {"n": number}, stream=f"order-{number}")
    assert "Handler guilty is not idempotent: when test.Counted of order-2 (position" in failure()


def test_a_repeat_runs_to_its_end_before_it_is_judged():
    @handles(COUNTED, name="state")
    def keep_the_last(event):
        Counter.objects.update_or_create(name="last", defaults={"value": event["n"]})

    record_numbers(1, 2)
    assert_idempotent()


def test_what_the_second_time_records_is_handled_before_it_is_judged():
    totals = []
    handling(record_another)

    @handles("test.Another", name="another")
    def another(event):
        totals.append(1)

    record_numbers(1)
    message = failure(observe=lambda: len(totals))
    assert (
        "Handler follow is not idempotent: by what its second time recorded, this changed:\n  1 became 2"
    ) == message


@pytest.mark.parametrize(
    "observed, change",
    [
        (lambda calls: len(calls), "  1 became 2"),
        (lambda calls: list(calls), "  1 became 2: + 1"),
        (lambda calls: {"calls": len(calls), "same": 0}, "  calls: 1 became 2"),
    ],
)
def test_observe_says_what_is_compared(observed, change):
    calls = []
    handling(lambda event: calls.append(event["n"]))
    record_numbers(1)
    assert failure(observe=lambda: observed(calls)).endswith(f"this changed:\n{change}")


def test_observe_may_leave_something_out():
    handling(create)
    record_numbers(1)
    assert_idempotent(lambda: Refund.objects.values("order_id").distinct().count())


def test_a_handler_that_raises_the_second_time_fails_the_test():
    def unique(event):
        if Refund.objects.filter(order_id=event["n"]).exists():
            raise Refused
        create(event)

    handling(unique)
    record_numbers(1)
    with pytest.raises(Refused) as raised:
        assert_idempotent()
    assert f"Handler follow failed when {COUNTED} (position" in str(raised.value.__cause__)
    assert str(raised.value.__cause__).endswith("was delivered again")


def test_a_handler_that_raises_the_first_time_fails_the_test():
    def refuse(event):
        raise Refused

    handling(refuse)
    record_numbers(1)
    with pytest.raises(Refused):
        assert_idempotent()


def test_when_nothing_was_delivered_it_fails():
    handling(create)
    assert "No handler was given an event" in failure()
    record_numbers(1)
    drain()
    assert "No handler was given an event" in failure()


def test_senders_of_the_settings_are_no_handlers():
    consumers = {"warehouse": {"SENDER": "nowhere.Sender", "EVENTS": [COUNTED], "START": "beginning"}}
    with override_settings(EVENTSTORE={"WAKE_UP": False, "CONSUMERS": consumers}):
        record_numbers(1)
        assert "No handler was given an event" in failure()


def test_consumers_are_chosen():
    handling(create, name="guilty")
    handling(mark_once, name="innocent")
    record_numbers(1)
    with pytest.raises(AssertionError, match="Handler guilty"):
        assert_idempotent(consumers=["guilty"])
    record_numbers(2)
    drain(consumers=["guilty"])
    assert_idempotent(consumers=mark_once)


def test_handlers_that_share_a_consumer_are_named_together():
    handles(COUNTED, name="one", consumer="both")(create)
    handles(COUNTED, name="two", consumer="both")(mark_once)
    handles("test.Another", name="three", consumer="both")(send_mail)
    record_numbers(1)
    assert "Handler one, two is not idempotent" in failure()


def test_the_offset_is_where_a_drain_leaves_it():
    handling(create_once)
    record_numbers(1, 2)
    assert_idempotent()
    before = offset_of("follow")
    drain()
    assert before == offset_of("follow")


def test_another_repeat_is_an_error():
    with pytest.raises(ValueError, match="repeat must be one of 'rewind', 'crash'"):
        assert_idempotent(repeat="twice")


def test_in_async_code_it_is_awaited():
    handling(create)
    record_numbers(1)

    async def check():
        await aassert_idempotent(repeat="rewind")

    with pytest.raises(AssertionError, match="not idempotent"):
        async_to_sync(check)()


@pytest.mark.django_db(databases=["default", "other"])
def test_using_names_another_log():
    calls = []
    handling(lambda event: calls.append(event["n"]))
    record_numbers(1, using="other")
    with pytest.raises(AssertionError, match="1 became 2"):
        assert_idempotent(lambda: len(calls), using="other")
