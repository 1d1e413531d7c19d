"""Telling followers of a commit, on PostgreSQL: a notification from the hook that runs after it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.db import connections

from ..conf import get_settings
from ..models import Heartbeat
from ..models.fields import DatabaseNow
from ..store import NOTIFY_INTERVAL, is_postgresql, notify
from .freezing import is_frozen

__all__ = ["FOLLOWER", "Notifier", "notifier"]

logger = logging.getLogger(__name__)

FOLLOWER = "follower"
"""The name of the followers' heartbeat."""
SEEN_WITHIN = timedelta(minutes=2)
ASK_EVERY = 30.0
SILENCE_AFTER_ERROR = 10.0


class Notifier:
    """Notifies after a commit: the first at once, then at most once per 2 ms, process and database.

    What commits within 2 ms of a notification is not told, and need not be: who hears one looks again after that time.
    Nothing is sent where no follower was seen at work for a while, so that a project without one pays nothing. Losing one
    costs time, never an event, so nothing here may fail the caller, whose transaction has committed.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}
        self._followed: dict[str, tuple[float, bool]] = {}

    def __call__(self, *, using: str, **kwargs: object) -> None:
        """Receiver of events_committed."""
        try:
            if self._may_notify(using) and self._take_turn(using) and self._is_followed(using):
                notify(using)
        except Exception:
            with self._lock:
                self._not_before[using] = self._clock() + SILENCE_AFTER_ERROR
            logger.exception("No follower was notified")

    def forget(self) -> None:
        """Ask again whether there are followers."""
        self._followed.clear()
        self._not_before.clear()

    def _may_notify(self, using: str) -> bool:
        """Never in a transaction: in a TestCase the hook runs inside one, and with AUTOCOMMIT False it would begin one."""
        if is_frozen() or not get_settings().NOTIFY or not is_postgresql(using):
            return False
        connection = connections[using]
        return connection.get_autocommit() and not connection.in_atomic_block

    def _take_turn(self, using: str) -> bool:
        with self._lock:
            now = self._clock()
            if now < self._not_before.get(using, now):
                return False
            # Taken before it is sent: who hears it has not waited longer than this process since.
            self._not_before[using] = now + NOTIFY_INTERVAL.total_seconds()
            return True

    def _is_followed(self, using: str) -> bool:
        now = self._clock()
        asked_at, answer = self._followed.get(using, (-ASK_EVERY, False))
        if now - asked_at >= ASK_EVERY:
            seen = Heartbeat.objects.using(using).filter(name=FOLLOWER, at__gt=DatabaseNow() - SEEN_WITHIN)
            answer = seen.exists()
            self._followed[using] = (now, answer)
        return answer


notifier = Notifier()
