"""The servers that crash tests build on do what those tests take for granted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import MariaDBFactory, PostgresFactory, require
from tests.processes import ROOT
from tests.servers import MariaDBServer, PostgresCluster, ServerFailed, build_slow_log_flush

try:
    import MySQLdb
except ImportError:
    # mysqlclient needs libmariadb to be built. The mariadb_server fixture says so before a test gets here.
    MySQLdb = None

pytestmark = pytest.mark.no_database

DELAY_MS = 400


def _values(cluster: PostgresCluster, database: str = "postgres") -> list[int]:
    with cluster.connect(database) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM t ORDER BY value").fetchall()]


def _execute(server: MariaDBServer, *statements: str) -> tuple[tuple[int, ...], ...]:
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def test_a_cluster_is_not_root_and_keeps_fsync_on(postgres_cluster: PostgresFactory) -> None:
    cluster = postgres_cluster(settings={"synchronous_commit": "off"})

    assert Path(f"/proc/{cluster.pid}").stat().st_uid != 0
    with cluster.connect() as connection:
        shown = [
            connection.execute(f"SHOW {name}").fetchone()
            for name in ("fsync", "synchronous_commit", "max_prepared_transactions", "wal_level")
        ]
    assert shown == [("on",), ("off",), ("20",), ("replica",)]


def test_an_immediate_stop_keeps_what_was_flushed_and_loses_an_open_transaction(
    postgres_cluster: PostgresFactory,
) -> None:
    cluster = postgres_cluster()
    with cluster.connect() as connection:
        connection.execute("CREATE TABLE t (value int)")
        connection.execute("INSERT INTO t VALUES (1)")
    open_transaction = cluster.connect(autocommit=False)
    open_transaction.execute("INSERT INTO t VALUES (2)")

    cluster.stop("immediate")
    open_transaction.close()
    assert not cluster.running
    cluster.restart()

    assert _values(cluster) == [1]
    assert "was not properly shut down; automatic recovery in progress" in cluster.log.read_text()


def test_a_kill_under_synchronous_commit_off_loses_what_was_acknowledged(postgres_cluster: PostgresFactory) -> None:
    # The slowest walwriter there is, so that nothing else flushes the commit before the crash.
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"}
    cluster = postgres_cluster(settings=settings)
    with cluster.connect() as connection:
        connection.execute("CREATE TABLE t (value int)")
        connection.execute("CHECKPOINT")
        connection.execute("INSERT INTO t VALUES (1)")
        cluster.kill()

    cluster.restart()

    assert _values(cluster) == []


def test_a_promoted_standby_has_what_it_received_and_a_timeline_of_its_own(
    postgres_cluster: PostgresFactory, server_directory: Path
) -> None:
    primary = postgres_cluster()
    with primary.connect() as connection:
        connection.execute("CREATE TABLE t (value int)")
        connection.execute("INSERT INTO t VALUES (1)")
    standby = primary.backup_to(server_directory / "standby")
    try:
        standby.start()
        with standby.connect() as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        standby.promote()
        with primary.connect() as connection:
            connection.execute("INSERT INTO t VALUES (2)")
        with standby.connect() as connection:
            connection.execute("INSERT INTO t VALUES (3)")
            row = connection.execute("SELECT pg_is_in_recovery(), pg_walfile_name(pg_current_wal_lsn())").fetchone()

        assert _values(standby) == [1, 3]
        assert _values(primary) == [1, 2]
        assert row is not None
        assert (row[0], row[1][:8]) == (False, "00000002")
    finally:
        standby.kill()


def test_a_dump_can_be_restored_into_another_cluster(postgres_cluster: PostgresFactory) -> None:
    source, target = postgres_cluster(), postgres_cluster()
    source.create_database("shop")
    target.create_database("shop")
    with source.connect("shop") as connection:
        connection.execute("CREATE TABLE t (value int)")
        connection.execute("INSERT INTO t VALUES (1), (2)")

    target.restore("shop", source.dump("shop"))

    assert _values(target, "shop") == [1, 2]
    with pytest.raises(ServerFailed, match='relation "t" already exists'):
        target.restore("shop", source.dump("shop", "--schema-only"))


def test_a_server_that_cannot_start_says_why(postgres_cluster: PostgresFactory) -> None:
    with pytest.raises(ServerFailed, match='unrecognized configuration parameter "no_such"'):
        postgres_cluster(settings={"no_such": "1"})


@pytest.mark.needs("postgres-binaries")
def test_a_cluster_ends_with_the_process_that_started_it(server_directory: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent has died")
    script = (
        "import os, pathlib, signal, sys; from tests.servers import PostgresCluster; "
        "cluster = PostgresCluster(pathlib.Path(sys.argv[1])).start(); print(cluster.pid, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(server_directory / "pg")], check=False, cwd=ROOT, capture_output=True
    )

    postmaster = Path(f"/proc/{int(done.stdout)}")
    assert _within(10, lambda: not postmaster.exists())


def test_mariadb_keeps_flushed_rows_over_a_kill(mariadb_server: MariaDBFactory) -> None:
    server = mariadb_server(options=["--innodb-lock-wait-timeout=7"])
    server.create_database("shop")
    _execute(server, "CREATE TABLE shop.t (value int)", "INSERT INTO shop.t VALUES (1)")

    server.kill()
    assert not server.running
    server.restart()

    shown = _execute(
        server,
        "SELECT value, @@innodb_lock_wait_timeout, @@innodb_flush_log_at_trx_commit, @@port FROM shop.t",
    )
    assert shown == ((1, 7, 1, server.port),)


@dataclass
class _Commit:
    """One INSERT on a thread of its own: when its COMMIT began and came back, or the error it ended with."""

    server: MariaDBServer
    began: float = 0.0
    returned: float | None = None
    error: MySQLdb.OperationalError | None = None

    def run(self) -> None:
        connection = self.server.connect(autocommit=False)
        try:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO shop.t VALUES (1)")
            self.began = time.monotonic()
            connection.commit()
            self.returned = time.monotonic()
        except MySQLdb.OperationalError as exc:
            self.error = exc
        finally:
            connection.close()


def _seen_at(server: MariaDBServer) -> float:
    """When another session first sees the row."""
    assert _within(10, lambda: _execute(server, "SELECT value FROM shop.t") == ((1,),))
    return time.monotonic()


@pytest.fixture
def slow_server(mariadb_server: MariaDBFactory, server_directory: Path) -> tuple[MariaDBServer, Path]:
    """A server with an empty shop.t, and the switch file that makes its log slow while it exists."""
    require("compiler")
    switch = server_directory / "slow"
    environment = {"SLOW_LOG_MS": str(DELAY_MS), "SLOW_LOG_SWITCH": str(switch)}
    server = mariadb_server(ld_preload=build_slow_log_flush(server_directory), environment=environment)
    server.create_database("shop")
    _execute(server, "CREATE TABLE shop.t (value int) ENGINE=InnoDB")
    return server, switch


def test_with_a_slow_log_others_see_a_row_before_its_commit_returns(slow_server: tuple[MariaDBServer, Path]) -> None:
    server, switch = slow_server
    commit = _Commit(server)
    thread = threading.Thread(target=commit.run)
    switch.touch()

    thread.start()
    seen = _seen_at(server)
    thread.join()

    assert commit.error is None
    assert commit.returned is not None
    assert commit.returned - commit.began >= DELAY_MS / 1000
    assert seen < commit.returned - DELAY_MS / 2000


def test_a_server_killed_while_its_log_is_slow_loses_a_row_that_others_have_seen(
    slow_server: tuple[MariaDBServer, Path],
) -> None:
    server, switch = slow_server
    commit = _Commit(server)
    thread = threading.Thread(target=commit.run)
    switch.touch()

    thread.start()
    _seen_at(server)
    server.kill()
    thread.join()
    switch.unlink()
    server.restart()

    assert commit.returned is None
    assert commit.error is not None
    assert _execute(server, "SELECT value FROM shop.t") == ()


def test_the_check_command_says_what_is_missing() -> None:
    environment = {**os.environ, "EVENTSTORE_TEST_MARIADB_URL": "mariadb://root@/?socket=/nonexistent/socket"}
    command = [sys.executable, "-m", "tests.servers", "check"]
    absent = subprocess.run(
        [*command, "mariadb"], check=False, cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert absent.returncode == 1
    assert len(absent.stdout.splitlines()) == 1
    # Without the driver that is what is missing first.
    assert any(word in absent.stdout.lower() for word in ("mariadb", "mysqlclient"))


def _within(seconds: float, fact: Callable[[], bool]) -> bool:
    """Whether the fact holds before the time is over."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
