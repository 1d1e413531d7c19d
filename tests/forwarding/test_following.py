"""eventstore_forward --follow as processes: woken by commits, stopped by signals, cut off, killed, several at once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from django_eventstore import OffsetStore
from django_eventstore.inspection import log_status
from django_eventstore.models import FailedDelivery, Lease
from tests.conftest import PostgresFactory, RegisterDatabase, Spawn
from tests.delivery import record_numbers
from tests.forwarding.follower import CONSUMER
from tests.processes import Process, ProcessFailed
from tests.servers import PgBouncer, PostgresCluster
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

Follow = Callable[..., Process]


@pytest.fixture
def following(spawn: Spawn) -> Follow:
    """``following(seconds=0.2, lease=2)``: a follower that is at work; each event takes that long."""

    def start(*arguments: str, seconds: float = 0, using: Any = "default", **given: Any) -> Process:
        process = spawn("-m", "tests.forwarding.follower", json.dumps(given), str(seconds), *arguments, using=using)
        process.wait_for("Following the log.")
        return process

    return start


def wait_until(reached: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise ProcessFailed("not reached in time")
        time.sleep(0.02)


def refunded(using: str = "default") -> list[int]:
    return sorted(Refund.objects.using(using).values_list("order_id", flat=True))


def begun(process: Process) -> list[int]:
    """The events of which the handler has begun, in order, repeats included."""
    lines = process.output.splitlines()
    return [int(line.removeprefix("begins ")) for line in lines if line.startswith("begins ")]


def offset(using: str = "default") -> int:
    progress = OffsetStore(using).load(CONSUMER)
    return 0 if progress is None else progress.offset


def is_free(using: str = "default") -> bool:
    """Whether nobody holds the consumer, and whoever did has let go of it."""
    return set(Lease.objects.using(using).values_list("owner", flat=True)) <= {""}


# --- woken ---


def test_a_follower_delivers_what_is_there_and_what_comes_long_before_it_looks_by_itself(following: Follow) -> None:
    record_numbers(1)
    process = following("--interval", "3600")
    wait_until(lambda: refunded() == [1])
    time.sleep(0.5)  # it waits now

    record_numbers(2, 3)
    wait_until(lambda: refunded() == [1, 2, 3])
    record_numbers(4)
    wait_until(lambda: refunded() == [1, 2, 3, 4])

    assert 0 == process.terminate(timeout=10)
    assert "Stopped. Delivered 4 events." in process.output


def test_what_commits_right_after_a_notification_is_delivered_without_one(following: Follow) -> None:
    following("--interval", "3600")
    record_numbers(0)
    wait_until(lambda: refunded() == [0])
    for first in range(1, 200, 10):
        for number in range(first, first + 10):
            record_numbers(number)
        wait_until(lambda last=first + 9: refunded() == list(range(last + 1)), seconds=10)


@pytest.mark.postgresql
def test_what_nobody_told_of_is_found_by_looking(following: Follow, settings: Any) -> None:
    settings.EVENTSTORE = {"NOTIFY": False}
    following("--interval", "0.5")
    record_numbers(1)
    wait_until(lambda: refunded() == [1])


def test_a_follower_is_seen_in_the_status(following: Follow) -> None:
    assert log_status().follower_seen_at is None
    following()
    wait_until(lambda: log_status().follower_seen_at is not None)


# --- idle ---


def test_a_follower_that_waits_holds_no_lease_no_transaction_and_the_fewest_connections(following: Follow) -> None:
    record_numbers(1)
    before = sessions()
    following("--interval", "3600")
    wait_until(lambda: refunded() == [1])
    wait_until(is_free, seconds=5)
    time.sleep(0.5)

    found = [state for pid, state in sessions().items() if pid not in before]
    assert {"postgresql": ["idle", "idle"], "mysql": ["Sleep"], "sqlite": []}[connections["default"].vendor] == found
    assert 0 == open_transactions()


def sessions(using: str = "default") -> dict[int, str]:
    """What the other sessions of this database do, by their number."""
    connection = connections[using]
    statement = {
        "postgresql": (
            "SELECT pid, state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        ),
        "mysql": (
            "SELECT id, command FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        ),
        "sqlite": "SELECT 1, 1 WHERE false",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return dict(cursor.fetchall())


def open_transactions() -> int:
    connection = connections["default"]
    statement = {
        "postgresql": (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND xact_start IS NOT NULL AND backend_type = 'client backend'"
        ),
        "mysql": (
            "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
            "ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID()"
        ),
        "sqlite": "SELECT 0",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


# --- stopped ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_event_in_hand(following: Follow, number: signal.Signals) -> None:
    record_numbers(*range(1, 40))
    process = following(seconds=0.5)
    process.wait_for("begins 2")
    began = time.monotonic()

    os.kill(process.pid, number)

    assert 0 == process.wait(timeout=30)
    assert time.monotonic() - began < 10
    last = begun(process)[-1]
    assert last < 10
    assert list(range(1, last + 1)) == refunded()
    assert last == offset()
    assert is_free()
    assert f"Stopped. Delivered {last} events." in process.output


def test_a_signal_ends_a_long_wait(following: Follow) -> None:
    process = following("--interval", "3600")
    time.sleep(0.5)
    began = time.monotonic()
    assert 0 == process.terminate(timeout=30)
    assert time.monotonic() - began < 10


# --- cut off, crashed, killed ---


def cut_off(before: dict[int, str]) -> None:
    """End every session that was not there before."""
    vendor = connections["default"].vendor
    with connections["default"].cursor() as cursor:
        for pid in set(sessions()) - set(before):
            cursor.execute("SELECT pg_terminate_backend(%s)" if vendor == "postgresql" else "KILL %s", [pid])


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_it_survives_that_its_connections_are_cut_while_it_waits(following: Follow) -> None:
    before = sessions()
    process = following("--interval", "1")
    record_numbers(1)
    wait_until(lambda: refunded() == [1])
    wait_until(is_free, seconds=5)
    for number in (2, 3):
        cut_off(before)
        record_numbers(number)
        wait_until(lambda last=number: refunded() == list(range(1, last + 1)))

    assert 0 == process.terminate(timeout=10)


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_it_survives_that_its_connections_are_cut_while_it_delivers_and_each_effect_happens_once(
    following: Follow,
) -> None:
    before = sessions()
    record_numbers(*range(1, 21))
    process = following("--interval", "1", seconds=0.2, lease=60)
    for reached in (3, 8):
        process.wait_for(f"begins {reached}")
        cut_off(before)
    # Long before the lease is over: it is let go of when the database answers again.
    wait_until(lambda: refunded() == list(range(1, 21)), seconds=30)

    assert 0 == process.terminate(timeout=10)
    assert not FailedDelivery.objects.filter(state="parked").exists()
    assert 20 == offset()


def test_several_followers_deliver_each_event_once(following: Follow) -> None:
    processes = [following("--interval", "0.2") for _ in range(3)]
    for number in range(1, 61):
        record_numbers(number)
    wait_until(lambda: offset() == 60)

    for process in processes:
        assert 0 == process.terminate(timeout=10)
    assert list(range(1, 61)) == refunded()
    assert list(range(1, 61)) == sorted(number for process in processes for number in begun(process))


def test_after_one_is_killed_another_takes_over_when_the_lease_is_over(following: Follow) -> None:
    record_numbers(*range(1, 11))
    killed = following("--interval", "0.2", seconds=60, lease=3)
    killed.wait_for("begins 1")
    other = following("--interval", "0.2", lease=3)
    killed.kill9()

    wait_until(lambda: offset() == 10)

    assert [1] == begun(killed)
    assert list(range(1, 11)) == refunded() == begun(other)
    assert 0 == other.terminate(timeout=10)


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_it_survives_a_restart_of_the_server(
    postgres_cluster: PostgresFactory, register_database: RegisterDatabase, following: Follow, mode: Any
) -> None:
    cluster = postgres_cluster()
    cluster.create_database("shop")
    alias = register_database(cluster.django_settings("shop"))
    process = following("--interval", "0.05", using=cluster.django_settings("shop"))
    record_numbers(1, using=alias)
    wait_until(lambda: refunded(alias) == [1])

    connections[alias].close()
    cluster.stop(mode)
    wait_until(lambda: "The database did not answer, attempt 2" in process.errors)
    cluster.start()
    record_numbers(2, using=alias)
    wait_until(lambda: refunded(alias) == [1, 2])
    wait_until(lambda: any("LISTEN" in query for query in last_queries(alias)))

    assert 0 == process.terminate(timeout=10)
    assert "Stopped. Delivered 2 events." in process.output


def last_queries(using: str) -> list[str]:
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT query FROM pg_stat_activity WHERE datname = current_database()")
        return [query for (query,) in cursor.fetchall()]


# --- through PgBouncer ---


@pytest.fixture
def pooled(
    postgres_cluster: PostgresFactory,
    pgbouncer: Callable[[PostgresCluster], PgBouncer],
    register_database: RegisterDatabase,
) -> tuple[str, dict[str, object], dict[str, object]]:
    """A migrated database: this process's alias through PgBouncer, its entry, and the entry of the direct way."""
    cluster = postgres_cluster()
    cluster.create_database("shop")
    register_database(cluster.django_settings("shop"), alias="direct")
    pooler = pgbouncer(cluster)
    entry = pooler.django_settings("shop")
    return register_database(entry, migrate=False), entry, cluster.django_settings("shop")


