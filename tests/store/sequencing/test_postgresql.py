"""PostgreSQL: the snapshot difference, in one pass or in windows, beside open transactions, locks and time-outs."""

from __future__ import annotations

import time
from threading import Event
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_eventstore import EventEntry, EventStore
from django_eventstore.exceptions import EpochChanged
from django_eventstore.models import Epoch, LogPosition, Tick
from django_eventstore.store.sequencing import sequencer
from tests.conftest import PostgresFactory, RegisterDatabase
from tests.shop.events import OrderCancelled
from tests.store.conftest import Connect, Elsewhere
from tests.store.log import execute, log_numbers, numbers, placed, save

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

LOCK = "SELECT pg_advisory_xact_lock(7002, 'eventstore_tick'::regclass::oid::int)"


def _bulk(count: int, *, using: str = "default", first: int = 0) -> list[int]:
    execute(
        "INSERT INTO eventstore_entry (type, payload) SELECT 'test.Bulk' || (n %% 3)::text, json_build_object('n', n)::text "
        "FROM generate_series(%s::int, %s::int) n",
        [first, first + count - 1],
        using=using,
    )
    return list(range(first, first + count))


def _run(max_entries: int, using: str = "default") -> Any:
    return sequencer(using).run(max_entries=max_entries)


def _whole_log() -> list[int]:
    """Read beside the sequencer, so that nothing is sequenced by looking."""
    return [
        int(n)
        for (n,) in execute(
            "SELECT (payload::jsonb->>'n')::int FROM eventstore_position p JOIN eventstore_entry e ON e.id = p.entry_id "
            "ORDER BY position"
        )
    ]


# --- windows -------------------------------------------------------------------------------------------------------------


def test_a_bulk_commit_larger_than_a_pass_is_taken_in_windows() -> None:
    sequencer("default").run()
    written = _bulk(25)

    passes = [_run(10) for _ in range(4)]

    assert [10, 10, 5, 0] == [done.numbered for done in passes]
    assert [False, False, False, True] == [done.reached for done in passes]
    assert [True, True, True, False] == [done.more for done in passes]
    assert written == _whole_log()
    assert list(range(1, 26)) == [position for position, _ in placed()]
    # The first window is of the first pair of snapshots, the last leaves nothing to be continued.
    ticks = [(tick.head, tick.target is not None) for tick in Tick.objects.order_by("id")]
    assert [(0, False), (10, True), (20, True), (25, False)] == ticks


def test_a_page_is_not_complete_while_something_committed_has_no_position(second: str) -> None:
    """After the last window the log is as of its beginning, not as of now."""
    sequencer("default").run()
    _bulk(4)
    assert _run(2).more
    save(100, using=second)

    page = EventStore().get()

    assert ([0, 1, 2, 3], False, None) == (numbers(page), page.complete, page.head)
    page = EventStore().get(4)
    assert ([100], True, 5) == (numbers(page), page.complete, page.head)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 13, 50])
def test_windows_give_the_positions_that_one_big_pass_gives(size: int, second: str, connect: Connect) -> None:
    third = connect("third")
    sequencer("default").run()
    early = transaction.atomic(using=second)
    early.__enter__()
    save(900, using=second)
    late = transaction.atomic(using=third)
    late.__enter__()
    save(901, using=third)
    _bulk(6)
    save(902, using=second)
    _bulk(6, first=6)
    early.__exit__(None, None, None)
    ids = [entry.id for entry in EventEntry.objects.order_by("id") if entry.data["n"] != 901]
    late_done = False

    for step in range(40):
        done = _run(size)
        if step == 1 and done.more:  # between two windows
            late.__exit__(None, None, None)
            late_done = True
            save(1_000, using=second)
        if done.reached:
            break
    if not late_done:
        late.__exit__(None, None, None)
        save(1_000, using=second)
    assert _run(50).reached

    assert [*ids, *[entry.id for entry in EventEntry.objects.order_by("id") if entry.id not in ids]] == [
        entry_id for _, entry_id in placed()
    ]
    assert [901, 1_000] == _whole_log()[-2:]
    assert list(range(1, len(placed()) + 1)) == [position for position, _ in placed()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_interleaving_of_commits_and_passes_keeps_every_event_in_commit_order(
    data: st.DataObject, connect: Connect
) -> None:
    """Three transactions that begin, record, commit or roll back at will, and passes of every size in between."""
    aliases = ["w0", "w1", "w2"]
    for alias in aliases:
        if alias not in connections.databases:
            connect(alias)
    start = sequencer("default").head()
    opened: dict[str, list[tuple[int, int]]] = {}
    committed: list[tuple[int, int, int]] = []  # (time of insert, time of commit, entry id)
    steps = data.draw(
        st.lists(
            st.tuples(st.sampled_from(aliases), st.sampled_from(["add", "add", "end", "undo", "pass"])), max_size=40
        )
    )
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(steps), max_size=len(steps)))
    for clock, ((alias, action), size) in enumerate(zip(steps, sizes, strict=True)):
        connection = connections[alias]
        if action == "pass":
            _run(size)
        elif action == "add":
            if alias not in opened:
                connection.set_autocommit(False)
                opened[alias] = []
            [entry] = save(clock, using=alias)
            opened[alias].append((clock, entry.id))
        elif alias in opened:
            if action == "end":
                connection.commit()
                committed += [(added, clock, id_) for added, id_ in opened[alias]]
            else:
                connection.rollback()
            connection.set_autocommit(True)
            del opened[alias]
    for alias in opened:
        connections[alias].rollback()
        connections[alias].set_autocommit(True)
    while not _run(3).reached:
        pass

    log = [entry_id for position, entry_id in placed() if position > start]
    assert sorted(log) == sorted(id_ for _, _, id_ in committed)
    assert list(range(start + 1, start + 1 + len(log))) == [position for position, _ in placed() if position > start]
    place = {entry_id: index for index, entry_id in enumerate(log)}
    for _, ended, first in committed:
        for added, _, then in committed:
            if ended < added:
                assert place[first] < place[then]


