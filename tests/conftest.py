"""What every test may ask for. The database of the run is chosen by the environment: see tests/databases.py."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from django_eventstore.testing import plugin
from tests import databases
from tests.processes import Process
from tests.processes import spawn as start_process
from tests.servers import MariaDBServer, PgBouncer, PostgresCluster, missing

VENDOR_MARKERS = databases.VENDORS
BLOCKER = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    # By its entry point the plugin is there already, unless the environment was installed before there was one.
    if not config.pluginmanager.is_registered(plugin):
        config.pluginmanager.register(plugin, "django_eventstore")
    for vendor in VENDOR_MARKERS:
        config.addinivalue_line("markers", f"{vendor}: runs with this database only (several: with each of them)")
    config.addinivalue_line("markers", "no_database: runs once, in the SQLite run; it uses no shared database")
    config.addinivalue_line("markers", "long: takes longer than ten seconds without the run's database: comes first")
    config.addinivalue_line(
        "markers", "needs(*services): what of tests.servers.SERVICES it uses; absent: skipped at a desk, fails in CI"
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One per core; one more beside SQLite, where the tests of servers run: those wait most of their time."""
    return (os.cpu_count() or 1) + (databases.chosen_vendor() == "sqlite")


def pytest_report_header(config: pytest.Config) -> str:
    vendor = databases.chosen_vendor()
    seed = getattr(config.option, "randomly_seed", "none")
    return f"database: {vendor} {_database_version(vendor)}, random seed: {seed}"


def _database_version(vendor: str) -> str:
    from django.conf import settings

    if vendor == "sqlite":
        return sqlite3.sqlite_version
    entry = settings.DATABASES["default"]
    if vendor == "postgresql":
        import psycopg

        address = {"host": entry["HOST"], "port": entry["PORT"], "user": entry["USER"], "password": entry["PASSWORD"]}
        with psycopg.connect(**address, dbname="postgres", connect_timeout=10) as connection:
            return str(connection.info.parameter_status("server_version"))
    import MySQLdb

    connection = MySQLdb.connect(**databases.mariadb_arguments({**entry, "NAME": ""}), connect_timeout=10)
    try:
        return str(connection.get_server_info())
    finally:
        connection.close()


@pytest.hookimpl(trylast=True)  # pytest-randomly has shuffled before
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not for this run's database: deselected, since nothing is missing."""
    vendor = databases.chosen_vendor()
    kept = [item for item in items if _is_for(item, vendor)]
    if len(kept) < len(items):
        kept_ids = {id(item) for item in kept}
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept_ids])
        items[:] = kept
    _long_first(items)


def _long_first(items: list[pytest.Item]) -> None:
    """So that at the end no process waits for another one's long test. The rest stays in its random order.

    Those on the run's database keep theirs: what commits leaves no log to those that do not, and they come first.
    """
    for item in items:
        if item.get_closest_marker("long") is not None and item.get_closest_marker("django_db") is not None:
            raise pytest.UsageError(f"{item.nodeid} uses the run's database, so it cannot be marked long")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def _is_for(item: pytest.Item, vendor: str) -> bool:
    if item.get_closest_marker("no_database") is not None and vendor != "sqlite":
        return False
    wanted = {name for name in VENDOR_MARKERS if item.get_closest_marker(name) is not None}
    return not wanted or vendor in wanted


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for service in marker.args:
            require(service)


def require(service: str) -> None:
    """Skip the test when the service is not there, or fail it where the environment says ``CI``."""
    reason = missing(service)
    if reason is None:
        return
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def no_permissions() -> None:
    from tests.permissions import without_permissions

    without_permissions()


@pytest.fixture(scope="session")
def django_db_setup(no_permissions: None, django_db_setup: None) -> None:
    """That of pytest-django, in its turn: the arguments are made in this order."""


@pytest.fixture(autouse=True)
def _forget_content_types() -> Iterator[None]:
    """The process keeps their ids; those that a test has made are gone after it."""
    yield
    from django.contrib.contenttypes.models import ContentType

    ContentType.objects.clear_cache()


