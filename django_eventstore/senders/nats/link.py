"""One connection to NATS, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from ...exceptions import Unavailable
from ..base import Receipts
from .address import Address
from .flight import Flight

try:
    from nats import errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg
except ImportError as error:
    raise ImportError("The NATS sender needs nats-py: pip install 'django-eventstore[nats]'") from error

__all__ = ["Link", "Ready"]

GOODBYE = 1.0
"""Seconds that a polite close may take."""
BRIEFLY = 0.1
"""Seconds for a close after which the socket is closed in any case."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ready:
    """A message, where it goes, and the number of its entry in the batch."""

    number: int
    order: str
    """The stream of the event: two of one stream are not on their way at the same time. Empty: it has none."""
    subject: str
    headers: dict[str, str]
    body: bytes


class _Client(Client):
    must_encrypt = False

    # Not async itself: it is so in some versions and not in others, and returns what it is to return in either.
    def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> Any:
        """nats-py speaks plain text, and tells the password in it, when the server does not ask for TLS; whatever the URL."""
        if initial_connection and self.must_encrypt:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise errors.SecureConnWantedError
            info["tls_required"] = True
        return super()._process_info(info, initial_connection)


class Link:
    """Connected to the first server of the address that answers, within ``connect`` for each step.

    The thread ends with ``close()``. Once the connection is lost it is not made again: what was on its way may not have
    arrived, so whoever uses it must hear of that.
    """

    def __init__(self, address: Address, *, connect: timedelta) -> None:
        self._address = address
        self._patience = connect.total_seconds()
        self._client = _Client()
        self._lost: Exception | None = None
        self._moved: asyncio.Event
        self._flight = Flight("", Receipts(()))  # an empty one
        self._inbox = ""
        self._serials = itertools.count(1)
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventstore-nats", daemon=True)
        self._thread.start()
        self._begun.wait()
        if self._lost is not None:
            raise self._lost
        try:
            self._call(self._connect(), 4 * self._patience * len(address.urls))
        except BaseException:
            self.close()
            raise

    # --- for the thread that publishes ---

    @property
    def largest(self) -> int:
        """Bytes that a message may have, its headers included."""
        return self._client.max_payload

    def is_usable(self) -> bool:
        """Whether nothing is known against it: its thread has read what came since it was used."""
        return self._lost is None and self._client.is_connected

    def begin(self, flight: Flight) -> None:
        """What is answered from now on goes here; late answers to what was published before are dropped."""
        self._flight = flight

    def publish(self, messages: Sequence[Ready], *, most: int) -> Future[None]:
        """Publish these when no more than ``most`` are on their way, unless something has failed by then.

        Done when all are handed to the connection. Ends with an error when that is lost.
        """
        return self._submit(self._publish(messages, most))

    def settle(self) -> Future[None]:
        """Done when all that is on its way has been answered. Ends with an error when the connection is lost."""
        return self._submit(self._answers(most=0))

    def ask(self, subject: str, *, longest: timedelta) -> bytes:
        """Ask somebody and return the answer. Raises errors of nats-py."""
        seconds = longest.total_seconds()
        return self._call(self._ask(subject, seconds), seconds + GOODBYE)

    def distrust(self) -> None:
        """Something went wrong on it: it is not used again, and closed without a word."""
        self._lost = self._lost or errors.ConnectionClosedError()

    def close(self) -> None:
        """Let go of the connection, politely if it is sound, and end the thread."""
        with contextlib.suppress(Exception):
            self._call(self._end(), 4 * GOODBYE)
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(4 * GOODBYE)

    def _submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            work.close()
            raise

    def _call(self, work: Coroutine[Any, Any, Result], seconds: float) -> Result:
        future = self._submit(work)
        if not wait([future], seconds).done:
            future.cancel()
            raise Unavailable(f"NATS: no answer within {seconds:g} s.")
        return future.result()

    # --- for the thread of the loop ---

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception as error:  # noqa: BLE001 - there is no loop, for want of files or memory: raised where it is waited for
            self._lost = error
        finally:
            self._begun.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._moved, self._ended = asyncio.Event(), asyncio.Event()
        self._begun.set()
        await self._ended.wait()

    async def _connect(self) -> None:
        reason: Exception | None = None
        for url in self._address.urls:
            try:
                await asyncio.wait_for(self._connect_to(url), 3 * self._patience)
            except Exception as error:  # noqa: BLE001 - sockets, TLS, nats-py: each has errors of its own
                reason = self._lost or error
                self._abort()
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self._client.close(), BRIEFLY)
            else:
                return
        raise reason or Unavailable("NATS: no server to connect to.")

    async def _connect_to(self, url: str) -> None:
        self._lost = None
        self._client = _Client()
        options: dict[str, Any] = {}
        if self._address.is_encrypted(url):
            self._client.must_encrypt = True
            options["tls"] = self._address.context()
            if self._address.host_name is not None:
                options["tls_hostname"] = self._address.host_name
        await self._client.connect(
            url,
            name="django_eventstore",
            allow_reconnect=False,
            # More than one would be none: with 0 it tries for ever.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=self._patience,  # type: ignore[arg-type]
            error_cb=self._on_error,
            closed_cb=self._on_closed,
            **options,
        )
        self._lost = None  # what went wrong with a first attempt
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def _publish(self, messages: Sequence[Ready], most: int) -> None:
        await self._answers(most=most)
        flight = self._flight
        for message in messages:
            while flight.is_busy(message.order):
                await self._answer()
            if flight.has_failed or flight.stopped:
                return
            serial = next(self._serials)
            flight.published(serial, message.number, message.order)
            await self._client.publish(
                message.subject, message.body, reply=f"{self._inbox}.{serial}", headers=message.headers
            )

    async def _answers(self, *, most: int) -> None:
        """Wait until no more than ``most`` are on their way."""
        flight = self._flight
        while flight.in_flight > most:
            await self._answer()

    async def _answer(self) -> None:
        """Wait for the next one. Raises when the connection is lost."""
        if self._lost is not None:
            raise self._lost
        self._moved.clear()
        await self._moved.wait()

    async def _ask(self, subject: str, seconds: float) -> bytes:
        return (await self._client.request(subject, timeout=seconds)).data

    async def _on_answer(self, message: Msg) -> None:
        self._flight.answered(int(message.subject.rpartition(".")[2]), message.headers, message.data)
        self._moved.set()

    async def _on_error(self, error: Exception) -> None:
        self._lose(error)

    async def _on_closed(self) -> None:
        self._lose(self._client.last_error or errors.ConnectionClosedError())

    def _lose(self, error: Exception) -> None:
        # Also for what concerns one subject only, such as a missing permission: no answer says of which message.
        self._lost = self._lost or error
        self._moved.set()

    async def _end(self) -> None:
        if self._lost is not None:
            self._abort()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.close(), GOODBYE if self._lost is None else BRIEFLY)
        self._abort()

    def _abort(self) -> None:
        """Close the socket without a word; a frozen server would keep nats-py waiting."""
        writer = getattr(getattr(self._client, "_transport", None), "_bare_io_writer", None)
        if writer is not None:
            writer.transport.abort()
