"""MariaDB: pending rows, the head row as the lock, and the shown mark."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction

from django_eventstore import EventEntry, EventStore
from django_eventstore.models import Head, Pending, Shown
from django_eventstore.store.door import open_door
from django_eventstore.store.sequencing import Pass, sequence, sequencer
from tests.conftest import MariaDBFactory, RegisterDatabase
from tests.store.conftest import Connect, Elsewhere
from tests.store.log import execute, log_numbers, numbers, placed, save

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]


def _marks() -> tuple[int, int, int]:
    return (Head.objects.get().head, Shown.objects.get().position, Pending.objects.count())


def test_a_backlog_larger_than_a_pass_is_taken_in_several(second: str) -> None:
    with transaction.atomic():
        save(*range(25))

    passes = []
    for number in range(3):
        passes.append(sequencer("default").run(max_entries=10))
        save(100 + number, using=second)

    assert [(10, False, True), (10, False, True), (7, True, False)] == [
        (done.numbered, done.reached, done.more) for done in passes
    ]
    assert [*range(25), 100, 101, 102] == log_numbers()
    assert (28, 28, 0) == _marks()


def test_of_two_sequencers_the_second_waits_and_then_runs_its_own_pass(second: str, elsewhere: Elsewhere) -> None:
    assert [] == log_numbers()
    connections[second].set_autocommit(False)
    execute("SELECT head FROM eventstore_head FOR UPDATE", using=second)
    save(1)
    waiting = elsewhere(lambda: EventStore().get())
    time.sleep(0.3)
    assert not waiting.done()
    save(2)
    connections[second].rollback()

    page = waiting.result(5)
    assert ([1, 2], True) == (numbers(page), page.complete)


def test_a_lock_held_for_long_makes_the_page_incomplete_in_time(second: str) -> None:
    save(1)
    assert [1] == log_numbers()
    save(2)
    connections[second].set_autocommit(False)
    execute("SELECT head FROM eventstore_head FOR UPDATE", using=second)

    began = time.monotonic()
    page = EventStore().get()
    took = time.monotonic() - began
    connections[second].rollback()

    assert ([1], False, None) == (numbers(page), page.complete, page.head)
    assert 0.9 < took < 10  # InnoDB looks once a second
    assert [1, 2] == log_numbers()


def test_a_serializable_reader_in_an_open_transaction_delays_no_pass_for_long(connect: Connect) -> None:
    """Its plain reads lock what they read, the shown row too."""
    strict = connect("strict", options={"isolation_level": "serializable"})
    save(1)
    assert [1] == log_numbers()
    with transaction.atomic(using=strict):
        assert [1] == numbers(EventStore(strict).get())
        save(2)
        began = time.monotonic()
        page = EventStore().get()
        assert time.monotonic() - began < 10
        assert not page.complete

    assert [1, 2] == log_numbers()


def test_a_position_that_is_not_shown_yet_is_read_by_nobody_and_shown_by_the_next_pass() -> None:
    """The pass that placed it died between its COMMIT and the mark."""
    save(1, 2)
    log_numbers()
    execute("UPDATE eventstore_shown SET position = 1")
    with transaction.atomic():
        page = EventStore().get()
        assert ([1], 1) == (numbers(page), page.next_offset)

    page = EventStore().get()

    assert ([1, 2], True, 2) == (numbers(page), page.complete, page.head)
    assert 1 == Head.objects.get().barrier


def test_without_its_rows_the_log_goes_on_after_its_last_position() -> None:
    save(1, 2)
    log_numbers()
    before = placed()
    Head.objects.all().delete()
    Shown.objects.all().delete()
    save(3)

    assert [1, 2, 3] == log_numbers()
    assert before == placed()[:2]


def test_a_pass_refuses_to_run_inside_a_transaction_of_the_session(second: str) -> None:
    connections[second].ensure_connection()
    execute("START TRANSACTION", using=second)
    execute("INSERT INTO eventstore_entry (type, payload) VALUES ('a.b', '{}')", using=second)
    with pytest.raises(Exception, match="does not run inside a transaction"):
        sequencer(second).run()
    execute("ROLLBACK", using=second)

    assert [] == log_numbers()


def test_a_read_only_session_reads_and_does_not_sequence(second: str) -> None:
    save(1)
    assert [1] == log_numbers()
    save(2)
    execute("SET SESSION TRANSACTION READ ONLY", using=second)

    page = EventStore(second).get()
    assert ([1], 1, False, None) == (numbers(page), page.next_offset, page.complete, page.head)
    page = EventStore(second).get(77)
    assert ([], 77, False) == (numbers(page), page.next_offset, page.complete)
    assert [1, 2] == log_numbers()


def test_writers_do_not_wait_for_a_pass_nor_a_pass_for_writers(connect: Connect) -> None:
    """With an uncommitted entry before, between and behind those that are taken, at the server's default isolation."""
    writers = [
        connect(
            f"w{n}", options={"isolation_level": "repeatable read", "init_command": "SET innodb_lock_wait_timeout=1"}
        )
        for n in range(3)
    ]
    for number, alias in enumerate(writers):
        connections[alias].set_autocommit(False)
        save(number, using=alias)
        save(10 + number, type=f"test.New{number}")

    assert [10, 11, 12] == log_numbers()
    for number, alias in enumerate(writers):
        save(20 + number, using=alias)  # one that waited for a second would fail
    for alias in reversed(writers):
        connections[alias].commit()

    assert [10, 11, 12, 0, 1, 2, 20, 21, 22] == [*log_numbers()[:3], *sorted(log_numbers()[3:])]
    assert 0 == Pending.objects.count()


