"""The threads of one process that wait for endpoints."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from weakref import WeakSet

from django.db import connections

__all__ = ["Threads"]

logger = logging.getLogger(__name__)


class Threads:
    """Daemon threads, one for each job; ``stopping`` asks them to end after the request in hand."""

    def __init__(self, *, longest: timedelta) -> None:
        """``longest``: the longest a job goes on once it was asked to stop."""
        self._longest = longest
        self.process = os.getpid()
        self._lock = threading.Lock()
        self._running: set[threading.Thread] = set()
        self.stopping = threading.Event()
        _made.add(self)

    def start(self, job: Callable[[], None]) -> None:
        """Run the job on a thread of its own, whose database connections are closed at its end."""

        def run() -> None:
            try:
                job()
            except Exception:
                logger.exception("Sending to a webhook endpoint ended in the middle; it goes on when its claim is over")
            finally:
                connections.close_all()
                with self._lock:
                    self._running.discard(thread)

        thread = threading.Thread(target=run, name="django_eventstore-webhooks", daemon=True)
        with self._lock:
            self._running.add(thread)
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._running.discard(thread)
            raise

    def end(self) -> None:
        """Ask all to stop, and wait for as long as that may take."""
        self.stopping.set()
        deadline = time.monotonic() + self._longest.total_seconds()
        with self._lock:
            running = list(self._running)
        for thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))


_made: WeakSet[Threads] = WeakSet()


def _end_all() -> None:
    """At the end of the process: a thread that Python ends in the middle leaves its claim behind for as long as it lasts."""
    for each in list(_made):
        if each.process == os.getpid():  # what came by a fork has stayed in the parent, threads and locks
            each.end()


atexit.register(_end_all)
