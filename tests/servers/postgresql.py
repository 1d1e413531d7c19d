"""PostgreSQL clusters that belong to one test, to be stopped, crashed, copied and promoted at will."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote, urlencode

from tests.servers.accounts import own_directory, postgresql_account, run
from tests.servers.errors import ServerFailed
from tests.servers.postgresql_binaries import PostgresBinaries, find_binaries
from tests.servers.supervision import Supervised

if TYPE_CHECKING:
    import psycopg
    from typing_extensions import Self

StopMode = Literal["smart", "fast", "immediate"]

_SIGNALS: Final[dict[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

_SOCKET_PORT: Final = 5432
"""The number in the socket's file name: it must be the same for every cluster, and means nothing else."""

_LONGEST_SOCKET_PATH: Final = 100
"""Bytes; the kernel takes 107."""

_DEFAULT_SETTINGS: Final[dict[str, str]] = {
    "max_connections": "100",
    "max_prepared_transactions": "20",
    "shared_buffers": "32MB",
    "wal_level": "replica",
}


class PostgresCluster:
    """One PostgreSQL server with a data directory of its own, reached as the superuser ``postgres`` without a password.

    It listens on a Unix socket inside ``directory`` and, when ``start(port=…)`` says so, on 127.0.0.1. fsync is on, so
    what survives a crash here is what survives it in production. A cluster left running ends with the process that
    started it. As root, everything runs as another user, and ``directory`` must be reachable for that user.
    """

    def __init__(self, directory: Path, *, binaries: PostgresBinaries | None = None) -> None:
        """Prepare ``directory`` (made if absent); the data directory is made by the first `start`.

        Raises ServerMissing when no PostgreSQL is installed.
        """
        self.account = postgresql_account()
        self.directory = own_directory(directory.resolve(), self.account)
        self.binaries = (binaries or find_binaries()).usable_by(self.account)
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        if len(str(self.directory)) + len(f"/.s.PGSQL.{_SOCKET_PORT}") > _LONGEST_SOCKET_PATH:
            raise ServerFailed(f"{self.directory} is too long a path for a Unix socket; use a shorter one")
        self._supervised = Supervised(account=self.account, directory=self.directory, log=self.log)
        self._settings: dict[str, str] = {}
        self._options: tuple[str, ...] = ()
        self._port = 0

    @property
    def running(self) -> bool:
        return self._supervised.running

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return self._supervised.pid

    def initialize(self) -> None:
        """Run initdb, unless the data directory exists."""
        if (self.data / "PG_VERSION").exists():
            return
        options = ["-U", "postgres", "-E", "UTF8", "--no-locale", "--auth=trust", "--no-sync"]
        self._run("initdb", "-D", self.data, *options)

    def start(
        self,
        *,
        settings: Mapping[str, str | int] | None = None,
        options: Sequence[str] = (),
        port: int = 0,
        timeout: float = 60.0,
    ) -> Self:
        """Start the server, initialising the data directory if it is new, and return when it accepts connections.

        ``settings`` are configuration parameters ({"synchronous_commit": "off"}), ``options`` further arguments of
        ``postgres``; both replace those of the last start. ``port`` 0 means the socket only. ``timeout``: seconds,
        crash recovery included; after them ServerFailed.
        """
        self.initialize()
        self._settings = {**_DEFAULT_SETTINGS, **{name: str(value) for name, value in (settings or {}).items()}}
        self._options = tuple(options)
        self._port = port
        self._launch(timeout)
        return self

    def stop(self, mode: StopMode = "fast", *, timeout: float = 60.0) -> None:
        """Stop the server as ``pg_ctl stop -m mode`` would; "immediate" is a crash, with recovery at the next start."""
        self._supervised.end(_SIGNALS[mode], timeout=timeout)

    def kill(self) -> None:
        """Crash the server: every process of it quits at once, nothing more is written."""
        self.stop("immediate")

    def restart(self, mode: StopMode = "fast", *, timeout: float = 60.0) -> None:
        """Stop in this mode, and start with the settings of the last start."""
        self.stop(mode, timeout=timeout)
        self._launch(timeout)

    def _launch(self, timeout: float) -> None:
        addresses = {"listen_addresses": "127.0.0.1" if self._port else "", "port": str(self._port or _SOCKET_PORT)}
        settings = {**self._settings, **addresses, "unix_socket_directories": str(self.directory)}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        self._supervised.launch(
            [self.binaries.path("postgres"), "-D", self.data, *arguments, *self._options],
            ready=self._accepts_connections,
            timeout=timeout,
            environment={},
            last_wish=_SIGNALS["fast"],
        )

    def _accepts_connections(self) -> bool:
        """The postmaster's own word, the last line of its pid file: what pg_ctl waits for."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() in {"ready", "standby"}

    @property
    def port(self) -> int:
        """The port of the address, also of the socket."""
        return self._port or _SOCKET_PORT

    def url(self, database: str = "postgres") -> str:
        """The libpq address of one database, through the socket."""
        return f"postgresql://postgres@/{quote(database)}?{urlencode({'host': self.directory, 'port': self.port})}"

    def django_settings(self, database: str = "postgres", **options: object) -> dict[str, object]:
        """An entry of ``DATABASES``; ``options`` become its OPTIONS."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database,
            "USER": "postgres",
            "PASSWORD": "",
            "HOST": str(self.directory),
            "PORT": str(self.port),
            "OPTIONS": options,
        }

    def connect(self, database: str = "postgres", *, autocommit: bool = True) -> psycopg.Connection:
        """A new psycopg connection, which the caller closes."""
        import psycopg

        return psycopg.connect(self.url(database), autocommit=autocommit)

    def create_database(self, name: str) -> None:
        """CREATE DATABASE, empty."""
        self._run("createdb", *self._client_options(), name)

    def backup_to(self, directory: Path) -> PostgresCluster:
        """A streaming standby of this running server in another directory, not yet started (pg_basebackup -R)."""
        standby = PostgresCluster(directory, binaries=self.binaries)
        options = ["-X", "stream", "-c", "fast", "-R", "--no-sync"]
        self._run("pg_basebackup", *self._client_options(), "-D", standby.data, *options)
        return standby

    def promote(self, *, timeout: float = 60.0) -> None:
        """Make this standby a primary on a timeline of its own; raises ServerFailed when it is none by then."""
        with self.connect() as connection:
            row = connection.execute("SELECT pg_promote(true, %s)", [int(timeout)]).fetchone()
        if row is None or not row[0]:
            raise ServerFailed(f"not promoted within {timeout:g} s:\n{self._supervised.log_tail()}")

    def dump(self, database: str, *arguments: str) -> Path:
        """pg_dump of one database into a new file, plain SQL unless ``arguments`` say ``-Fc``; returns its path."""
        number = len(list(self.directory.glob("dump-*")))
        path = self.directory / f"dump-{number}"
        self._run("pg_dump", *self._client_options(), *arguments, "-f", path, database)
        # Another cluster may run as the same user or, at a desk, read it by its owner: never by anybody else.
        path.chmod(0o644)
        return path

    def restore(self, database: str, dump: Path) -> None:
        """Play a dump into an existing database with psql, or with pg_restore when it is in the custom format.

        Raises ServerFailed at the first statement that fails.
        """
        with dump.open("rb") as file:
            custom = file.read(5) == b"PGDMP"
        if custom:
            self._run("pg_restore", *self._client_options(), "--exit-on-error", "-d", database, dump)
        else:
            self._run("psql", *self._client_options(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", dump)

    def _client_options(self) -> list[str]:
        return ["-h", str(self.directory), "-p", str(self.port), "-U", "postgres"]

    def _run(self, program: str, *arguments: str | Path) -> str:
        return run([self.binaries.path(program), *arguments], account=self.account, directory=self.directory)

    def delete(self) -> None:
        """Crash the server if it runs, and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