def test_a_killed_server_keeps_what_it_showed(
    mariadb_server: MariaDBFactory, register_database: RegisterDatabase
) -> None:
    server = mariadb_server()
    server.create_database("shop")
    alias = register_database(server.django_settings("shop"))
    save(1, 2, using=alias)
    assert [1, 2] == log_numbers(alias)
    before = placed(alias)
    save(3, using=alias)
    connections[alias].close()
    server.kill()
    server.restart()

    assert before == placed(alias)
    assert [1, 2, 3] == log_numbers(alias)
    assert before == placed(alias)[:2]


def test_entries_removed_before_they_were_sequenced_hold_nothing_up() -> None:
    save(*range(5))
    with open_door("default"):
        execute("DELETE FROM eventstore_entry WHERE id < %s", [EventEntry.objects.latest("id").id])
    save(7)

    done = sequencer("default").run(max_entries=3)

    assert (2, True) == (done.numbered, done.reached)
    assert (2, 2, 0) == _marks()


def test_an_open_removal_of_old_entries_makes_no_writer_and_no_pass_wait(connect: Connect) -> None:
    remover = connect("remover", options={"isolation_level": "read committed"})
    save(*range(5))
    log_numbers()
    with open_door(remover):
        for position, entry_id in placed()[:3]:
            execute("DELETE FROM eventstore_position WHERE position = %s", [position], using=remover)
            execute("DELETE FROM eventstore_entry WHERE id = %s", [entry_id], using=remover)
        execute("SET innodb_lock_wait_timeout = 1")
        save(5)
        assert [0, 1, 2, 3, 4, 5] == log_numbers()

    assert [3, 4, 5] == numbers(EventStore().get())


def test_passes_that_begin_at_once_on_an_emptied_log_all_end() -> None:
    """They make the row that is their lock, and deadlock over it: the pass is taken back whole and repeated."""
    for _ in range(5):
        Head.objects.all().delete()
        Shown.objects.all().delete()
        save(*range(300))  # enough that all of them wait for the first
        with ThreadPoolExecutor(4) as threads:
            passes = [threads.submit(_pass_on_a_connection_of_its_own) for _ in range(4)]
        assert all(done.result().reached for done in passes)


def _pass_on_a_connection_of_its_own() -> Pass:
    try:
        return sequence("default")
    finally:
        connections.close_all()
