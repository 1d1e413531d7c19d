"""What is decided by what the last holder of a lease committed, also where roles default to a higher isolation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta

import pytest
from django.db import connections, transaction

from django_eventstore import EventStore, OffsetStore
from django_eventstore.consumers import acquire, move
from django_eventstore.consumers.leases import Tenure
from tests.concurrency.delivery.play import until
from tests.conftest import RegisterDatabase
from tests.delivery import Elsewhere, consumer, offset_of, record_numbers

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

# pg_stat_activity stays the same for a transaction.
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture(params=["repeatable read", "serializable"])
def strict(request: pytest.FixtureRequest, register_database: RegisterDatabase) -> str:
    """The alias of a connection whose transactions see one state of the database, unless they say otherwise."""
    settings = connections["default"].settings_dict
    level = request.param.replace(" ", "\\ ")
    options = {**settings["OPTIONS"], "options": f"-c default_transaction_isolation={level}"}
    return register_database({**settings, "OPTIONS": options}, migrate=False)


def tenure(using: str) -> Tenure:
    found = acquire("numbers", using=using, length=timedelta(minutes=1))
    assert found is not None
    return found


def commit_once_waited_for(held: Tenure, elsewhere: Elsewhere, waiting: Callable[[], int | None]) -> Future[int | None]:
    """Save offset 2 in a transaction that commits only when ``waiting`` waits for it."""
    with transaction.atomic():
        OffsetStore().advance("numbers", 2, epoch=1, token=held.token)
        future = elsewhere(waiting)
        until(lambda: _waiters() > 0, "it waits")
    return future


def _waiters() -> int:
    with connections["default"].cursor() as cursor:
        cursor.execute(WAITING)
        return int(cursor.fetchone()[0])


def test_a_worker_sees_what_its_lost_session_still_commits(strict: str, elsewhere: Elsewhere) -> None:
    record_numbers(1, 2)
    OffsetStore().register([consumer()])
    held = tenure("default")

    def saved() -> int | None:
        same = Tenure(consumer="numbers", token=held.token, using=strict, length=timedelta(minutes=1))
        with same.transaction():
            progress = OffsetStore(strict).load("numbers")
            return None if progress is None else progress.offset

    assert 2 == commit_once_waited_for(held, elsewhere, saved).result(30)


def test_a_move_sees_the_batch_that_it_waited_for(strict: str, elsewhere: Elsewhere) -> None:
    record_numbers(1, 2)
    OffsetStore().register([consumer()])
    held = tenure("default")

    def moved() -> int:
        return move(consumer(), 0, using=strict)

    assert 2 == commit_once_waited_for(held, elsewhere, moved).result(30)
    assert 0 == offset_of()


def test_inside_another_transaction_the_level_is_that_ones(strict: str) -> None:
    record_numbers(1, 2)
    OffsetStore().register([consumer()])
    assert EventStore().get().complete  # in a transaction no pass is made
    with transaction.atomic(using=strict):
        with connections[strict].cursor() as cursor:
            cursor.execute("SELECT 1")
        assert 0 == move(consumer(), 1, using=strict)
    assert 1 == offset_of()
