"""NATS for tests: the address of the shared one, servers that belong to one test, and a client without async."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.servers.errors import ServerMissing
from tests.servers.postgresql import free_port
from tests.servers.supervision import Supervised

if TYPE_CHECKING:
    from nats.js.api import StreamConfig
    from typing_extensions import Self

NATS_URL: Final = "EVENTSTORE_TEST_NATS_URL"


def nats_url() -> str:
    """The address of the shared NATS: as the environment says, else the local one."""
    return os.environ.get(NATS_URL, "nats://127.0.0.1:4222")


def find_nats() -> Path:
    """The server program. Raises ServerMissing."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ServerMissing("no nats-server found; install Debian's nats-server package")
    return Path(found)


class NATSClient:
    """A connection of the test itself, which sees what the streams have."""

    def __init__(self, url: str, *, authority: str | None = None) -> None:
        """Connect. ``authority``: the certificate to trust, of a server with TLS. Raises errors of nats-py and OSError."""
        import nats

        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._thread.start()
        self._begun.wait()
        self._client: Any = None
        try:
            options: dict[str, Any] = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
            if authority is not None:
                options["tls"] = ssl.create_default_context(cafile=authority)
            self._client = self.call(nats.connect(url, error_cb=_ignore, **options))
            self.js = self.jetstream()
        except BaseException:
            self.close()
            raise

    def call(self, work: Coroutine[Any, Any, Any], timeout: float = 30.0) -> Any:
        """Run it on the connection's loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def jetstream(self, **options: object) -> Any:
        """A JetStreamContext of nats-py, whose methods are for ``call``."""
        return self.call(_jetstream(self._client, options))

    def make_stream(self, name: str, **config: object) -> StreamConfig:
        return self.call(self.js.add_stream(name=name, **config)).config

    def delete_stream(self, name: str) -> None:
        self.call(self.js.delete_stream(name))

    def purge(self, name: str) -> None:
        self.call(self.js.purge_stream(name))

    def messages(self, name: str) -> int:
        """How many messages the stream has now."""
        return int(self.call(self.js.stream_info(name)).state.messages)

    def collect(self, name: str) -> list[Any]:
        """A list that grows by what the stream gets, from its first message on."""
        got: list[Any] = []

        async def on_message(message: Any) -> None:
            got.append(message)

        self.call(self.js.subscribe(">", stream=name, ordered_consumer=True, cb=on_message))
        return got

    def close(self) -> None:
        if self._client is not None:
            self.call(self._client.close())
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _live(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        await self._ended.wait()


async def _ignore(error: Exception) -> None:
    """What goes wrong is seen by whoever waits for it."""


async def _jetstream(client: Any, options: dict[str, object]) -> Any:
    return client.jetstream(**options)


class NATSServer:
    """One server with JetStream and a directory of its own, on a free port of 127.0.0.1.

    A server left running ends with the process that started it.
    """

    def __init__(self, directory: Path, *, settings: str = "") -> None:
        """Prepare ``directory`` (made if absent). ``settings`` go into the configuration file. Raises ServerMissing."""
        self._program = find_nats()
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._settings = self.directory / "nats.conf"
        self._settings.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.directory / "store"}" }}\n{settings}\n'
        )
        self._supervised = Supervised(account=None, directory=self.directory, log=self.directory / "log")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self, *, timeout: float = 60.0) -> Self:
        """Start the server and return when it answers."""
        arguments: list[str | Path] = [self._program, "-c", self._settings]
        self._supervised.launch(
            arguments, ready=self._answers, timeout=timeout, environment={}, last_wish=signal.SIGTERM
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
        shutil.rmtree(self.directory / "store")

    def delete(self) -> None:
        """Kill the server if it runs, and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        """Whether it greets: it listens only when JetStream has recovered what is stored."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False
