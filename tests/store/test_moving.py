"""A log that changes its server: dumped and restored, promoted, switched over, crashed. PostgreSQL on private clusters."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction

from django_eventstore import EventStore
from django_eventstore.exceptions import EpochChanged
from django_eventstore.models import Epoch, EventEntry
from django_eventstore.store.sequencing import sequencer
from tests.conftest import PostgresFactory, RegisterDatabase, require
from tests.servers import PostgresCluster

from .log import execute, log_numbers, numbers, placed, save

pytestmark = [pytest.mark.postgresql]

EVENTS = "-t", "eventstore_entry"


@pytest.fixture(scope="module")
def two_clusters() -> Iterator[tuple[PostgresCluster, PostgresCluster]]:
    """A busy server and a fresh one: the transaction ids of the first are far above those of the second."""
    require("postgres-binaries")
    directory = Path(tempfile.mkdtemp(prefix="eventstore-"))
    directory.chmod(0o755)
    clusters = [PostgresCluster(directory / name) for name in ("busy", "fresh")]
    try:
        for cluster in clusters:
            cluster.start(settings={"fsync": "off"})
        _burn(clusters[0], 20_000)
        yield clusters[0], clusters[1]
    finally:
        for cluster in clusters:
            cluster.delete()
        shutil.rmtree(directory)


def _burn(cluster: PostgresCluster, count: int) -> None:
    with cluster.connect() as connection:
        connection.execute(
            f"DO $$ BEGIN FOR n IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
        )


@pytest.fixture
def database(register_database: RegisterDatabase) -> Callable[..., str]:
    """``database(cluster, "name", migrate=…)``: a new database and its alias of the same name."""

    def make(cluster: PostgresCluster, name: str, *, migrate: bool) -> str:
        cluster.create_database(name)
        return register_database(cluster.django_settings(name), alias=name, migrate=migrate)

    return make


def _live_log(alias: str, second: str) -> tuple[list[tuple[int, int]], list[int]]:
    """A log with ten positions, three committed entries that have none, one of them of a transaction that was open at the
    last pass; and one that never commits. Returns the positions and the numbers of what is committed."""
    save(*range(8), using=alias)
    connections[second].set_autocommit(False)
    save(100, using=second)
    save(8, 9, using=alias, stream="s")
    assert list(range(10)) == log_numbers(alias)
    connections[second].commit()
    save(10, 11, using=alias, type="test.Unseen")
    return placed(alias), [*range(12), 100]


@pytest.mark.parametrize("way", ["down", "up", "sideways"])
def test_a_dumped_log_goes_on_elsewhere(
    way: str,
    two_clusters: tuple[PostgresCluster, PostgresCluster],
    database: Callable[..., str],
    register_database: RegisterDatabase,
) -> None:
    """Down: lower transaction ids than the entries carry; up: higher ones; sideways: another database of the server."""
    busy, fresh = two_clusters
    source, target = {"down": (busy, fresh), "up": (fresh, busy), "sideways": (busy, busy)}[way]
    old = database(source, f"old_{way}", migrate=True)
    second = register_database(source.django_settings(old), alias=f"second_{way}", migrate=False)
    before, written = _live_log(old, second)
    log = EventStore(old)
    with transaction.atomic(using=old):
        page = log.get(10)
    assert not page.entries
    dump = source.dump(old)
    new = database(target, f"new_{way}", migrate=False)
    target.restore(new, dump)

    save(200, using=new)
    seen = log_numbers(new)
    _burn(target, 3_000)
    for number in (201, 202):
        save(number, using=new)
        seen = log_numbers(new)

    assert sorted([*written, 200, 201, 202]) == sorted(seen)
    assert [*range(10)] == seen[:10]
    assert [200, 201, 202] == seen[-3:]
    assert before == placed(new)[:10]
    assert list(range(1, 17)) == [position for position, _ in placed(new)]
    assert len(placed(new)) == len({entry_id for _, entry_id in placed(new)}) == EventEntry.objects.using(new).count()
    epochs = list(Epoch.objects.using(new).order_by("number").values_list("number", "began_after", "log"))
    assert [(1, 0, page.log), (2, 10, page.log)] == epochs
    # Whoever has read what both share goes on; whoever has read more of the old log is told.
    assert sorted([*written[10:], 200, 201, 202]) == sorted(numbers(EventStore(new).get(10, epoch=1)))
    with pytest.raises(EpochChanged) as caught:
        EventStore(new).get(11, epoch=1)
    assert (2, 10, 16) == (caught.value.epoch, caught.value.began_after, caught.value.head)


@pytest.mark.parametrize("triggers", [True, False])
def test_entries_copied_alone_into_a_live_log_are_taken(
    triggers: bool, two_clusters: tuple[PostgresCluster, PostgresCluster], database: Callable[..., str]
) -> None:
    """With triggers they are stamped and come by themselves. Without, they carry ids of another history: a rebase."""
    busy, fresh = two_clusters
    old, new = database(busy, f"from_{triggers}", migrate=True), database(fresh, f"to_{triggers}", migrate=True)
    execute("SELECT setval(pg_get_serial_sequence('eventstore_entry', 'id'), 1000)", using=new)
    save(*range(5), using=old)
    save(50, using=new)
    assert [50] == log_numbers(new)
    before = placed(new)
    options = [] if triggers else ["--disable-triggers"]
    fresh.restore(new, busy.dump(old, "--data-only", *EVENTS, *options))
    execute("SELECT setval(pg_get_serial_sequence('eventstore_entry', 'id'), 2000)", using=new)
    save(51, using=new)

    if triggers:
        assert [50, 0, 1, 2, 3, 4, 51] == log_numbers(new)
        return
    assert [50, 51] == log_numbers(new)
    missing = (
        "SELECT count(*) FROM eventstore_entry e LEFT JOIN eventstore_position p ON p.entry_id = e.id WHERE p IS NULL"
    )
    assert [(5,)] == execute(missing, using=new)
    assert 5 == sequencer(new).rebase().numbered
    assert [(0,)] == execute(missing, using=new)
    save(52, using=new)
    assert [50, 51, 0, 1, 2, 3, 4, 52] == log_numbers(new)
    assert before == placed(new)[:1]
    assert 1 == Epoch.objects.using(new).count()


class _Pair:
    """A primary and its streaming standby, both with aliases."""

    def __init__(self, primary: PostgresCluster, standby: PostgresCluster, register: RegisterDatabase) -> None:
        self.primary, self.standby = primary, standby
        self.here = register(primary.django_settings("shop"), alias="here", migrate=False)
        standby.start()
        self.there = register(standby.django_settings("shop"), alias="there", migrate=False)

    def catch_up(self) -> None:
        [(lsn,)] = execute("SELECT pg_current_wal_flush_lsn()::text", using=self.here)
        deadline = time.monotonic() + 20
        while execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", [lsn], using=self.there) == [(True,)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def cut(self) -> None:
        """Nothing more reaches the standby; what has arrived would be replayed by a promotion, paused or not."""
        rules = self.primary.data / "pg_hba.conf"
        rules.write_text("local replication all reject\n" + rules.read_text())
        execute("SELECT pg_reload_conf()", using=self.here)
        deadline = time.monotonic() + 20
        while execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication", using=self.here):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def promote(self, *, mode: Any) -> None:
        connections[self.here].close()
        connections[self.there].close()
        self.primary.stop(mode)
        self.standby.promote()


@pytest.fixture
def pair(
    postgres_cluster: PostgresFactory, server_directory: Path, register_database: RegisterDatabase
) -> Iterator[_Pair]:
    primary = postgres_cluster()
    primary.create_database("shop")
    register_database(primary.django_settings("shop"), alias="setup")
    connections["setup"].close()
    standby = primary.backup_to(server_directory / "standby")
    try:
        yield _Pair(primary, standby, register_database)
    finally:
        standby.kill()


def test_a_promoted_standby_that_lagged_tells_readers_who_have_seen_more(pair: _Pair) -> None:
    save(0, 1, 2, using=pair.here)
    shared = EventStore(pair.here).get()
    save(3, using=pair.here)  # committed, replicated, in no page yet
    pair.catch_up()
    pair.cut()
    save(4, 5, using=pair.here)
    seen = EventStore(pair.here).get()
    assert ([0, 1, 2, 3, 4, 5], 6) == (numbers(seen), seen.next_offset)

    pair.promote(mode="immediate")
    save(7, 8, 9, 10, using=pair.there)

    with pytest.raises(EpochChanged) as caught:
        EventStore(pair.there).get(seen.next_offset, epoch=seen.epoch)
    error = caught.value
    assert (seen.log, 2, 1, 6, 3, 8) == (
        error.log, error.epoch, error.reader_epoch, error.offset, error.began_after, error.head,
    )  # fmt: skip
    with pytest.raises(EpochChanged):
        EventStore(pair.there).get(4, epoch=1)
    page = EventStore(pair.there).get(shared.next_offset, epoch=shared.epoch)
    assert ([3, 7, 8, 9, 10], 2, True) == (numbers(page), page.epoch, page.complete)
    assert [0, 1, 2, 3, 7, 8, 9, 10] == log_numbers(pair.there)
    assert [(2, 3, "the server was promoted")] == list(
        Epoch.objects.using(pair.there).filter(number=2).values_list("number", "began_after", "reason")
    )


def test_a_standby_is_read_and_a_planned_switch_over_stops_nobody(pair: _Pair) -> None:
    save(0, 1, using=pair.here)
    first = EventStore(pair.here).get()
    save(2, using=pair.here)
    pair.catch_up()
    # Reads what is there, sequences nothing, and does not take what it lacks for another history.
    page = EventStore(pair.there).get()
    assert ([0, 1], 2, False, None) == (numbers(page), page.next_offset, page.complete, page.head)
    page = EventStore(pair.there).get(9, epoch=1, types=["test.*"])
    assert ([], 9, False) == (numbers(page), page.next_offset, page.complete)
    done = sequencer(pair.there).run()
    assert (False, True) == (done.reached, done.refused)
    assert [0, 1, 2] == log_numbers(pair.here)
    head = EventStore(pair.here).get(2, epoch=first.epoch)
    pair.catch_up()
    assert [2] == numbers(EventStore(pair.there).get(2))

    pair.promote(mode="fast")
    save(3, using=pair.there)

    page = EventStore(pair.there).get(head.next_offset, epoch=head.epoch)
    assert ([3], 2, True, 4) == (numbers(page), page.epoch, page.complete, page.head)
    assert [2, 3] == numbers(EventStore(pair.there).get(first.next_offset, epoch=first.epoch))
    assert [(1, 0), (2, 3)] == list(
        Epoch.objects.using(pair.there).order_by("number").values_list("number", "began_after")
    )
    save(4, using=pair.there)
    assert ([4], 2) == (numbers(EventStore(pair.there).get(4, epoch=2)), EventStore(pair.there).get(4, epoch=2).epoch)


def test_positions_that_were_shown_survive_an_immediate_stop_without_synchronous_commit(
    postgres_cluster: PostgresFactory, register_database: RegisterDatabase
) -> None:
    # The slowest walwriter there is, so that nothing else flushes by chance.
    cluster = postgres_cluster(settings={"synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"})
    cluster.create_database("shop")
    alias = register_database(cluster.django_settings("shop"))
    shown: dict[int, Any] = {}
    for turn in range(3):
        execute("CHECKPOINT", using=alias)
        save(2 * turn, 2 * turn + 1, using=alias)
        page = EventStore(alias).get()
        shown |= {entry.position or 0: entry.event_id for entry in page.entries}
        save(100 + turn, using=alias)  # not shown to anybody: it may be gone
        connections[alias].close()
        cluster.kill()
        cluster.restart()
        now = {entry.position: entry.event_id for entry in EventStore(alias).get().entries}
        assert shown.items() <= now.items()
    assert 6 <= len(shown)
    assert 1 == Epoch.objects.using(alias).count()
