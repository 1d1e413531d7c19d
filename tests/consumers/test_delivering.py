"""What is between a delivery and its saving: commits whose answer was an error, workers that fail, die or live on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

from django_eventstore import EventForwarder, Outcome, handles, record
from django_eventstore.consumers import (
    ConsumerLoop,
    OffsetStore,
    Partition,
    acquire,
    declared_consumer,
    retry,
    set_partitions,
)
from django_eventstore.exceptions import PermanentError, Unavailable
from django_eventstore.models import ConsumerState, FailedDelivery, Lease, SlotOffset
from tests.consumers.test_leases import MINUTE, expire
from tests.delivery import (
    COUNTED,
    ENOUGH,
    RecordingSender,
    consumer,
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
    with transaction.atomic():
        for number in numbers:
            record(COUNTED, {"n": number}, stream=stream)


def declare(deed, *, scope="event", **given):
    """A handler that refunds and then does the deed, in the same transaction."""

    @handles(COUNTED, **{"name": "numbers", "start": "beginning", "transaction": scope, **given})
    def follow(event):
        Refund.objects.create(order_id=event["n"])
        deed(event["n"])


def forward(**bounds):
    return EventForwarder("numbers").get_and_send(**bounds)


# --- a commit whose answer was an error ---


@BOTH
def test_an_error_after_the_commit_does_not_repeat_what_was_committed(scope):
    def fail():
        raise Failed("the mail server is down")

    declare(lambda n: n == 2 and transaction.on_commit(fail), scope=scope)
    record_in("a", 1, 2, 3)
    record_in("b", 4)
    assert 4 == forward().delivered
    assert [1, 2, 3, 4] == refunds()
    assert [] == failures()
    assert 4 == offset_of()


def test_an_error_after_the_commit_of_a_retried_event_does_not_repeat_it():
    bad = {1}

    def deed(n):
        if n in bad:
            raise Failed
        transaction.on_commit(fail)

    def fail():
        raise Failed("the mail server is down")

    declare(deed)
    record_in("a", 1, 2)
    forward()
    bad.clear()
    retry_now()
    forward()
    assert [1, 2] == refunds()
    assert [] == failures()


@BOTH
def test_a_connection_that_is_lost_while_the_server_commits_doubles_nothing(scope, monkeypatch):
    """The server has committed; the answer did not arrive."""
    commit, lost = connection._commit, []

    def commit_and_lose():
        loses = Refund.objects.filter(order_id=2).exists() and not lost
        commit()
        if loses:
            lost.append(True)
            raise OperationalError("server closed the connection unexpectedly")

    declare(lambda n: None, scope=scope)
    record_in("a", 1, 2, 3)
    monkeypatch.setattr(connection, "_commit", commit_and_lose)
    assert 3 == forward().delivered
    assert lost
    assert [1, 2, 3] == refunds()
    assert [] == failures()
    assert 3 == offset_of()


def test_what_was_rolled_back_at_its_commit_is_not_passed_over_when_the_consumer_then_waits(monkeypatch):
    """The batch came as far as saving its offset, and its commit failed; then its last event found no payment service."""
    commit, refusals = connection._commit, [OperationalError("deferred constraint")]
    down = []

    def refuse():
        if Refund.objects.count() == 3 and refusals:
            down.append(True)
            connection.rollback()
            raise refusals.pop()
        commit()

    def deed(n):
        if n == 3 and down:
            raise Unavailable("the payment service is down")

    declare(deed, scope="batch")
    record_in("", 1, 2, 3)
    forwarder = EventForwarder("numbers")
    monkeypatch.setattr(connection, "_commit", refuse)
    forwarder.get_and_send()
    assert [1, 2] == refunds()
    down.clear()
    retry_now()
    record_in("", 4)
    forwarder.get_and_send()
    forwarder.get_and_send()
    assert [1, 2, 3, 4] == refunds()


# --- a lost connection is nobody's fault ---


def cut():
    """End this process's session on the server, as a restart does."""
    with connection.copy("cutter").cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        else:
            cursor.execute(f"KILL {connection.connection.thread_id()}")
        cursor.connection.close()


@pytest.mark.postgresql
@pytest.mark.mariadb
@BOTH
def test_a_connection_that_is_cut_burns_no_attempt_and_nothing_is_lost_or_doubled(scope):
    cuts = [True, True]

    def deed(n):
        if n == 2 and cuts:
            cuts.pop()
            cut()

    declare(deed, scope=scope, max_attempts=1)
    record_in("a", 1, 2, 3)
    for _ in range(5):
        try:
            forward()
        except (OperationalError, InterfaceError):
            connection.close()
            expire()
        retry_now()
    assert [] == cuts
    assert [1, 2, 3] == refunds()
    assert [] == failures()


@pytest.mark.mariadb
def test_the_time_outs_are_those_of_a_new_session_as_well():
    seen = []

    def deed(n):
        if n == 1:
            connection.close()
            raise Failed
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.idle_transaction_timeout")
            seen.append(cursor.fetchone()[0])

    declare(deed)
    record_in("", 1, 2)
    forward()
    assert 0 < seen[0] <= 60