def test_a_crash_between_windows_goes_on_where_it_stopped(
    postgres_cluster: PostgresFactory, register_database: RegisterDatabase
) -> None:
    cluster = postgres_cluster()
    cluster.create_database("shop")
    alias = register_database(cluster.django_settings("shop"))
    sequencer(alias).run()
    written = _bulk(25, using=alias)
    assert _run(10, alias).more
    before = placed(alias)

    connections[alias].close()
    cluster.kill()
    cluster.restart()

    assert before == placed(alias)
    save(100, using=alias)
    assert [*written, 100] == log_numbers(alias)
    assert before == placed(alias)[:10]
    assert 1 == Epoch.objects.using(alias).count()


def test_a_rebase_between_windows_takes_the_rest() -> None:
    sequencer("default").run()
    written = _bulk(9)
    assert _run(4).more

    done = sequencer("default").rebase()

    assert (5, True) == (done.numbered, done.reached)
    assert written == _whole_log()
    assert (0, True) == (_run(4).numbered, _run(4).reached)


def test_a_type_that_appears_in_a_later_window_is_there_when_it_is_placed() -> None:
    sequencer("default").run()
    with transaction.atomic():
        for number in range(6):
            save(number, type=f"test.Kind{number // 2}")
    _run(2)

    assert [0, 1] == numbers(EventStore().get(0, 2, types=["test.Kind0"]))
    while not _run(2).reached:
        pass
    assert [4, 5] == numbers(EventStore().get(types=["test.Kind2"]))
    assert 3 == LogPosition.objects.values("type_id").distinct().count()


# --- locks and time-outs -------------------------------------------------------------------------------------------------


def test_of_two_sequencers_the_second_waits_and_then_runs_its_own_pass(second: str, elsewhere: Elsewhere) -> None:
    sequencer("default").run()
    connections[second].set_autocommit(False)
    execute(LOCK, using=second)
    save(1)
    waiting = elsewhere(lambda: EventStore().get())
    time.sleep(0.3)
    assert not waiting.done()
    save(2)
    connections[second].rollback()

    page = waiting.result(5)
    assert ([1, 2], True) == (numbers(page), page.complete)


@pytest.mark.parametrize("timeout", ["0", "300ms"])
def test_a_lock_held_for_long_makes_the_page_incomplete_in_time(second: str, connect: Connect, timeout: str) -> None:
    reader = connect("reader", options={"options": f"-c statement_timeout={timeout}"})
    save(1)
    assert [1] == log_numbers()
    save(2)
    connections[second].set_autocommit(False)
    execute(LOCK, using=second)

    began = time.monotonic()
    page = EventStore(reader).get()
    took = time.monotonic() - began
    connections[second].rollback()

    assert ([1], False, None) == (numbers(page), page.complete, page.head)
    assert 0.9 < took < 10
    assert [1, 2] == log_numbers(reader)


def test_a_statement_timeout_shorter_than_a_pass_does_not_stop_the_log_and_is_kept(connect: Connect) -> None:
    sequencer("default").run()
    _bulk(8_000)
    hasty = connect("hasty", options={"options": "-c statement_timeout=20ms"})
    with pytest.raises(OperationalError, match="statement timeout"):
        execute("CALL eventstore_sequence(50000, false, NULL, NULL, NULL)", using=hasty)

    done = sequencer(hasty).run()

    assert (8_000, True) == (done.numbered, done.reached)
    assert [("20ms",)] == execute("SHOW statement_timeout", using=hasty)


