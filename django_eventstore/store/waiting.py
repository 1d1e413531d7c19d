"""Waiting for events: told by the database where it can, else by looking, more often while something happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from django.db import connections

from .listening import Listener, Pause, is_postgresql
from .sequencing import sequencer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NOTIFY_INTERVAL", "Waiter", "waiter"]

NOTIFY_INTERVAL = timedelta(milliseconds=2)
"""The shortest time between two notifications of one process. What commits in between is not told: who was told looks again
when this time has passed, and then sees everything that had committed before its end."""
DISTRUST = 60.0
"""Seconds of looking after events came that no notification had told of, and at first: others notify when they have found out
that somebody listens."""
COUNTED = 1_000
"""Entries without a position that are counted; among more than these a further one is not noticed."""
SHARE_OF_TIME = 5
"""Looking takes at most one part in so many of the time."""


class Waiter:
    """Waits until a log may hold more than its reader has seen. It holds no transaction and no lock meanwhile.

    Without a ``listener`` it looks again and again: after a tenth of the time since something last happened, within
    ``shortest`` and ``longest``. With one it looks only where a notification may be missing: for a moment after each, while
    the connection is lost, and for a minute at first and when something came of which nothing was told.
    """

    def __init__(
        self,
        *,
        end: Callable[[], int],
        pause: Pause,
        listener: Listener | None = None,
        shortest: timedelta = timedelta(milliseconds=5),
        longest: timedelta = timedelta(milliseconds=100),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._end = end
        self._pause = pause
        self._listener = listener
        self._shortest = shortest.total_seconds()
        self._longest = longest.total_seconds()
        self._clock = clock
        self._active_at = self._next_look = clock()
        self._distrusted_until = 0.0
        self._told: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the listening connection."""
        if self._listener is not None:
            self._listener.close()

    def wait(self, timeout: timedelta, *, seen: int) -> bool:
        """Wait until the log may go on after position ``seen``. False after ``timeout``, or when the pause was ended.

        True is a hint: the reader looks, and may find nothing for it. False is no promise: there may be something.
        Raises OperationalError or InterfaceError when the database does not answer.
        """
        deadline = self._clock() + timeout.total_seconds()
        while True:
            if self._hears():
                return True
            if self._clock() >= self._next_look and self._looks(seen):
                return True
            left = min(deadline, self._next_look) - self._clock()
            if left <= 0 and self._clock() >= deadline:
                return self._missed(seen)
            if self._pause(max(left, 0), () if self._listener is None else self._listener.files):
                return False

    def _hears(self) -> bool:
        if self._listener is None:
            return False
        if self._listener.connect():
            self._distrusted_until = self._clock() + DISTRUST
        elif not self._listener.hears():
            if not self._listener.is_listening:
                self._next_look = min(self._next_look, self._clock() + self._interval())
            return False
        # Told or connected now: what commits within the interval after it is not told any more.
        self._active_at = self._clock()
        self._next_look = self._active_at + NOTIFY_INTERVAL.total_seconds()
        return True

    def _looks(self, seen: int) -> bool:
        began = self._clock()
        found = self._found(seen)
        now = self._clock()
        if found:
            self._active_at = now
        if self._listener is None or not self._listener.is_listening or now < self._distrusted_until:
            self._next_look = now + max(self._interval(), (now - began) * SHARE_OF_TIME)
        else:
            self._next_look = float("inf")
        return found

    def _found(self, seen: int) -> bool:
        end = self._end()
        # What is not in the log after the reader has looked is not going to be by looking again at once.
        if end <= seen or self._told == (end, seen):
            return False
        self._told = (end, seen)
        return True

    def _missed(self, seen: int) -> bool:
        """At the end of a time in which nothing was told: whether something has come all the same."""
        if self._listener is None or not self._listener.is_listening or not self._found(seen):
            return False
        self._active_at = self._clock()
        self._distrusted_until = self._active_at + DISTRUST
        self._next_look = self._active_at
        return True

    def _interval(self) -> float:
        return min(max((self._clock() - self._active_at) / 10, self._shortest), self._longest)


def waiter(using: str, *, pause: Pause, listen_alias: str | None = None) -> Waiter:
    """The waiter for the log of a database alias: listening on PostgreSQL, looking elsewhere. Used in one thread."""
    if is_postgresql(using):
        return Waiter(end=_LogEnd(using), pause=pause, listener=Listener(using, alias=listen_alias, pause=pause))
    if connections[using].vendor == "sqlite":
        end = _FileEnd(using)
        return Waiter(end=end, pause=pause, shortest=timedelta(milliseconds=2), longest=timedelta(milliseconds=20))
    return Waiter(end=_LogEnd(using), pause=pause)


class _LogEnd:
    """How many events the log has, with those that have committed and have no position yet. Reads only."""

    def __init__(self, using: str) -> None:
        self._using = using

    def __call__(self) -> int:
        return sequencer(self._using).end(limit=COUNTED)


class _FileEnd(_LogEnd):
    """The same on SQLite, asked for only when another connection has changed the file."""

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._version: tuple[object, int] | None = None
        self._known = 0

    def __call__(self) -> int:
        connection = connections[self._using]
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = (connection.connection, int(cursor.fetchone()[0]))
        if version != self._version:
            self._known = super().__call__()
            self._version = version
        return self._known