@pytest.fixture
def server_directory() -> Iterator[Path]:
    """A directory that database servers can reach and whose path is short enough for a socket; tmp_path is neither."""
    path = Path(tempfile.mkdtemp(prefix="eventstore-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class PostgresFactory(Protocol):
    def __call__(self, **start: Any) -> PostgresCluster: ...


class MariaDBFactory(Protocol):
    def __call__(self, **server: Any) -> MariaDBServer: ...


@pytest.fixture
def postgres_cluster(server_directory: Path) -> Iterator[PostgresFactory]:
    """``postgres_cluster(**start)``: a new running PostgresCluster; the keywords are those of its ``start``.

    Every cluster of the test, also a standby made below ``server_directory``, has ended after it.
    """
    require("postgres-binaries")
    clusters: list[PostgresCluster] = []

    def make(**start: Any) -> PostgresCluster:
        clusters.append(PostgresCluster(server_directory / f"pg{len(clusters)}"))
        return clusters[-1].start(**start)

    yield make
    _delete_all(clusters)


@pytest.fixture
def mariadb_server(server_directory: Path) -> Iterator[MariaDBFactory]:
    """``mariadb_server(**server)``: a new running MariaDBServer; the keywords are those of the class."""
    require("mariadb-binaries")
    servers: list[MariaDBServer] = []

    def make(**server: Any) -> MariaDBServer:
        servers.append(MariaDBServer(server_directory / f"my{len(servers)}", **server))
        return servers[-1].start()

    yield make
    _delete_all(servers)


@pytest.fixture
def pgbouncer(server_directory: Path) -> Iterator[Callable[[PostgresCluster], PgBouncer]]:
    """``pgbouncer(cluster)``: a new running PgBouncer in transaction mode before the cluster."""
    require("pgbouncer")
    made: list[PgBouncer] = []

    def make(cluster: PostgresCluster) -> PgBouncer:
        made.append(PgBouncer(server_directory / f"bouncer{len(made)}", cluster))
        return made[-1].start()

    yield make
    _delete_all(made)


def _delete_all(servers: list[Any]) -> None:
    for server in servers:
        server.delete()


@pytest.fixture(scope="session", autouse=True)
def _database_blocker(request: pytest.FixtureRequest, django_db_blocker: Any) -> None:
    request.config.stash[BLOCKER] = django_db_blocker


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """A test that commits leaves no consumer behind; else the log would have one that is nobody's in some later test.

    The flush at its end makes the declared consumers known, as it has to: a test that declares one undoes it before.
    """
    yield
    if nextitem is not None and _commits(item):  # behind the last one there is no database any more
        from django_eventstore.models import ConsumerOffset

        with item.config.stash[BLOCKER].unblock():
            left = sorted(set(ConsumerOffset.objects.values_list("consumer", flat=True)))
        if left:
            pytest.fail(f"It leaves consumers behind: {', '.join(left)}", pytrace=False)


def _commits(item: pytest.Item) -> bool:
    from django.test import TestCase, TransactionTestCase

    case = getattr(item, "cls", None)
    if case is not None and issubclass(case, TransactionTestCase):
        return not issubclass(case, TestCase)
    marker = item.get_closest_marker("django_db")
    marked = marker is not None and bool(marker.kwargs.get("transaction"))
    return marked or "transactional_db" in getattr(item, "fixturenames", ())


class RegisterDatabase(Protocol):
    def __call__(self, settings: Mapping[str, Any], *, alias: str = "private", migrate: bool = True) -> str: ...


@pytest.fixture
def register_database(django_db_blocker: Any) -> Iterator[RegisterDatabase]:
    """Make a database of a private server an alias of this process and migrate it; returns the alias.

    ``register_database(cluster.django_settings("shop"))``: the database must exist. After the test the alias is gone.
    A test that crashes the server closes ``connections[alias]`` itself before it goes on.
    """
    from django.core.management import call_command
    from django.db import connections

    aliases: list[str] = []

    def register(settings: Mapping[str, Any], *, alias: str = "private", migrate: bool = True) -> str:
        connections.databases[alias] = {**settings}
        # Puts in the defaults that Django gives to every entry at its start, and leaves the others as they are.
        connections.configure_settings(connections.databases)
        aliases.append(alias)
        if migrate:
            call_command("migrate", database=alias, verbosity=0, interactive=False)
        return alias

    with django_db_blocker.unblock():
        yield register
    for alias in aliases:
        connections[alias].close()
        del connections[alias], connections.databases[alias]


class Spawn(Protocol):
    def __call__(
        self,
        *arguments: str,
        using: str | Mapping[str, Any] = "default",
        environment: Mapping[str, str] | None = None,
    ) -> Process: ...


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start Python processes on this test's database: ``spawn("-m", "tests.concurrency.writer", "7")``.

    They are killed after the test. One that ended by itself with an error, which the test neither waited for nor
    killed, makes the test fail with what it wrote to standard error.
    """
    numbers = itertools.count()
    processes: list[Process] = []

    def start(*arguments: str, **keywords: Any) -> Process:
        processes.append(start_process(*arguments, directory=tmp_path / f"process{next(numbers)}", **keywords))
        return processes[-1]

    yield start
    _finish([process.release for process in processes])


def _finish(steps: list[Callable[[], None]]) -> None:
    """Take every step, also after one has failed; then raise the first failure."""
    failures: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as exc:
            failures.append(exc)
    if failures:
        raise failures[0]
