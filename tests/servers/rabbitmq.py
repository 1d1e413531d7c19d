"""RabbitMQ for tests: the address of the shared one, and nodes that belong to one test."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tests.servers.errors import ServerFailed, ServerMissing
from tests.servers.postgresql import free_port
from tests.servers.supervision import Supervised

if TYPE_CHECKING:
    from typing_extensions import Self

RABBITMQ_URL: Final = "EVENTSTORE_TEST_RABBITMQ_URL"


def rabbitmq_url() -> str:
    """The address of the shared RabbitMQ: as the environment says, else the local one."""
    return os.environ.get(RABBITMQ_URL, "amqp://guest:guest@127.0.0.1:5672//")


def connect(url: str, *, timeout: float = 5.0):
    """A new connection by py-amqp, which the caller closes."""
    import amqp

    parts = urlsplit(url)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port or 5672}",
        userid=parts.username or "guest",
        password=parts.password or "guest",
        connect_timeout=timeout,
    )
    connection.connect()
    return connection


def find_rabbitmq() -> Path:
    """The server's start script, below the wrapper that changes the account. Raises ServerMissing."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if not found:
        raise ServerMissing("no rabbitmq-server found; install Debian's rabbitmq-server package")
    return found[-1]


class RabbitMQNode:
    """One node with directories and a name of its own, on a free port of 127.0.0.1; guest, guest.

    A node left running ends with the process that started it.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, object] | None = None) -> None:
        """Prepare ``directory`` (made if absent). ``settings`` go into rabbitmq.conf. Raises ServerMissing."""
        self._program = find_rabbitmq()
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._distribution_port = free_port()
        self.log = self.directory / "log"
        lines = [f"{name} = {value}\n" for name, value in (settings or {}).items()]
        (self.directory / "rabbitmq.conf").write_text("".join(lines))
        (self.directory / "plugins").write_text("[].")
        self._supervised = Supervised(account=None, directory=self.directory, log=self.log)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self, *, timeout: float = 90.0) -> Self:
        """Start the node and return when it answers."""
        home = self.directory
        self._supervised.launch(
            [self._program],
            ready=self._answers,
            timeout=timeout,
            environment={
                "HOME": str(home),  # where Erlang looks for the cookie
                "RABBITMQ_NODENAME": f"eventstore{self.port}@localhost",
                "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_DIST_PORT": str(self._distribution_port),
                "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
                "RABBITMQ_LOG_BASE": str(home / "logs"),
                "RABBITMQ_PID_FILE": str(home / "pid"),
                "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
                "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            },
            last_wish=signal.SIGTERM,
        )
        return self

    def stop(self, *, timeout: float = 60.0) -> None:
        """SIGTERM: the node closes its connections and ends in order."""
        self._supervised.end(signal.SIGTERM, timeout=timeout)

    def kill(self) -> None:
        """SIGKILL, to the start script and the machine below it."""
        if self._supervised.running:
            os.killpg(self._supervised.pid, signal.SIGKILL)  # it leads a session of its own
        self._supervised.end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing, and the kernel goes on taking what is sent to it."""
        self._supervised.freeze_all()

    def thaw(self) -> None:
        """SIGCONT."""
        self._supervised.thaw_all()

    def forget(self) -> None:
        """Remove all that a stopped node has: it starts empty."""
        shutil.rmtree(self.directory / "mnesia")

    def delete(self) -> None:
        """Kill the node if it runs, and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            connect(self.url, timeout=2).close()
        except OSError:
            return False
        except Exception as error:
            raise ServerFailed(f"RabbitMQ answered with {error!r}") from error
        return True
