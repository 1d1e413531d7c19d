"""The last tries of each endpoint, written now and then, for those who look after it. Nothing depends on them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import timedelta

from django.db import DatabaseError, models, transaction
from django.db.models.functions import RowNumber

from ..models import Endpoint, EndpointAttempt
from .posting import Try

__all__ = ["KEPT", "AttemptBook"]

logger = logging.getLogger(__name__)

KEPT = 20
"""Tries that are kept of each endpoint."""
WRITE_EVERY = timedelta(seconds=1)


class AttemptBook:
    """Gathers the tries of one process. One that ends takes those of its last second with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathered: dict[int, deque[Try]] = {}
        self._written_at = 0.0

    def add(self, endpoint: int, tries: Iterable[Try]) -> None:
        """Keep the tries of an endpoint until they are written; of many the last."""
        with self._lock:
            self._gathered.setdefault(endpoint, deque(maxlen=KEPT)).extend(tries)

    def write_if_due(self, *, using: str) -> None:
        """Write what has gathered, at most once a second."""
        if time.monotonic() - self._written_at >= WRITE_EVERY.total_seconds():
            self.write(using=using)

    def write(self, *, using: str) -> None:
        """Write what has gathered, and remove what is older than the last ones. An error is logged, and those are lost."""
        with self._lock:
            gathered, self._gathered = self._gathered, {}
        if not gathered:
            return
        self._written_at = time.monotonic()
        try:
            with transaction.atomic(using=using):
                _write(gathered, using=using)
        except DatabaseError:
            logger.exception("The last attempts of %d webhook endpoints could not be written", len(gathered))


def _write(gathered: dict[int, deque[Try]], *, using: str) -> None:
    known = set(Endpoint.objects.using(using).filter(pk__in=gathered).values_list("pk", flat=True))
    rows = EndpointAttempt.objects.using(using)
    rows.bulk_create(_row(pk, each) for pk in sorted(known) for each in gathered[pk])
    number = models.Window(RowNumber(), partition_by="endpoint", order_by=models.F("id").desc())
    numbered = rows.filter(endpoint__in=known).annotate(number=number).values_list("pk", "number")
    old = [pk for pk, place in numbered if place > KEPT]
    if old:
        rows.filter(pk__in=old).delete()


def _row(endpoint: int, each: Try) -> EndpointAttempt:
    return EndpointAttempt(
        endpoint_id=endpoint,
        event_id=each.item.event_id,
        type=each.item.type,
        position=each.item.position,
        at=each.at,
        status=each.status,
        milliseconds=int(each.seconds * 1_000),
        problem=each.problem,
    )
