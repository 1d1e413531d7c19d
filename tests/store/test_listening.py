"""Hearing commits on PostgreSQL: which log, which connection, and what becomes of a lost one."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from django_eventstore.delivery import DeliveryPolicy
from django_eventstore.store import Listener, notify
from tests.delivery import Clock
from tests.store.log import execute

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

RETRY = DeliveryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=4), draw=lambda low, high: high)


def pause(seconds: float, files: Sequence[int] = ()) -> bool:
    select.select(files, [], [], seconds)
    return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listener(clock: Clock) -> Any:
    made = Listener("default", pause=pause, clock=clock, retry=RETRY)
    yield made
    made.close()


def heard(listener: Listener, *, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not listener.hears():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        pause(left, listener.files)
    return True


def test_what_is_notified_is_heard_once(listener: Listener) -> None:
    assert listener.connect()
    assert not listener.hears()
    notify("default")
    assert heard(listener)
    assert not heard(listener, seconds=0.1)


def test_it_connects_once_and_says_so(listener: Listener) -> None:
    assert not listener.is_listening
    assert listener.connect()
    assert listener.is_listening
    assert not listener.connect()


def test_a_notification_in_a_transaction_is_heard_after_its_commit(listener: Listener) -> None:
    listener.connect()
    with transaction.atomic():
        notify("default")
        assert not heard(listener, seconds=0.1)
    assert heard(listener)


def test_logs_of_two_schemas_do_not_wake_each_other(listener: Listener) -> None:
    listener.connect()
    execute("CREATE SCHEMA second")
    try:
        execute("CREATE TABLE second.eventstore_entry (id bigint)")
        execute("SET search_path = second")
        notify("default")
        assert not heard(listener, seconds=0.2)
        execute("RESET search_path")
        notify("default")
        assert heard(listener)
    finally:
        execute("RESET search_path")
        execute("DROP SCHEMA second CASCADE")


def test_it_has_a_connection_of_its_own_outside_any_transaction(listener: Listener) -> None:
    connections["default"].ensure_connection()
    before = connections["default"].connection
    listener.connect()
    assert before is connections["default"].connection
    states = execute("SELECT state FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()")
    assert [("idle",)] == states


def test_the_kernel_is_asked_to_notice_a_connection_whose_other_end_is_gone(listener: Listener) -> None:
    listener.connect()
    parameters = listener._wrapper.connection.info.get_parameters()
    assert {"keepalives_idle": "30", "connect_timeout": "3"}.items() <= parameters.items()


def cut() -> None:
    execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    )


def test_a_lost_connection_counts_as_heard_and_is_made_again_after_a_while(
    listener: Listener, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    listener.connect()
    cut()
    assert heard(listener)
    assert not listener.is_listening
    assert () == listener.files
    assert not listener.hears()
    assert ["Commits are not heard through alias 'default'; looking again and again"] == caplog.messages

    assert not listener.connect()
    clock.now += 1
    with caplog.at_level(logging.INFO):
        assert listener.connect()
    assert "Commits are heard again through alias 'default'" == caplog.messages[-1]
    notify("default")
    assert heard(listener)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_connection_that_cannot_be_made_is_tried_more_and_more_rarely_and_warned_of_once(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections["other"].settings_dict, "PORT", "1")
    listener = Listener("default", alias="other", pause=pause, clock=clock, retry=RETRY)
    tries = []
    for _ in range(20):
        before = clock.now
        listener.connect()
        tries.append(listener._failures)
        clock.now = before + 1
    assert [1, 2, 2, 3, 3, 3, 3, 4] == tries[:8]
    assert 1 == sum(record.levelno == logging.WARNING for record in caplog.records)


def test_what_does_not_come_back_is_no_listening(
    listener: Listener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_eventstore.store.listening.notify", lambda using, payload: None)
    monkeypatch.setattr(listener, "_clock", time.monotonic)
    assert not listener.connect()
    assert not listener.is_listening
    assert "EVENTSTORE['LISTEN_ALIAS']" in caplog.text


def test_asked_to_end_it_does_not_wait_for_the_echo(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_eventstore.store.listening.notify", lambda using, payload: None)
    listener = Listener("default", pause=lambda seconds, files: True, clock=clock)
    assert listener.connect()
    listener.close()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_connection_of_a_pool_is_not_taken_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = connections["other"].settings_dict
    monkeypatch.setitem(pooled, "OPTIONS", {"pool": {"min_size": 1}})
    monkeypatch.setitem(pooled, "NAME", connections["default"].settings_dict["NAME"])
    listener = Listener("default", alias="other", pause=pause)
    assert listener.connect()  # psycopg_pool is not even installed
    listener.close()
    assert {"pool": {"min_size": 1}} == pooled["OPTIONS"]
