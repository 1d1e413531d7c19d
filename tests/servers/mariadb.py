"""MariaDB servers that belong to one test, to be stopped and killed at will."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from tests.servers.accounts import mariadb_account, own_directory, run
from tests.servers.errors import ServerFailed, ServerMissing
from tests.servers.postgresql import free_port
from tests.servers.supervision import Supervised

if TYPE_CHECKING:
    import MySQLdb.connections
    from typing_extensions import Self

_SMALL: Final = (
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=1M",
    "--performance-schema=OFF",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
)

_LONGEST_SOCKET_PATH: Final = 100
"""Bytes; the kernel takes 107."""


def find_program(*names: str) -> Path:
    """The first of these programs that is installed. Raises ServerMissing with what to install."""
    for name in names:
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin") or shutil.which(
            name
        )
        if found is not None:
            return Path(found)
    raise ServerMissing(f"no {names[0]} found; install Debian's mariadb-server package")


class MariaDBServer:
    """One MariaDB server with a data directory of its own, reached as ``root`` without a password.

    It listens on a socket inside ``directory`` and on a free port of 127.0.0.1. A commit is flushed before it returns
    (innodb_flush_log_at_trx_commit=1) unless ``options`` say otherwise. A server left running ends with the process
    that started it. As root it runs as the user mysql where there is one; ``directory`` must be reachable for it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        options: Sequence[str] = (),
        ld_preload: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare ``directory`` (made if absent); the data directory is made by the first `start`.

        ``options`` are further arguments of mariadbd and win over the built-in ones; ``ld_preload`` is a library to
        load into it, ``environment`` what that library reads. Raises ServerMissing when MariaDB is not installed.
        """
        self.account = mariadb_account()
        self._mariadbd = find_program("mariadbd", "mysqld")
        self._install = find_program("mariadb-install-db", "mysql_install_db")
        self.directory = own_directory(directory.resolve(), self.account)
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.socket = self.directory / "socket"
        if len(str(self.socket)) > _LONGEST_SOCKET_PATH:
            raise ServerFailed(f"{self.socket} is too long a path for a Unix socket; use a shorter one")
        self.port = free_port()
        self._options = tuple(options)
        self._environment = dict(environment or {})
        if ld_preload is not None:
            self._environment["LD_PRELOAD"] = str(ld_preload)
        self._supervised = Supervised(account=self.account, directory=self.directory, log=self.log)

    @property
    def running(self) -> bool:
        return self._supervised.running

    @property
    def pid(self) -> int:
        """The process id of mariadbd."""
        return self._supervised.pid

    def initialize(self) -> None:
        """Run mariadb-install-db, unless the data directory exists."""
        if (self.data / "mysql").exists():
            return
        login = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        # The log's size is fixed here: a server that finds another size rewrites it at its first start.
        arguments = ["--no-defaults", f"--datadir={self.data}", *login, "--innodb-log-file-size=16M"]
        run([self._install, *arguments], account=self.account, directory=self.directory)

    def start(self, *, timeout: float = 60.0) -> Self:
        """Start the server, initialising the data directory if it is new, and return when it answers.

        ``timeout``: seconds, crash recovery included; after them ServerFailed.
        """
        self.initialize()
        arguments = [
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            f"--pid-file={self.directory / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=1",
            *_SMALL,
            # mariadbd runs as root only when told so.
            *(("--user=root",) if self.account is None and os.geteuid() == 0 else ()),
        ]
        self._supervised.launch(
            [self._mariadbd, "--no-defaults", *arguments, *self._options],
            ready=self._answers,
            timeout=timeout,
            environment=self._environment,
            last_wish=signal.SIGTERM,
        )
        return self

    def stop(self, *, timeout: float = 60.0) -> None:
        """Shut the server down in order."""
        self._supervised.end(signal.SIGTERM, timeout=timeout)

    def kill(self) -> None:
        """SIGKILL: the server is gone with whatever it has not handed to the operating system."""
        self._supervised.end(signal.SIGKILL)

    def restart(self, *, timeout: float = 60.0) -> None:
        """Stop if it runs, and start with the same options."""
        self.stop(timeout=timeout)
        self.start(timeout=timeout)

    def _answers(self) -> bool:
        import MySQLdb

        if not self.socket.exists():
            return False
        try:
            self.connect().close()
        except MySQLdb.OperationalError:
            return False
        return True

    def url(self, database: str = "") -> str:
        """The address of one database through the socket, as EVENTSTORE_TEST_MARIADB_URL takes it."""
        return f"mariadb://root@/{quote(database)}?{urlencode({'socket': self.socket})}"

    def django_settings(self, database: str, **options: object) -> dict[str, object]:
        """An entry of ``DATABASES``; ``options`` join the character set in its OPTIONS."""
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": database,
            "USER": "root",
            "PASSWORD": "",
            "HOST": str(self.socket),
            "PORT": "",
            "OPTIONS": {"charset": "utf8mb4", **options},
        }

    def connect(self, database: str = "", *, autocommit: bool = True) -> MySQLdb.connections.Connection:
        """A new mysqlclient connection, which the caller closes."""
        import MySQLdb

        return MySQLdb.connect(
            unix_socket=str(self.socket), user="root", database=database, charset="utf8mb4", autocommit=autocommit
        )

    def create_database(self, name: str) -> None:
        """CREATE DATABASE, empty, in utf8mb4."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        finally:
            connection.close()

    def delete(self) -> None:
        """Kill the server if it runs, and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory)
