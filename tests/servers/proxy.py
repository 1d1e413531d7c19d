"""A TCP proxy between a client and a server, to cut, freeze and slow down at will. Imports nothing of the package."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from typing import Final, Literal

Mode = Literal["open", "cut", "frozen", "deaf"]

_LOOK: Final = 0.01
_PIECE: Final = 65536


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes on what comes; each connection in a thread of its own.

    ``cut()``: the connections end and new ones are refused. ``freeze()``: connections stay, new ones too, and nothing passes,
    as with a stopped process. ``deafen()``: the server hears the client, and its answers are lost. ``open()`` undoes them;
    what was frozen passes on then, and what was deafened is cut, since its bytes are gone.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: clients speak TLS to the proxy, and the proxy plain text to the server."""
        self._upstream = (host, port)
        self._tls = tls
        self._mode: Mode = "open"
        self._delay = 0.0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.upstream_bytes = 0
        """How many bytes have gone to the server."""

    def open(self) -> None:
        was, self._mode = self._mode, "open"
        if was == "deaf":
            self._end_all()
        if was == "cut":
            self._listener = self._listen(self.port)

    def cut(self) -> None:
        self._mode = "cut"
        self._listener.close()
        self._accepting.join()  # a socket that a thread waits on is still bound
        self._end_all()

    def freeze(self) -> None:
        self._mode = "frozen"

    def deafen(self) -> None:
        self._mode = "deaf"

    def slow_down(self, seconds: float) -> None:
        """Wait so long before each piece that is passed on."""
        self._delay = seconds

    def close(self) -> None:
        """End everything; the proxy is not used again."""
        self.cut()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        listener.settimeout(_LOOK)
        self._accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._accepting.start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while listener.fileno() >= 0:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        while self._mode == "frozen":
            time.sleep(_LOOK)
        try:
            if self._tls is not None:
                client.settimeout(5)
                client = self._tls.wrap_socket(client, server_side=True)
            server = socket.create_connection(self._upstream, timeout=5)
        except OSError:
            client.close()
            return
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        # One thread for each direction: a server goes on reading while its answers are not read.
        back = threading.Thread(target=self._pass_on, args=(server, client), kwargs={"upstream": False}, daemon=True)
        back.start()
        self._pass_on(client, server, upstream=True)
        self._end(pair)
        back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket, *, upstream: bool) -> None:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            while self._mode != "cut":
                readable = selector.select(_LOOK)
                if self._mode == "frozen":  # asked after the wait, or a last piece would pass
                    time.sleep(_LOOK)
                elif readable and not self._pass_piece(source, target, upstream=upstream):
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass_piece(self, source: socket.socket, target: socket.socket, *, upstream: bool) -> bool:
        piece = source.recv(_PIECE)
        if not piece:
            return False
        while isinstance(source, ssl.SSLSocket) and source.pending():
            piece += source.recv(_PIECE)
        if self._delay:
            time.sleep(self._delay)
        if upstream:
            self.upstream_bytes += len(piece)
        elif self._mode == "deaf":
            return True
        target.sendall(piece)
        return True

    def _end_all(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
