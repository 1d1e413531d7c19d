"""A worker that is frozen in the middle of a transaction: its session ends with its lease, and others go on."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings

from django_eventstore import EventForwarder, Outcome, handles, record
from django_eventstore.consumers import acquire, leases
from django_eventstore.consumers.failures import FailureBook
from django_eventstore.consumers.timeouts import limit_session, limit_transaction
from tests.consumers.test_leases import expire
from tests.delivery import COUNTED, RecordingSender, forwarder_of, offset_of, record_numbers, refunds, retry_now
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

FROZEN = """
import django, os, signal
django.setup()
from datetime import timedelta
from django.test import override_settings
from django_eventstore import EventForwarder, handles
from tests.shop.models import Counter, Refund

@handles("test.Counted", name="numbers", start="beginning", transaction={scope!r})
def follow(event):
    Counter.objects.select_for_update().get(name="shared")
    Refund.objects.create(order_id=event["n"])
    print("frozen", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)

with override_settings(EVENTSTORE={{"LEASE": timedelta(seconds=2)}}):
    print(EventForwarder("numbers").get_and_send())
"""


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize("scope", ["event", "batch"])
def test_a_frozen_worker_gives_back_its_locks_when_its_lease_is_over_and_saves_nothing_when_it_wakes(scope, spawn):
    from tests.shop.models import Counter

    Counter.objects.create(name="shared")
    record_numbers(1, 2)
    frozen = spawn("-c", FROZEN.format(scope=scope))
    frozen.wait_for("frozen")

    @handles(COUNTED, name="numbers", start="beginning", transaction=scope)
    def follow(event):
        Counter.objects.select_for_update().get(name="shared")
        Refund.objects.create(order_id=event["n"])

    began, delivered = time.monotonic(), 0
    with override_settings(EVENTSTORE={"LEASE": timedelta(seconds=2)}):
        while delivered < 2 and time.monotonic() - began < 20:
            delivered += EventForwarder("numbers").get_and_send().delivered
            time.sleep(0.05)
    assert 2 == delivered
    assert time.monotonic() - began < 10
    frozen.cont()
    frozen.wait(check=False)
    assert [1, 2] == refunds()
    assert 2 == offset_of()


@pytest.mark.postgresql
def test_the_time_outs_end_with_the_transaction():
    def shown(name):
        with connection.cursor() as cursor:
            cursor.execute(f"SHOW {name}")
            return cursor.fetchone()[0]

    before = shown("lock_timeout")
    with transaction.atomic():
        limit_transaction(using="default", seconds=3)
        assert ("3s", "1500ms") == (shown("idle_in_transaction_session_timeout"), shown("lock_timeout"))
    assert ("0", before) == (shown("idle_in_transaction_session_timeout"), shown("lock_timeout"))
    connection.close()  # a new one comes with a time-out of the project's own
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '20ms'")
    try:
        with transaction.atomic():
            limit_transaction(using="default", seconds=3)
            assert ("3s", "20ms") == (shown("idle_in_transaction_session_timeout"), shown("lock_timeout"))
    finally:
        connection.close()


@pytest.mark.mariadb
def test_the_time_outs_of_a_session_are_put_back():
    def shown():
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.idle_transaction_timeout, @@SESSION.innodb_lock_wait_timeout")
            return cursor.fetchone()

    before = shown()
    with limit_session(using="default", length=timedelta(seconds=5)):
        assert (5, 2) == shown()
    assert before == shown()


@pytest.mark.postgresql
@pytest.mark.parametrize("place", ["put_aside", "move_on", "begin_try"])
def test_no_transaction_that_locks_the_lease_outlives_it(place, monkeypatch):
    """Frozen in one that has no time-out, a worker would hold its consumer for ever."""
    shown, keep, bad = [], getattr(FailureBook, place), {1}

    def look(*arguments, **given):
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            shown.append(cursor.fetchone()[0])
        return keep(*arguments, **given)

    def script(batch):
        return Outcome(done=len(batch.entries), refused={n: ValueError() for n in bad})

    monkeypatch.setattr(FailureBook, place, look)
    with transaction.atomic():
        record(COUNTED, {"n": 1}, stream="a")
    forwarder = forwarder_of(RecordingSender(script))
    acquire("numbers", using="default", length=timedelta(seconds=5))
    expire()
    forwarder.get_and_send()
    bad.clear()
    retry_now()
    forwarder.get_and_send()
    assert shown
    assert "0" not in shown


@pytest.mark.postgresql
def test_taking_the_lease_is_limited_as_well(monkeypatch):
    shown, owner = [], leases._owner

    def look():
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            shown.append(cursor.fetchone()[0])
        return owner()

    monkeypatch.setattr(leases, "_owner", look)
    acquire("numbers", using="default", length=timedelta(seconds=5))
    assert ["5s"] == shown
