"""PostgreSQL with synchronous_commit=off: what a reader was given has been flushed, whatever its writer asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.concurrency.checker import broken_promises, violations
from tests.concurrency.faults import installed
from tests.concurrency.stage import Stage
from tests.conftest import PostgresFactory, RegisterDatabase
from tests.servers import PostgresCluster

pytestmark = [pytest.mark.postgresql, pytest.mark.needs("postgres-binaries")]

ROUNDS = 3
MOST_CRASHES = 5

# The slowest walwriter there is and nobody else: only a commit that waits for it brings anything to the disk.
SETTINGS = {"synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"}


@pytest.fixture
def cluster(postgres_cluster: PostgresFactory) -> PostgresCluster:
    cluster = postgres_cluster(settings=SETTINGS)
    cluster.create_database("shop")
    return cluster


@pytest.fixture
def stage(cluster: PostgresCluster, register_database: RegisterDatabase) -> Iterator[Stage]:
    stage = Stage(using=register_database(cluster.django_settings("shop")))
    stage.follower()
    stage.actor("a").record_alone()
    stage.read_all()
    yield stage
    stage.close()


def _crash(stage: Stage, cluster: PostgresCluster) -> None:
    """An event is recorded and given to a reader; the server stops at once."""
    # A first commit wakes the walwriter, which writes what there is and then sleeps for its ten seconds.
    stage.actor("a").record_alone()
    time.sleep(0.3)
    stage.actor("a").record_alone()
    stage.read_all()
    cluster.kill()
    stage.disconnect()
    cluster.restart()


def test_what_a_reader_was_given_is_still_there_after_an_immediate_stop(stage: Stage, cluster: PostgresCluster) -> None:
    for _ in range(ROUNDS):
        _crash(stage, cluster)
    stage.actor("a").record_alone()
    stage.read_all()

    assert [] == violations(stage.observe(), longest_delay=600)


def test_a_pass_that_does_not_wait_for_its_commit_is_found(stage: Stage, cluster: PostgresCluster) -> None:
    broken: set[str] = set()
    for _ in range(MOST_CRASHES):  # on a busy machine the walwriter may wake up too late, and then nothing is lost
        with installed("asynchronous commit", using=stage.using):
            _crash(stage, cluster)
        stage.actor("b").record_alone()
        stage.actor("b").record_alone()
        stage.read_all()
        found = violations(stage.observe(), longest_delay=600)
        print(*found, sep="\n")
        if broken := broken_promises(found):
            break

    assert {"P1", "P2", "P3"} <= broken
