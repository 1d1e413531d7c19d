"""A PgBouncer in transaction mode before a private PostgreSQL cluster."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.accounts import own_directory, postgresql_account
from tests.servers.errors import ServerMissing
from tests.servers.postgresql import PostgresCluster, free_port
from tests.servers.supervision import Supervised

if TYPE_CHECKING:
    from typing_extensions import Self


def find_pgbouncer() -> Path:
    """The program. Raises ServerMissing with what to install."""
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") or shutil.which(
        "pgbouncer"
    )
    if found is None:
        raise ServerMissing("no pgbouncer found; install Debian's pgbouncer package")
    return Path(found)


class PgBouncer:
    """One PgBouncer before ``cluster``, on a free port of 127.0.0.1; each of its clients has a session for a transaction."""

    def __init__(self, directory: Path, cluster: PostgresCluster) -> None:
        self._program = find_pgbouncer()
        self._account = postgresql_account()
        self._cluster = cluster
        self.directory = own_directory(directory, self._account)
        self.port = free_port()
        self._supervised = Supervised(account=self._account, directory=directory, log=directory / "log")

    def start(self) -> Self:
        """Start it, and return when it answers."""
        users = self.directory / "users"
        users.write_text('"postgres" ""\n')
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text(
            "[databases]\n"
            f"* = host={self._cluster.directory} port={self._cluster.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\n"
            "pool_mode = transaction\nmax_client_conn = 200\ndefault_pool_size = 5\n"
        )
        for file in (users, configuration):
            file.chmod(0o644)
        self._supervised.launch(
            [self._program, configuration],
            ready=self._answers,
            timeout=30,
            environment={},
            last_wish=signal.SIGINT,
        )
        return self

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def django_settings(self, database: str) -> dict[str, object]:
        """An entry of ``DATABASES`` that goes through it, with what Django asks for behind such a pooler."""
        return {
            **self._cluster.django_settings(database),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DISABLE_SERVER_SIDE_CURSORS": True,
        }

    def delete(self) -> None:
        """Stop it and remove its directory."""
        self._supervised.end(signal.SIGTERM)
        shutil.rmtree(self.directory)
