"""Telling followers of a commit: when, how often, and that it disturbs nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection, transaction
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_eventstore import arecord
from django_eventstore.forwarding import notifying
from django_eventstore.forwarding.notifying import FOLLOWER, Notifier, notifier
from django_eventstore.models import EventEntry, Heartbeat
from tests.delivery import COUNTED, Clock, record_numbers, rolled_back

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def notified(captured: CaptureQueriesContext) -> int:
    return sum("pg_notify" in query["sql"] for query in captured)


def follower_seen(*, ago: timedelta = timedelta(0)) -> None:
    Heartbeat.objects.update_or_create(name=FOLLOWER, defaults={"at": timezone.now() - ago})


def test_a_commit_is_notified_once_after_it() -> None:
    follower_seen()
    with CaptureQueriesContext(connection) as captured:
        record_numbers(1, 2, 3)
    statements = [query["sql"] for query in captured]
    assert 1 == notified(captured)
    assert "pg_notify" in statements[-1]
    assert "COMMIT" in statements
    assert statements.index("COMMIT") < len(statements) - 1


def test_what_is_rolled_back_is_not_notified() -> None:
    follower_seen()
    with CaptureQueriesContext(connection) as captured, rolled_back():
        record_numbers(1)
    assert 0 == notified(captured)


def test_without_a_follower_nothing_is_sent_and_it_is_asked_for_rarely() -> None:
    record_numbers(1)
    with CaptureQueriesContext(connection) as captured:
        for number in range(5):
            record_numbers(number)
    assert not any("heartbeat" in query["sql"] or "pg_notify" in query["sql"] for query in captured)


def test_a_follower_that_was_seen_long_ago_counts_for_none() -> None:
    follower_seen(ago=timedelta(minutes=5))
    with CaptureQueriesContext(connection) as captured:
        record_numbers(1)
    assert 0 == notified(captured)


def test_a_follower_that_comes_later_is_found_within_half_a_minute() -> None:
    clock = Clock()
    made = Notifier(clock=clock)
    with CaptureQueriesContext(connection) as captured:
        made(using="default")
        follower_seen()
        clock.now += 29
        made(using="default")
        assert 0 == notified(captured)
        clock.now += 1
        made(using="default")
    assert 1 == notified(captured)


def test_the_first_is_sent_at_once_and_then_at_most_one_in_two_milliseconds() -> None:
    follower_seen()
    clock = Clock()
    made = Notifier(clock=clock)
    sent = []
    for _ in range(11):
        with CaptureQueriesContext(connection) as captured:
            made(using="default")
        sent.append(notified(captured))
        clock.now += 0.0005
    assert [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0] == sent


@override_settings(EVENTSTORE={"NOTIFY": False})
def test_it_can_be_turned_off() -> None:
    follower_seen()
    with CaptureQueriesContext(connection) as captured:
        record_numbers(1)
    assert 0 == notified(captured)


def test_without_autocommit_nothing_is_sent_since_it_would_begin_a_transaction() -> None:
    follower_seen()
    transaction.set_autocommit(False)
    try:
        with CaptureQueriesContext(connection) as captured:
            notifier(using="default")
        assert 0 == len(captured)
    finally:
        transaction.set_autocommit(True)


def test_a_failure_is_logged_and_reaches_nobody_and_is_not_repeated_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follower_seen()

    def fail(using: str) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(notifying, "notify", fail)
    record_numbers(1)
    record_numbers(2)
    assert 2 == EventEntry.objects.count()
    assert ["No follower was notified"] == caplog.messages


@override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": "allow"})
def test_a_commit_from_async_code_is_notified() -> None:
    follower_seen()
    with CaptureQueriesContext(connection) as captured:
        async_to_sync(arecord)(COUNTED, {"n": 1})
    assert 1 == notified(captured)


class InATestCase(TestCase):
    def test_hooks_that_run_inside_the_test_transaction_send_nothing(self) -> None:
        follower_seen()
        with CaptureQueriesContext(connection) as captured, self.captureOnCommitCallbacks(execute=True):
            record_numbers(1)
        assert 0 == notified(captured)
