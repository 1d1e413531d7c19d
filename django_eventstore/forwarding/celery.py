"""The forward task, and the wake-up that sends it after a commit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.db import router
from django.utils import timezone

from ..conf import get_settings
from ..consumers import declared_consumers
from ..models import EventEntry, Heartbeat
from .forwarder import Forwarded, forward_all
from .freezing import is_frozen

__all__ = ["FORWARD_TASK", "WakeUp", "forward", "wake_up"]

logger = logging.getLogger(__name__)

FORWARD_TASK = "django_eventstore.forward"
EXPIRES = timedelta(seconds=60)
HEARTBEAT_EVERY = timedelta(seconds=5)


@shared_task(name=FORWARD_TASK, ignore_result=True, expires=EXPIRES.total_seconds(), acks_late=False)
def forward(*, source: str = "wake-up", using: str | None = None) -> int:
    """One tick for all consumers of the log; any number may overlap. Returns the number of events delivered.

    Bounded by FORWARD_SECONDS and FORWARD_EVENTS, and enqueued again while there is more. It is not retried by Celery: the
    offset is what remembers, and the next tick goes on from it. ``source`` is "beat" when the schedule sent it.
    """
    alias = using or router.db_for_write(EventEntry)
    beat_heart("worker", using=alias)
    if source == "beat":
        beat_heart("beat", using=alias)
    done: Forwarded = forward_all(using=alias)
    if done.more:
        forward.apply_async(kwargs={"source": "more", "using": using})
    return done.delivered


_last_beats: dict[tuple[str, str], float] = {}


def beat_heart(name: str, *, using: str) -> None:
    """Note that something is at work; one small write every few seconds and process."""
    now = time.monotonic()
    last = _last_beats.get((using, name))
    if last is not None and now - last < HEARTBEAT_EVERY.total_seconds():
        return
    Heartbeat.objects.using(using).update_or_create(name=name, defaults={"at": timezone.now()})
    _last_beats[using, name] = now


class WakeUp:
    """Sends the forward task after a commit, at most once per interval and process.

    Losing one costs time, never an event: the periodic task finds it. So nothing here may fail or hold up the caller, whose
    transaction has committed: the task is sent without retries, and a broker that cannot be reached is left alone for a
    while, longer each time.
    """

    LONGEST_SILENCE = timedelta(minutes=1)

    def __init__(self, *, send: Callable[..., Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._failures = 0

    def __call__(self, *, using: str, **kwargs: object) -> None:
        """Receiver of events_committed."""
        try:
            self._wake(using)
        except Exception:
            logger.exception("No wake-up was sent")

    def _wake(self, using: str) -> None:
        settings = get_settings()
        if (
            is_frozen()
            or not settings.WAKE_UP
            or not self._take_turn(settings.WAKE_UP_INTERVAL)
            or not declared_consumers()
        ):
            return
        try:
            self._send(kwargs={"source": "wake-up", "using": using}, retry=False)
        except Exception as error:  # noqa: BLE001 - kombu, the transport and the socket each have errors of their own
            silence = self._be_silent()
            logger.warning("The broker did not take the wake-up (%r); not trying again for %.0f s", error, silence)
        else:
            self._failures = 0

    def _take_turn(self, interval: timedelta) -> bool:
        with self._lock:
            now = self._clock()
            if now < self._not_before:
                return False
            self._not_before = now + interval.total_seconds()
            return True

    def _be_silent(self) -> float:
        with self._lock:
            self._failures += 1
            silence = min(self.LONGEST_SILENCE.total_seconds(), 2.0 ** min(self._failures, 10))
            self._not_before = self._clock() + silence
            return silence


def _send(**arguments: Any) -> None:
    # A project may make its app after this import, and its broker is the one to be asked: the task is that of whichever app
    # is the current one now.
    forward.apply_async(**arguments)


wake_up = WakeUp(send=_send)
