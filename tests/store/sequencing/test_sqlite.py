"""SQLite: the position is drawn in the writer's transaction."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import connections, transaction

from django_eventstore import EventStore
from django_eventstore.models import LogPosition
from django_eventstore.store.sequencing import sequencer
from tests.store.conftest import Connect
from tests.store.log import execute, log_numbers, numbers, placed, save

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def test_a_position_is_there_with_its_commit_and_gone_with_its_rollback(second: str) -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        save(1, 2)
        raise ZeroDivisionError
    save(3)

    assert [1] == [position for position, _ in placed(second)]
    assert [3] == log_numbers(second)


def test_a_position_of_a_rolled_back_savepoint_is_given_again() -> None:
    with transaction.atomic():
        save(1)
        with suppress(ZeroDivisionError), transaction.atomic():
            save(2)
            raise ZeroDivisionError
        save(3)

    assert [1, 3] == log_numbers()
    assert [1, 2] == [position for position, _ in placed()]


def test_a_reader_sees_nothing_of_an_open_writer_and_does_not_wait_for_it(second: str) -> None:
    save(1)
    with transaction.atomic():
        save(2)
        page = EventStore(second).get()
        assert ([1], True, 1) == (numbers(page), page.complete, page.head)

    assert [1, 2] == log_numbers(second)


def test_ignored_inserts_leave_no_hole() -> None:
    save(1)
    execute("INSERT OR IGNORE INTO eventstore_type (name) VALUES ('test.Counted')")
    [(id_,)] = execute("SELECT id FROM eventstore_entry")
    with pytest.raises(Exception, match="append-only"):
        execute("INSERT OR IGNORE INTO eventstore_entry (id, type, payload) VALUES (%s, 'a.b', '{}')", [id_])
    save(2)

    assert [1, 2] == log_numbers()


def test_a_rebase_gives_an_entry_the_slot_that_its_stream_has() -> None:
    streams = ["order-1", "order-42", "", "é🦆", "x", "ab", "abc", "abcd", "abcdefgh"]
    [(trigger,)] = execute("SELECT sql FROM sqlite_master WHERE name = 'eventstore_entry_sequence'")
    for number, stream in enumerate(streams):
        save(number, stream=stream)
    execute("DROP TRIGGER eventstore_entry_sequence")
    try:
        for number, stream in enumerate(streams):
            save(100 + number, stream=stream, type="test.Unknown")
        assert 9 == sequencer("default").unsequenced(limit=100)
        assert 3 == sequencer("default").unsequenced(limit=3)
        assert 9 == sequencer("default").rebase().numbered
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute(trigger)

    assert [*range(9), *range(100, 109)] == log_numbers()
    slots = list(LogPosition.objects.order_by("position").values_list("slot", flat=True))
    assert slots[:9] == slots[9:]
    assert len(set(slots)) > 4


@pytest.mark.parametrize("mode", ["DEFERRED", "EXCLUSIVE"])
def test_other_transaction_modes_work(connect: Connect, mode: str) -> None:
    other = connect("other_mode", options={"transaction_mode": mode})
    with transaction.atomic(using=other):
        save(1, using=other)
    save(2)

    assert [1, 2] == log_numbers(other)