def test_an_error_in_the_second_try_is_raised_and_the_session_value_is_kept(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = connect("hasty", options={"options": "-c statement_timeout=200ms"})
    save(1)
    execute("ALTER PROCEDURE eventstore_sequence(bigint, boolean, text, bigint, bigint) RENAME TO put_away")
    execute(
        "CREATE PROCEDURE eventstore_sequence(bigint, boolean, INOUT text, INOUT bigint, INOUT bigint) LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.3); RAISE division_by_zero; END $$"
    )
    try:
        with pytest.raises(DatabaseError, match="division_by_zero"):
            EventStore(hasty).get()
        assert [("200ms",)] == execute("SHOW statement_timeout", using=hasty)
    finally:
        execute("DROP PROCEDURE eventstore_sequence(bigint, boolean, text, bigint, bigint)")
        execute("ALTER PROCEDURE put_away(bigint, boolean, text, bigint, bigint) RENAME TO eventstore_sequence")
    assert [1] == log_numbers(hasty)


@pytest.mark.parametrize("kind", ["session", "driver"])
def test_a_read_only_session_reads_and_does_not_sequence(connect: Connect, kind: str) -> None:
    reader = connect("reader", options={"options": "-c default_transaction_read_only=on"})
    save(1)
    assert [1] == log_numbers()
    save(2)

    page = EventStore(reader).get()
    assert ([1], 1, False, None) == (numbers(page), page.next_offset, page.complete, page.head)
    done = sequencer(reader).run()
    assert (False, True) == (done.reached, done.refused)
    # It may be behind: what lies above its head is no error there.
    page = EventStore(reader).get(77)
    assert ([], 77, False) == (numbers(page), page.next_offset, page.complete)
    with pytest.raises(EpochChanged):
        EventStore().get(77)


def test_the_procedure_refuses_to_run_inside_a_transaction(second: str) -> None:
    for begin in ("BEGIN", "BEGIN; INSERT INTO eventstore_entry (type, payload) VALUES ('a.b', '{}')"):
        connection = connections[second].connection or connections[second].ensure_connection()
        connections[second].ensure_connection()
        with connections[second].connection.cursor() as cursor:
            cursor.execute(begin)
            with pytest.raises(Exception, match="invalid transaction termination"):
                cursor.execute("CALL eventstore_sequence(50000, false, NULL, NULL, NULL)")
            cursor.execute("ROLLBACK")
        del connection


def test_synchronous_commit_is_raised_for_the_pass_and_given_back(connect: Connect) -> None:
    lazy = connect("lazy", options={"options": "-c synchronous_commit=off -c enable_hashjoin=on -c lock_timeout=7s"})
    save(1, using=lazy)
    settings_of = (
        "SELECT name, setting FROM pg_settings WHERE name ~ '^(enable_|lock_timeout|sync.*commit|jit|transaction_)'"
    )
    before = execute(settings_of, using=lazy)

    assert [1] == log_numbers(lazy)

    assert before == execute(settings_of, using=lazy)


# --- ticks ---------------------------------------------------------------------------------------------------------------


def test_a_pass_with_nothing_new_writes_nothing(second: str) -> None:
    save(1)
    log_numbers()
    before = (Tick.objects.count(), execute("SELECT pg_current_wal_insert_lsn()"))

    for _ in range(5):
        assert _run(10).reached
    connections[second].set_autocommit(False)
    execute("INSERT INTO shop_counter (name, value) VALUES ('x', 1)", using=second)
    connections[second].rollback()
    assert _run(10).reached

    assert before[0] == Tick.objects.count()


def test_ticks_are_pruned_and_never_the_last() -> None:
    save(0)
    log_numbers()
    [(newest,)] = execute("SELECT max(id) FROM eventstore_tick")
    # As if many passes had run: up to a little below the second multiple of 1,000 from here.
    execute(
        "INSERT INTO eventstore_tick (head, snapshot, cluster, timeline) SELECT head, snapshot, cluster, timeline "
        "FROM eventstore_tick t, generate_series(1, %s) WHERE t.id = %s",
        [1_995 - newest % 1_000, newest],
    )
    assert Tick.objects.count() > 990
    for number in range(1, 21):
        save(number)
        assert _run(10).numbered == 1
        assert Tick.objects.count() <= 2_000
    ids = list(Tick.objects.order_by("id").values_list("id", flat=True))

    assert 1_000 <= len(ids) <= 1_020
    assert ids == list(range(ids[0], ids[-1] + 1))
    assert 21 == Tick.objects.latest("id").head == len(placed())
    assert list(range(21)) == log_numbers()


def test_without_any_tick_the_log_goes_on_after_its_last_position() -> None:
    save(1, 2)
    log_numbers()
    before = placed()
    execute("DELETE FROM eventstore_tick")
    save(3)

    assert [1, 2, 3] == log_numbers()
    assert before == placed()[:2]
    assert 1 == Epoch.objects.count()


# --- long transactions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("analysed_before", range(-1, 9))
def test_a_pass_beside_many_uncommitted_entries_does_not_walk_over_them(analysed_before: int, second: str) -> None:
    """Whatever the statistics are: to ANALYZE the log has a few rows on a great many pages, as the others are not committed.

    Then every index looks the same to the planner, and a plan is made anew after a few calls.
    """
    save(0)
    assert [0] == log_numbers()
    connections[second].set_autocommit(False)
    _bulk(20_000, using=second, first=1_000)
    touched = []
    # Idle ones first: they leave no tick, so that the open transaction stays above the last one.
    for turn, number in enumerate((None, None, 1, 2, None, 3, None, 4, 5)):
        if turn == analysed_before:
            execute("ANALYZE eventstore_entry")
        if number is None:
            execute("SELECT pg_current_xact_id()")
        else:
            save(number)
        before = _touched()
        assert _run(50_000).numbered == int(number is not None)
        assert 0 == sequencer("default").unsequenced(limit=10)
        touched.append(_touched() - before)
    connections[second].rollback()

    assert max(touched) < 200
    assert [0, 1, 2, 3, 4, 5] == log_numbers()


@pytest.mark.parametrize("analysed", ["before the commit", "after it", "never"])
def test_a_window_is_looked_for_by_its_ids(analysed: str, second: str) -> None:
    """Neither by its transactions, which hold all windows, nor by an index of something else, whatever the statistics are."""
    save(0)
    assert [0] == log_numbers()
    connections[second].set_autocommit(False)
    _bulk(20_000, using=second, first=1_000)
    if analysed == "before the commit":
        execute("ANALYZE eventstore_entry")
    connections[second].commit()
    if analysed == "after it":
        execute("ANALYZE eventstore_entry")
    touched = []
    while True:
        before = _touched()
        if not _run(1_000).more:
            break
        touched.append(_touched() - before)

    assert 20 == len(touched)
    assert max(touched[1:]) < 5_000
    assert [0, *range(1_000, 21_000)] == _whole_log()


def test_what_is_not_in_the_log_yet_is_counted(second: str, connect: Connect) -> None:
    """Visible entries without a position: of transactions that ended since the last pass, and the caller's own."""
    old = connect("old")
    execute("DELETE FROM eventstore_tick")
    save(1)
    assert 1 == sequencer("default").unsequenced(limit=10)
    connections[old].set_autocommit(False)
    save(2, using=old)
    assert 1 == sequencer("default").run().numbered
    assert 0 == sequencer("default").unsequenced(limit=10)
    save(3, 4)
    connections[second].set_autocommit(False)
    save(5, using=second)
    save(6)
    assert [3, 2] == [sequencer("default").unsequenced(limit=limit) for limit in (10, 2)]
    assert 4 == sequencer(second).unsequenced(limit=10)
    connections[old].commit()
    assert 4 == sequencer("default").unsequenced(limit=10)
    connections[second].commit()
    assert 5 == sequencer("default").unsequenced(limit=10)
    assert 5 == sequencer("default").run().numbered
    assert 0 == sequencer("default").unsequenced(limit=10)


def _touched() -> int:
    """Index entries and heap rows of eventstore_entry that this server has looked at."""
    execute("SELECT pg_stat_force_next_flush()")
    [(rows,)] = execute(
        "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'eventstore_entry') + "
        "(SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'eventstore_entry')"
    )
    return int(rows)


def test_an_old_transaction_delays_its_own_events_only(second: str, connect: Connect) -> None:
    old = connect("old")
    connections[old].set_autocommit(False)
    save(1, using=old)
    execute("SELECT 1 FROM eventstore_entry", using=second)
    for number in range(2, 30):
        save(number)
        assert list(range(2, number + 1)) == log_numbers()
    save(30, using=old)
    connections[old].commit()

    assert [*range(2, 30), 1, 30] == log_numbers()


def test_a_transaction_open_over_many_passes_is_found_by_the_pass_after_its_end(second: str, connect: Connect) -> None:
    """It was in the list of running ones of every tick in between; and one that began later ends earlier."""
    third = connect("third")
    connections[second].set_autocommit(False)
    save(1, using=second)
    save(2)
    log_numbers()
    connections[third].set_autocommit(False)
    save(3, using=third)
    save(4)
    log_numbers()
    connections[third].commit()
    save(5)
    assert [2, 4, 3, 5] == log_numbers()
    connections[second].commit()

    assert [2, 4, 3, 5, 1] == log_numbers()


def test_prepared_transactions_committed_late_and_rolled_back(
    postgres_cluster: PostgresFactory, register_database: RegisterDatabase
) -> None:
    cluster = postgres_cluster()
    cluster.create_database("shop")
    alias = register_database(cluster.django_settings("shop"))
    save(0, using=alias)
    log_numbers(alias)
    for name, number in (("kept", 10), ("undone", 20)):
        connections[alias].set_autocommit(False)
        save(number, number + 1, using=alias)
        execute(f"PREPARE TRANSACTION '{name}'", using=alias)
        connections[alias].set_autocommit(True)
    for number in range(1, 4):
        save(number, using=alias)
        assert list(range(number + 1)) == log_numbers(alias)
    connections[alias].close()
    cluster.kill()
    cluster.restart()
    save(4, using=alias)
    assert [0, 1, 2, 3, 4] == log_numbers(alias)

    execute("COMMIT PREPARED 'kept'", using=alias)
    execute("ROLLBACK PREPARED 'undone'", using=alias)
    save(5, using=alias)

    assert [0, 1, 2, 3, 4, 10, 11, 5] == log_numbers(alias)
    assert 0 == sequencer(alias).unsequenced(limit=10)


# --- two logs in one database --------------------------------------------------------------------------------------------


def test_two_schemas_hold_two_logs_that_do_not_meet(register_database: RegisterDatabase, elsewhere: Elsewhere) -> None:
    entry = connections["default"].settings_dict
    aliases = []
    for name in ("red", "blue"):
        execute(f"CREATE SCHEMA {name}")
        aliases.append(register_database({**entry, "OPTIONS": {"options": f"-c search_path={name}"}}, alias=name))
    try:
        for number in range(3):
            save(number, using="red")
            save(10 + number, using="blue")
            save(20 + number)
            assert [list(range(k, k + number + 1)) for k in (0, 10, 20)] == [
                log_numbers("red"), log_numbers("blue"), log_numbers(),
            ]  # fmt: skip
        assert 3 == len({EventStore(alias).get().log for alias in ("red", "blue", "default")})
        connections["red"].set_autocommit(False)
        execute(LOCK, using="red")
        save(13, using="blue")
        assert EventStore("blue").get().complete
        assert EventStore().get().complete
        connections["red"].rollback()
    finally:
        for name in aliases:
            connections[name].close()
            execute(f"DROP SCHEMA {name} CASCADE")


def test_one_session_may_change_between_schemas(register_database: RegisterDatabase) -> None:
    """What plpgsql has planned for one is not used for the other."""
    entry = connections["default"].settings_dict
    execute("CREATE SCHEMA red")
    register_database({**entry, "OPTIONS": {"options": "-c search_path=red"}}, alias="red")
    try:
        for number in range(8):
            execute("SET search_path TO red")
            save(number)
            assert list(range(number + 1)) == log_numbers()
            execute("SET search_path TO public")
            save(100 + number)
            assert list(range(100, 101 + number)) == log_numbers()
        assert list(range(8)) == log_numbers("red")
    finally:
        connections["red"].close()
        execute("DROP SCHEMA red CASCADE")


def test_a_frozen_sequencer_lets_the_others_go_on_after_it(second: str, elsewhere: Elsewhere) -> None:
    """A pass that fails half way leaves nothing, and the lock is free."""
    save(1)
    log_numbers()
    execute("CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$")
    execute("CREATE TRIGGER stumble BEFORE INSERT ON eventstore_tick EXECUTE FUNCTION stumble()")
    try:
        save(2)
        before = placed()
        with pytest.raises(DatabaseError):
            EventStore(second).get()
        assert before == placed()
    finally:
        execute("DROP FUNCTION stumble() CASCADE")

    assert [1, 2] == log_numbers(second) == log_numbers()


def test_bulk_recorded_in_one_call_is_one_pass() -> None:
    sequencer("default").run()
    done = Event()
    EventStore().save(*[OrderCancelled(order_id=number, reason="") for number in range(1_000)])
    done.set()

    first = _run(50_000)

    assert (1_000, True, False) == (first.numbered, first.reached, first.more)