@pytest.mark.postgresql
@pytest.mark.needs("pgbouncer")
def test_all_of_it_works_through_pgbouncer_in_transaction_mode_with_an_alias_to_listen(
    pooled: Any, following: Follow
) -> None:
    alias, entry, direct = pooled
    process = following("--interval", "3600", using=entry, listen=direct)
    wait_until(lambda: log_status(alias).follower_seen_at is not None)
    for number in range(1, 31):
        record_numbers(number, using=alias)
        if number % 10 == 0:
            wait_until(lambda last=number: refunded(alias) == list(range(1, last + 1)))
            time.sleep(0.3)

    assert 0 == process.terminate(timeout=10)
    assert "No notification arrives" not in process.errors
    assert is_free(alias)


@pytest.mark.postgresql
@pytest.mark.needs("pgbouncer")
def test_listening_through_pgbouncer_in_transaction_mode_is_noticed_and_looking_takes_its_place(
    pooled: Any, following: Follow
) -> None:
    alias, entry, _ = pooled
    process = following("--interval", "3600", using=entry)
    wait_until(lambda: "No notification arrives through alias 'default'" in process.errors)
    record_numbers(1, using=alias)
    wait_until(lambda: refunded(alias) == [1], seconds=10)

    assert 0 == process.terminate(timeout=10)
