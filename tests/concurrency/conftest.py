"""A log that is new when a test begins and gone when it ends, on a database that real processes share."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from django.db import connections

from django_eventstore import EventStore
from django_eventstore.models import ConsumerOffset, ConsumerState, Epoch, EventKey, EventType, Lease, StreamVersion
from django_eventstore.store import ensure_log
from django_eventstore.store.door import open_door
from tests.concurrency.stage import Stage
from tests.shop.models import Counter

SEED = "EVENTSTORE_TEST_SEED"
SECONDS = "EVENTSTORE_TEST_SECONDS"


def forget_everything(using: str) -> None:
    """Make the log what it is after ``migrate``: positions begin at 1 again, which no production code may do."""
    connection = connections[using]
    with open_door(using), connection.cursor() as cursor:
        for table in ("eventstore_position", "eventstore_entry"):
            cursor.execute(f"DELETE FROM {table}")
        if connection.vendor == "postgresql":
            cursor.execute("DELETE FROM eventstore_tick")
        elif connection.vendor == "mysql":
            cursor.execute("DELETE FROM eventstore_pending")
            cursor.execute("UPDATE eventstore_head SET head = 0, barrier = 0")
            cursor.execute("UPDATE eventstore_shown SET position = 0")
        else:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'eventstore_position'")
        for model in (StreamVersion, EventKey, EventType, ConsumerOffset, ConsumerState, Lease, Epoch, Counter):
            model._default_manager.using(using).all().delete()
    ensure_log(using)
    # Without a tick the first pass is a rebase; what the tests are about is the passes after it.
    EventStore(using).get()


@pytest.fixture
def log(transactional_db: None) -> Iterator[str]:
    """The alias of a database whose log is new. What is written is committed; it is taken away after the test."""
    forget_everything("default")
    yield "default"
    forget_everything("default")


@pytest.fixture
def seed() -> str:
    """Printed, and repeated by EVENTSTORE_TEST_SEED: the same decisions, though not the same timing."""
    chosen = os.environ.get(SEED) or secrets.token_hex(4)
    print(f"{SEED}={chosen}")
    return chosen


@pytest.fixture
def seconds() -> float:
    """How long a random run lasts; EVENTSTORE_TEST_SECONDS makes it longer."""
    return float(os.environ.get(SECONDS, "6"))


@pytest.fixture
def stage(log: str) -> Iterator[Stage]:
    """Connections to the log that take turns."""
    stage = Stage(using=log)
    yield stage
    stage.close()
