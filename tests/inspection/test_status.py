"""The status of the log and of its consumers says what is so, and counts no further than it must."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_eventstore import EventForwarder, EventStore
from django_eventstore.consumers import OffsetStore, acquire, declared_consumers, pause, set_partitions
from django_eventstore.inspection import ConsumerStatus, consumer_statuses, log_status
from django_eventstore.models import ConsumerOffset, Epoch, FailedDelivery, Heartbeat, Lease
from tests.inspection.planting import remove_positions
from tests.store.log import placed, save

pytestmark = pytest.mark.django_db(transaction=True)

# The module, whose name the package does not hide.
STATUS = sys.modules[log_status.__module__]
RECORDER = "tests.inspection.senders.Recorder"

Declare = Callable[..., None]


@pytest.fixture
def declare() -> Iterator[Declare]:
    """Declare consumers by name and register where they start."""
    overrides = []

    def enter(**consumers: dict[str, Any]) -> None:
        override = override_settings(
            EVENTSTORE={"CONSUMERS": {name: {"SENDER": RECORDER, **given} for name, given in consumers.items()}}
        )
        override.enable()
        overrides.append(override)

    yield enter
    for override in overrides:
        override.disable()


def register() -> None:
    OffsetStore().register(declared_consumers().values())


def only() -> ConsumerStatus:
    (status,) = consumer_statuses()
    return status


def test_the_log_is_told_with_its_head_and_epoch() -> None:
    save(1, 2, 3)
    EventStore().get()

    status = log_status()

    assert (Epoch.objects.get().log, 1, 3) == (status.log, status.epoch, status.head)
    assert (0, False) == (status.unsequenced, status.unsequenced_is_capped)
    assert () == status.consumers


def test_heartbeats_are_none_until_there_is_one() -> None:
    assert (None, None) == (log_status().worker_seen_at, log_status().beat_seen_at)
    at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    Heartbeat.objects.create(name="worker", at=at)
    Heartbeat.objects.create(name="beat", at=at + timedelta(seconds=1))

    status = log_status()

    assert (at, at + timedelta(seconds=1)) == (status.worker_seen_at, status.beat_seen_at)


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_looking_runs_no_pass() -> None:
    save(1, 2, 3)

    status = log_status()

    assert (0, 3) == (status.head, status.unsequenced)
    assert [] == placed()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_unsequenced_entries_are_counted_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STATUS, "COUNT_LIMIT", 3)
    save(1, 2, 3)
    assert (3, False) == (log_status().unsequenced, log_status().unsequenced_is_capped)
    save(4)
    assert (3, True) == (log_status().unsequenced, log_status().unsequenced_is_capped)


def test_a_declared_consumer_that_never_ran_has_no_lag(declare: Declare) -> None:
    declare(new={})

    status = only()

    assert (True, RECORDER, None, None, None) == (
        status.declared,
        status.sender,
        status.offset,
        status.lag,
        status.lag_seconds,
    )
    assert ("unknown", "never run") == (status.state, status.reason)


def test_a_consumer_with_rows_and_no_declaration_is_told_as_such() -> None:
    ConsumerOffset.objects.create(consumer="former", offset=7, epoch=1, token=3)

    status = only()

    assert ("former", False, "", 7, None) == (status.name, status.declared, status.sender, status.offset, status.lag)
    assert "unknown" == status.state
    assert "not declared" in status.reason


def test_a_consumer_of_all_events_lags_by_the_distance_to_the_head(declare: Declare) -> None:
    declare(all={"START": 2})
    save(*range(10))
    EventStore().get()
    register()

    status = only()

    assert (2, 8, False) == (status.offset, status.lag, status.lag_is_capped)
    assert status.lag_seconds is not None
    assert 0 <= status.lag_seconds < 60


def test_what_retention_removed_is_no_lag(declare: Declare) -> None:
    declare(all={"START": 2}, some={"START": 2, "EVENTS": ["test.*"]})
    save(*range(10))
    EventStore().get()
    register()
    remove_positions(1, 6)

    assert [4, 4] == [each.lag for each in consumer_statuses()]
    remove_positions(7, 10)
    assert [(0, None), (0, None)] == [(each.lag, each.lag_seconds) for each in consumer_statuses()]


def test_a_consumer_of_some_types_lags_by_those(declare: Declare) -> None:
    declare(some={"START": "beginning", "EVENTS": ["test.Wanted", "more.*"]})
    save(1, 2, type="test.Other")
    save(3, 4, type="test.Wanted")
    save(5, type="more.Wanted")
    save(6, type="test.Other")
    EventStore().get()
    register()
    assert (3, False) == (only().lag, only().lag_is_capped)

    EventForwarder("some").get_and_send()

    assert (0, None) == (only().lag, only().lag_seconds)


def test_the_age_is_that_of_the_next_wanted_event(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(some={"START": 1, "EVENTS": ["test.Wanted", "test.Too"]}, all={"START": 1})
    save(1, type="test.Wanted")
    save(2, type="test.Too")
    (wanted,) = save(3, type="test.Wanted")
    EventStore().get()
    register()
    second = EventStore().get(1, 1).entries[0]
    assert second.type == "test.Too"
    now = wanted.timestamp + timedelta(hours=1)
    monkeypatch.setattr(STATUS.timezone, "now", lambda: now)

    expected = (now - second.timestamp).total_seconds()

    assert [expected, expected] == [each.lag_seconds for each in consumer_statuses()]


def test_typed_events_are_counted_up_to_the_limit(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STATUS, "COUNT_LIMIT", 4)
    declare(some={"START": "beginning", "EVENTS": ["a.A", "b.B"]})
    save(1, 2, type="a.A")
    save(1, 2, type="b.B")
    EventStore().get()
    register()
    assert (4, False) == (only().lag, only().lag_is_capped)
    save(3, type="b.B")
    EventStore().get()
    assert (4, True) == (only().lag, only().lag_is_capped)


def test_no_statement_counts_positions_without_a_limit(declare: Declare) -> None:
    declare(all={"START": "beginning"}, some={"START": "beginning", "EVENTS": ["test.*"]})
    save(*range(3))
    EventStore().get()
    register()

    with CaptureQueriesContext(connection) as queries:
        log_status()

    # Failed deliveries are as many as a consumer may have before it is paused.
    counted = [query["sql"] for query in queries if "eventstore_failed_delivery" not in query["sql"]]
    counts = [sql for sql in counted if "count(" in sql.lower()]
    assert counts
    assert [] == [sql for sql in counts if "limit" not in sql.lower()]


def test_a_paused_consumer_says_why(declare: Declare) -> None:
    declare(all={})
    register()
    pause("all", reason="the warehouse moves", using="default")

    assert ("paused", "the warehouse moves") == (only().state, only().reason)


def test_a_consumer_whose_events_fail_runs_on_and_counts_them(declare: Declare) -> None:
    declare(all={"START": "beginning", "OPTIONS": {"fails_at": (2, 4, 6)}})
    save(1)
    save(2, 3, stream="order-2")
    save(4, stream="order-4")
    save(6)
    register()
    assert (0, 0, None, "") == (only().blocked, only().parked, only().failing_since, only().reason)
    EventForwarder("all").get_and_send()

    status = only()

    assert ("running", "3 streams blocked") == (status.state, status.reason)
    assert (3, 0, 5, 0, 1) == (status.blocked, status.parked, status.offset, status.lag, status.partitions)
    # Those of the consumer as a whole, whose sender is well.
    assert (0, "", None) == (status.attempts, status.error, status.retry_at)
    first = FailedDelivery.objects.order_by("first_failed_at").first()
    assert first is not None
    assert first.first_failed_at == status.failing_since
    FailedDelivery.objects.filter(position=4).update(state="parked")
    assert (2, 1, "2 streams blocked, 1 parked") == (only().blocked, only().parked, only().reason)
    FailedDelivery.objects.filter(position=2).delete()
    assert "1 stream blocked, 1 parked" == only().reason
    FailedDelivery.objects.update(state="parked")
    assert (0, 2, "2 parked") == (only().blocked, only().parked, only().reason)


def test_an_event_that_a_worker_has_in_hand_for_the_first_time_has_not_failed(declare: Declare) -> None:
    declare(all={"START": "beginning", "OPTIONS": {"fails_at": 1}})
    save(1)
    register()
    EventForwarder("all").get_and_send()
    FailedDelivery.objects.update(state="trying")

    assert (0, 0, None, "") == (only().blocked, only().parked, only().failing_since, only().reason)


def test_failures_do_not_hide_why_a_consumer_stands_still(declare: Declare) -> None:
    declare(all={"START": "beginning", "OPTIONS": {"fails_at": 1}})
    save(1)
    register()
    EventForwarder("all").get_and_send()
    pause("all", reason="strike", using="default")

    assert ("paused", "strike", 1) == (only().state, only().reason, only().blocked)


def test_of_several_partitions_the_lowest_offset_is_told(declare: Declare) -> None:
    declare(all={"START": "beginning"})
    for number in range(40):
        save(number, stream=f"order-{number * 13}")
    EventStore().get()
    register()
    set_partitions(declared_consumers()["all"], 2, using="default")
    EventForwarder("all").loops(2)[0].run(most_events=1_000, longest=timedelta(seconds=20))

    assert (2, 0, 40) == (only().partitions, only().offset, only().lag)
    EventForwarder("all").get_and_send()
    assert (40, 0) == (only().offset, only().lag)


def test_the_database_decides_whether_the_wait_is_over(declare: Declare) -> None:
    declare(all={"START": "beginning", "OPTIONS": {"unavailable": True}})
    save(1)
    register()
    EventForwarder("all").get_and_send()
    states = STATUS.StateRow.objects.filter(consumer="all")

    states.update(retry_at=datetime(2100, 1, 1, tzinfo=timezone.utc))
    assert ("waiting", "ConnectionError: nobody listens") == (only().state, only().reason)
    states.update(retry_at=datetime(2000, 1, 1, tzinfo=timezone.utc))
    assert ("running", "") == (only().state, only().reason)
    assert (0, 0, 1) == (only().blocked, only().parked, only().attempts)


def test_a_held_consumer_names_its_worker(declare: Declare) -> None:
    declare(all={})
    register()
    assert "" == only().held_by
    tenure = acquire("all", using="default", length=timedelta(seconds=60))
    assert tenure is not None
    assert only().held_by
    # A worker that died lets go of nothing; its lease just ends.
    Lease.objects.update(expires_at=datetime(2000, 1, 1, tzinfo=timezone.utc))
    assert "" == only().held_by
    assert Lease.objects.get().owner
    tenure.renew()
    assert only().held_by
    tenure.release()
    assert "" == only().held_by


def test_consumers_come_by_name(declare: Declare) -> None:
    declare(b={}, a={}, c={})
    ConsumerOffset.objects.create(consumer="ab", offset=7, epoch=1, token=3)

    assert ["a", "ab", "b", "c"] == [each.name for each in log_status().consumers]
