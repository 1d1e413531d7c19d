"""The threads of one process on which handlers run after a commit."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta

from django.db import close_old_connections, connections, transaction

from ..conf import get_settings
from ..delivery import DeliveredEntry
from ..handlers import Handler, call_handler
from ..signals import handler_failed, send

__all__ = ["Call", "HandlerThreads", "finish_after_commit", "handler_threads"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One handler for one event."""

    handler: Handler
    entry: DeliveredEntry

    def run(self) -> None:
        """Call the handler; what it raises is logged and signalled, and stops nobody."""
        try:
            call_handler(self.handler, self.entry)
        except Exception as error:  # noqa: BLE001 - whatever a project's handler raises
            self.report(error)

    def run_in_savepoint(self, *, using: str) -> None:
        """The same inside the transaction of a TestCase, which an error of the database must not end."""
        try:
            with transaction.atomic(using=using):
                call_handler(self.handler, self.entry)
        except Exception as error:  # noqa: BLE001 - whatever a project's handler raises
            self.report(error)

    def report(self, error: BaseException) -> None:
        """Tell that the handler has failed for this event, for good."""
        logger.error("Handler %s failed after the commit", self, exc_info=error)
        send(handler_failed, sender=Handler, handler=self.handler, entry=self.entry, error=error)

    def __str__(self) -> str:
        return f"{self.handler.name} for event {self.entry.event_id} ({self.entry.type})"


class HandlerThreads:
    """At most AFTER_COMMIT_THREADS daemon threads, started one by one when there is work and none is idle.

    A thread has database connections of its own. Between two calls they are kept as between two requests (CONN_MAX_AGE);
    before it waits for work they are closed.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[Call] = deque()
        self._running: set[Call] = set()
        self._threads = 0
        self._idle = 0
        self._told_of_full = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it starts nothing more."""
        return self._closed

    def submit(self, call: Call) -> bool:
        """Have the call run on a thread. False: there is no room, or no thread to be had, and the caller runs it."""
        settings = get_settings()
        with self._changed:
            if self._closed or len(self._waiting) >= settings.AFTER_COMMIT_QUEUE:
                self._tell_of_full()
                return False
            if self._idle <= len(self._waiting) and self._threads < settings.AFTER_COMMIT_THREADS:
                self._start_thread()
            if not self._threads:
                return False
            self._waiting.append(call)
            self._changed.notify_all()
            return True

    def wait(self, timeout: timedelta) -> bool:
        """Wait until nothing waits or runs, and the connections are closed; whether it came to that in time."""
        deadline = self._clock() + timeout.total_seconds()
        with self._changed:
            return self._changed.wait_for(self._is_done, deadline - self._clock())

    def unfinished(self) -> list[Call]:
        """The calls that run or wait now."""
        with self._changed:
            return [*self._running, *self._waiting]

    def close(self) -> list[Call]:
        """Start nothing more; the calls that have not ended."""
        with self._changed:
            self._closed = True
            left = [*self._running, *self._waiting]
            self._waiting.clear()
            self._changed.notify_all()
            return left

    def _is_done(self) -> bool:
        return not self._waiting and self._idle == self._threads

    def _tell_of_full(self) -> None:
        if not self._told_of_full and not self._closed:
            self._told_of_full = True
            logger.warning(
                "%d calls of handlers wait for a thread: until there is room, further ones run in the thread that has "
                "committed. Raise EVENTSTORE['AFTER_COMMIT_THREADS'] or make slow handlers durable.",
                len(self._waiting),
            )

    def _start_thread(self) -> None:
        # Counted before it runs, so that wait() does not miss what it is about to take.
        self._threads += 1
        thread = threading.Thread(
            target=self._work, name=f"django_eventstore-after-commit-{self._threads}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the process is at its end, or at its limit of threads
            self._threads -= 1

    def _work(self) -> None:
        while (call := self._take()) is not None:
            try:
                Context().run(call.run)
            except BaseException as error:  # noqa: BLE001 - a handler's sys.exit() ends no thread of ours
                call.report(error)
            self._let_go(call)

    def _take(self) -> Call | None:
        with self._changed:
            if not self._waiting:
                self._idle += 1
                self._changed.notify_all()  # once: idle threads that told of it at each waking would never sleep
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._idle -= 1
            if not self._waiting:
                self._threads -= 1
                self._changed.notify_all()
                return None
            call = self._waiting.popleft()
            self._running.add(call)
            self._told_of_full = self._told_of_full and bool(self._waiting)
            return call

    def _let_go(self, call: Call) -> None:
        with self._changed:
            self._running.discard(call)
            more = bool(self._waiting)
        try:
            if more:
                close_old_connections()
            else:
                connections.close_all()
        except Exception:
            logger.exception("A connection of a thread for handlers could not be closed")


_threads: HandlerThreads | None = None
_lock = threading.Lock()


def handler_threads() -> HandlerThreads:
    """Those of this process, made when they are first asked for."""
    global _threads
    with _lock:
        if _threads is None:
            _threads = HandlerThreads()
            _register_at_exit()
        return _threads


def finish_after_commit() -> None:
    """At the end of a process: wait for AFTER_COMMIT_EXIT, and log what has not been run."""
    threads = _threads
    if threads is None or threads.closed:
        return
    limit = get_settings().AFTER_COMMIT_EXIT
    threads.wait(limit)
    left = threads.close()
    if left:
        logger.error(
            "The process ends, and %d calls of handlers have not ended within %s: %s",
            len(left),
            limit,
            "; ".join(map(str, left)),
        )


def _register_at_exit() -> None:
    # Python shuts its thread pools down before it calls what atexit has, and with them all of asyncio that Django uses:
    # an async handler could not run then. What threading calls itself, last in first out, comes before that.
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(finish_after_commit)
    except RuntimeError:  # the first handler of this process is called while it ends
        atexit.register(finish_after_commit)


def _forget_threads() -> None:
    """In a forked child: threads and what waits for them have stayed in the parent."""
    global _threads, _lock
    _threads, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
