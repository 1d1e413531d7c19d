"""EventStoreTestMixin, in the test cases it is made for, run as unittest runs them."""

from __future__ import annotations

import unittest
from decimal import Decimal

import pytest
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

from django_eventstore import EventStore, handles
from django_eventstore.handlers import handler_registry
from django_eventstore.testing import EventStoreTestMixin, Faults
from tests.delivery import COUNTED, numbers_of, record_numbers, refunds
from tests.shop.events import OrderCancelled
from tests.shop.models import Order, Refund


def refunding():
    @handles(COUNTED, name="refund")
    def refund(event):
        Refund.objects.get_or_create(order_id=event["n"])


class Common:
    def setUp(self):
        super().setUp()
        refunding()
        self.addCleanup(handler_registry.unregister, "refund")  # before the flush, which would make it known to the log
        record_numbers(1)

    def test_set_up_counts(self):
        record_numbers(2)
        assert [1, 2] == numbers_of(self.recorded_events)
        self.assert_recorded(COUNTED, times=2)

    def test_what_was_recorded_is_delivered(self):
        assert {"refund": 1} == self.drain().delivered
        assert [1] == refunds()

    def test_its_methods_take_what_the_functions_take(self):
        order = Order.place(Decimal(1))
        order.cancel("late")
        [entry] = self.assert_recorded(OrderCancelled, stream=order, reason="late", times=1)
        self.assert_not_recorded(OrderCancelled, fields={"reason": "dear"})
        with self.captured_events() as events:
            record_numbers(2)
        self.assert_recorded(COUNTED, n=2, within=events, metadata={})
        self.assert_not_recorded(COUNTED, n=1, within=events)
        self.drain(consumers=["refund"], faults=Faults(crash=True), until_quiet=True, senders={}, raise_errors=False)
        record_numbers(3)
        self.assert_idempotent(repeat="crash", consumers="refund")
        assert [1, 2, 3] == refunds()
        assert "shop.OrderCancelled" == entry.type

    def test_what_did_not_go_through_record_is_delivered(self):
        EventStore().save(COUNTED, {"n": 2})
        self.drain()
        assert [1, 2] == refunds()

    async def test_the_mark_is_set_for_async_tests_too(self):
        assert self.recorded_events is not None


@override_settings(EVENTSTORE={"WAKE_UP": False})
class InATestCase(Common, EventStoreTestMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        record_numbers(-1)
        cls.drain()

    def test_set_up_test_data_does_not_count(self):
        self.assert_not_recorded(COUNTED, n=-1)


@override_settings(EVENTSTORE={"WAKE_UP": False})
class InATransactionTestCase(Common, EventStoreTestMixin, TransactionTestCase):
    pass


@override_settings(EVENTSTORE={"WAKE_UP": False})
class ForgetsToCallSuper(EventStoreTestMixin, TestCase):
    def setUp(self):
        record_numbers(1)

    def test_a_set_up_that_does_not_call_super_is_no_trouble(self):
        self.assert_recorded(COUNTED, n=1)


@override_settings(EVENTSTORE={"WAKE_UP": False})
class OfAnotherLog(EventStoreTestMixin, TestCase):
    databases = {"other"}
    eventstore_using = "other"

    def test_it_looks_at_that_log_and_at_no_other(self):
        numbers = []

        @handles(COUNTED, name="numbers")
        def note(event):
            numbers.append(event["n"])

        record_numbers(1, using="other")
        self.assert_recorded(COUNTED, n=1)
        with self.captured_events() as events:
            record_numbers(2, using="other")
        assert 1 == len(events)
        assert {"numbers": 2} == self.drain().delivered
        assert [1, 2] == numbers


class WithoutADatabase(EventStoreTestMixin, SimpleTestCase):
    __test__ = False  # the tests below run it
    ran: list[str] = []

    def runTest(self):
        self.ran.append("test")


class Skipped(EventStoreTestMixin, SimpleTestCase):
    __test__ = False

    @unittest.skip("for a reason")
    def runTest(self):
        raise AssertionError


def test_without_a_database_the_test_is_in_error_and_the_run_goes_on():
    result = unittest.TestResult()
    WithoutADatabase()(result)
    [(_, trace)] = result.errors
    assert "not allowed" in trace
    assert [] == WithoutADatabase.ran
    with pytest.raises(Exception, match="not allowed"):
        WithoutADatabase().run()


def test_a_skipped_test_asks_for_no_database():
    result = unittest.TestResult()
    Skipped()(result)
    assert ([], ["for a reason"]) == (result.errors, [reason for _, reason in result.skipped])


class Debugged(EventStoreTestMixin, SimpleTestCase):
    __test__ = False

    def runTest(self):
        self.assert_recorded(COUNTED)


def test_without_a_beginning_it_is_an_error():
    with pytest.raises(AssertionError, match="has not begun"):
        Debugged().debug()
