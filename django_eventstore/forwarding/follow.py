"""The long-running form: forward, sleep, forward again, until asked to stop."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Callable
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any

from django.db import InterfaceError, OperationalError, close_old_connections

from ..delivery import DeliveryPolicy
from .forwarder import Forwarded

__all__ = ["StopOnSignal", "follow"]

logger = logging.getLogger(__name__)

RECONNECT = DeliveryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=30))


def follow(
    forward: Callable[[], Forwarded],
    *,
    interval: timedelta,
    stop: Callable[[], bool],
    sleep: Callable[[float], None],
    retry: DeliveryPolicy = RECONNECT,
    reconnect: Callable[[], None] = close_old_connections,
) -> int:
    """Call ``forward`` again and again until ``stop()``; returns the number of events delivered.

    Sleeps ``interval`` when nothing is left, and not while there is more. A lost database connection is logged, and tried
    again with growing delays; every other error is raised. While it sleeps it holds no lease and no transaction, and no
    connection longer than ``CONN_MAX_AGE`` says.
    """
    delivered, failures = 0, 0
    while not stop():
        try:
            done = forward()
        except (InterfaceError, OperationalError):
            failures += 1
            delay = retry.delay(failures)
            logger.exception(
                "The database did not answer, attempt %d; trying again in %.1f s", failures, delay.total_seconds()
            )
        else:
            failures = 0
            delivered += done.delivered
            delay = timedelta(0) if done.more else interval
        reconnect()
        if delay and not stop():
            sleep(delay.total_seconds())
    return delivered


class StopOnSignal:
    """SIGTERM and SIGINT ask for a stop and end the sleep; a second one ends the process at once, as without this.

    A context manager for the main thread. ``requested`` and ``sleep`` are what follow() wants.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[signal.Signals, Any] = {}
        self._wake = self._woken = -1

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._requested

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the signal."""
        # A pipe and not an Event: a handler that set one could wait for a lock which the code under it holds.
        select.select([self._woken], [], [], seconds)

    def __enter__(self) -> StopOnSignal:
        self._woken, self._wake = os.pipe()
        for number in self.SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        os.close(self._wake)
        os.close(self._woken)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self._restore()
        os.write(self._wake, b"\0")

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
