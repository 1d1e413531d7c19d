"""Between a worker and its server: connections that are cut, also between a commit and its answer."""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PIECE = 65_536


class Proxy:
    """Listens on a port of 127.0.0.1 for the server of an entry of ``DATABASES``; `settings` is the entry to use instead."""

    def __init__(self, settings: Mapping[str, Any], *, seed: str) -> None:
        self._server = dict(settings)
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stopping = False
        self._cut_at = float("inf")
        self.cuts = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def settings(self) -> dict[str, Any]:
        port = self._listener.getsockname()[1]
        return {**self._server, "HOST": "127.0.0.1", "PORT": str(port)}

    def cut_every(self, seconds: float | None) -> None:
        """From now on, all connections at once; None: no more."""
        self._every = seconds
        self._cut_at = float("inf") if seconds is None else time.monotonic() + seconds

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        for end in self._pairs:
            end.close()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(0.01):
                self._serve(key.fileobj)
            if time.monotonic() >= self._cut_at and self._pairs:
                self._cut_at = time.monotonic() + (self._every or 0.0)
                if self._random.random() < 0.5:
                    for end in list(self._pairs):
                        self._drop(end)
                    self.cuts += 1
                else:
                    self._cut_before_the_answer()

    def _serve(self, end: Any) -> None:
        if end is self._listener:
            client, _ = self._listener.accept()
            server = self._connect()
            for one, other in ((client, server), (server, client)):
                self._pairs[one] = other
                self._selector.register(one, selectors.EVENT_READ)
        elif end in self._pairs:
            self._forward(end)

    def _forward(self, end: socket.socket) -> bytes:
        data = b""
        with suppress(OSError):
            data = end.recv(PIECE)
            self._pairs[end].sendall(data)
        if not data:
            self._drop(end)
        return data

    def _cut_before_the_answer(self) -> None:
        """The next commit that the server answers is the last: what it did, it did, and nobody is told."""
        end, asking = time.monotonic() + 0.5, None
        while time.monotonic() < end:
            for key, _ in self._selector.select(0.01):
                source: Any = key.fileobj
                if source is self._listener:
                    self._serve(source)
                elif source in self._pairs and self._pairs[source] is asking:
                    self._drop(source)
                    self.cuts += 1
                    return
                elif source in self._pairs and b"COMMIT" in self._forward(source).upper() and self._is_client(source):
                    asking = source

    def _is_client(self, end: Any) -> bool:
        return bool(end.family == socket.AF_INET and end.getsockname() == self._listener.getsockname())

    def _drop(self, end: Any) -> None:
        other = self._pairs.pop(end, None)
        if other is None:
            return
        self._pairs.pop(other)
        for one in (end, other):
            self._selector.unregister(one)
            one.close()

    def _connect(self) -> socket.socket:
        host, port = str(self._server["HOST"]), str(self._server["PORT"])
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        path = Path(host)
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(path / f".s.PGSQL.{port}" if path.is_dir() else path))
        return server
