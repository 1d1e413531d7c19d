"""Redis for tests: the address of the shared one, and servers that belong to one test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.servers.errors import ServerMissing
from tests.servers.postgresql import free_port
from tests.servers.supervision import Supervised

if TYPE_CHECKING:
    from typing_extensions import Self

REDIS_URL: Final = "EVENTSTORE_TEST_REDIS_URL"


def redis_url() -> str:
    """The address of the shared Redis: as the environment says, else the local one."""
    return os.environ.get(REDIS_URL, "redis://127.0.0.1:6379/0")


def connect(url: str, **options: object) -> Any:
    """A client of redis-py, which the caller closes."""
    import redis

    return redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5, **options)


def find_redis() -> Path:
    """The server program. Raises ServerMissing."""
    found = shutil.which("redis-server")
    if found is None:
        raise ServerMissing("no redis-server found; install Debian's redis-server package")
    return Path(found)


class RedisServer:
    """One server with a directory of its own, on a free port of 127.0.0.1; it writes every command to its file.

    A server left running ends with the process that started it.
    """

    def __init__(self, directory: Path, *, options: Sequence[str] = ()) -> None:
        """Prepare ``directory`` (made if absent). ``options`` are further arguments. Raises ServerMissing."""
        self._program = find_redis()
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._options = tuple(options)
        self._supervised = Supervised(account=None, directory=self.directory, log=self.directory / "log")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *, timeout: float = 60.0) -> Self:
        """Start the server and return when it answers."""
        self._supervised.launch(
            [
                self._program,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"),
                *self._options,
            ],
            ready=self._answers,
            timeout=timeout,
            environment={},
            last_wish=signal.SIGTERM,
        )
        return self

    def stop(self) -> None:
        """SIGTERM: the server ends in order."""
        self._supervised.end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._supervised.end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing, and the kernel goes on taking what is sent to it."""
        self._supervised.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._supervised.thaw()

    def forget(self) -> None:
        """Remove all that a stopped server has: it starts empty."""
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)
        (self.directory / "appendonly.aof").unlink(missing_ok=True)  # before Redis 7

    def delete(self) -> None:
        """Kill the server if it runs, and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
        except OSError:
            return False
