"""The long-running form: forward, wait, forward again, until asked to stop."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Protocol

from django.db import Error, InterfaceError, OperationalError, connections

from ..consumers.classification import Fault, fault_of
from ..delivery import DeliveryPolicy
from ..store import Pause
from .forwarder import Forwarded

__all__ = ["StopOnSignal", "follow", "may_pass", "tidy_connections"]

logger = logging.getLogger(__name__)

KEEP = timedelta(milliseconds=500)
"""How long leases are kept after the last event, so that the next one is delivered without asking for everything again."""
RECONNECT = DeliveryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=30))


class Wait(Protocol):
    """Waits until the log may go on after ``seen``, at most for the time-out."""

    def __call__(self, timeout: timedelta, *, seen: int) -> bool: ...


def follow(
    forward: Callable[[], Forwarded],
    *,
    wait: Wait,
    interval: timedelta,
    stop: Callable[[], bool],
    pause: Pause,
    tidy: Callable[[], None],
    let_go: Callable[[], None],
    retry: DeliveryPolicy = RECONNECT,
) -> int:
    """Call ``forward`` again and again until ``stop()``; returns the number of events delivered.

    Waits when nothing is left, for ``interval`` at most: then what is due again is looked at as well. A lost database
    connection is logged, and tried again with growing delays; every other error is raised. While it waits it holds no
    transaction and no lock, and after half a second no lease: ``let_go`` releases what ``forward`` has kept.
    """
    delivered, failures = 0, 0
    while not stop():
        try:
            done = forward()
            delivered += done.delivered
            failures = 0
            tidy()
            if not done.more and not _waits(wait, min(KEEP, interval), done, stop):
                let_go()
                _waits(wait, interval - min(KEEP, interval), done, stop)
        except Error as error:
            if not may_pass(error):
                raise
            failures += 1
            delay = retry.delay(failures).total_seconds()
            logger.exception("The database did not answer, attempt %d; trying again in %.1f s", failures, delay)
            tidy()
            pause(delay)
    try:
        let_go()
    except Error as error:
        if not may_pass(error):
            raise
        logger.exception("The leases could not be released; they run out")
    return delivered


def may_pass(error: Error) -> bool:
    """Whether the database may answer when it is asked again, on another connection: it is away, or has ended the session.

    The end of a session that stood idle in a transaction, as one does whose process was stopped, is an InternalError.
    """
    return isinstance(error, (InterfaceError, OperationalError)) or fault_of(error) is Fault.CONTENTION


def _waits(wait: Wait, timeout: timedelta, done: Forwarded, stop: Callable[[], bool]) -> bool:
    """Whether there may be something new."""
    return bool(timeout) and not stop() and wait(timeout, seen=done.head)


def tidy_connections(using: str) -> None:
    """Close what is broken or too old, as Django does between requests.

    The connection to the log stays under CONN_MAX_AGE 0, which says to keep none between requests: a follower has no
    requests, and would make a new one for each event.
    """
    for connection in connections.all(initialized_only=True):
        if connection.alias == using and not connection.settings_dict["CONN_MAX_AGE"]:
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()


class StopOnSignal:
    """SIGTERM and SIGINT ask for a stop and end the pause; a second one ends the process at once, as without this.

    A context manager for the main thread. ``requested`` and ``pause`` are what follow() wants.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._requested

    def pause(self, seconds: float, files: Sequence[int] = ()) -> bool:
        """Sleep, but no longer than until a file can be read or the signal comes. Returns whether it has come."""
        # A socket and not an Event: a handler that set one could wait for a lock which the code under it holds.
        with selectors.DefaultSelector() as selector:
            for file in (self._woken.fileno(), *files):
                selector.register(file, selectors.EVENT_READ)
            selector.select(seconds)
        return self._requested

    def __enter__(self) -> StopOnSignal:
        self._woken, self._wake = socket.socketpair()
        for number in self.SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        self._wake.close()
        self._woken.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self._restore()
        self._wake.send(b"\0")

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
