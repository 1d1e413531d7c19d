"""Who delivers for a partition: one worker at a time, for a limited time, with a fencing token.

The expiry is compared with the database's clock only. The token grows with every tenure; what a worker writes carries its
token and is refused once a newer one exists, so that a worker that was stopped and wakes up late changes nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from django.db import connections, models, transaction
from django.db.models import F

from ..exceptions import LeaseLost
from ..models import ConsumerState, Lease
from ..models.fields import DatabaseNow
from .timeouts import limit_transaction
from .transactions import fresh_transaction

__all__ = ["LONG_AGO", "Tenure", "acquire", "make_rows"]

# A tenth of the lease, for a transaction that begins when it is nearly over.
LEAST_LIMIT = 0.1
LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


@dataclass(slots=True, kw_only=True)
class Tenure:
    """A lease that this worker holds. ``token`` fences what it writes."""

    consumer: str
    partition: int = 0
    token: int
    using: str
    length: timedelta
    follows_dead: bool = False
    """Whether the worker before it never let go of the lease: it may have died, and of what it had in hand."""
    is_abandoned: bool = False
    """Whether its worker ends in the middle: released, it is free at once, and the next takes it as after a dead one."""
    clock: Callable[[], float] = time.monotonic
    renewed_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.renewed_at = self.clock()

    def still_held(self) -> bool:
        """Whether the lease is not over yet by this process's own clock; the database has the last word."""
        return self.remaining() > 0

    def remaining(self) -> float:
        """Seconds until it is over by this process's own clock."""
        return self.length.total_seconds() - (self.clock() - self.renewed_at)

    def renew_if_due(self) -> None:
        """Renew when half of the time has passed. Raises LeaseLost when another worker holds the consumer."""
        if self.clock() - self.renewed_at > self.length.total_seconds() / 2:
            self.renew()

    def renew(self) -> None:
        """Begin the time anew. Inside a transaction it counts from the commit on. Raises LeaseLost."""
        now = self.clock()
        if not self._rows().update(expires_at=DatabaseNow() + self.length):
            raise LeaseLost(consumer=self.consumer, token=self.token)

        def count_from_now() -> None:  # rolled back, the row still has the old expiry
            self.renewed_at = now

        transaction.on_commit(count_from_now, using=self.using)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction in which the lease stays this worker's. Raises LeaseLost.

        It locks the lease's row, so that the database ends it with the lease, should the worker be frozen in it.
        """
        with fresh_transaction(self.using):
            self.limit_transaction()
            self.require()
            yield

    def limit_transaction(self) -> None:
        """Called first in a transaction; see ``timeouts``."""
        least = self.length.total_seconds() * LEAST_LIMIT
        limit_transaction(using=self.using, seconds=max(self.remaining(), least))

    def require(self) -> None:
        """Keep the lease until the open transaction ends. Raises LeaseLost."""
        if self._rows().select_for_update().values_list("token").first() is None:
            raise LeaseLost(consumer=self.consumer, token=self.token)

    def release(self) -> None:
        """Let the next worker have the consumer at once."""
        self._rows().update(expires_at=LONG_AGO, **({} if self.is_abandoned else {"owner": ""}))

    def _rows(self) -> models.QuerySet[Lease]:
        rows: models.QuerySet[Lease] = Lease.objects.using(self.using).filter(
            consumer=self.consumer, partition=self.partition, token=self.token
        )
        return rows


def acquire(
    consumer: str,
    *,
    partition: int = 0,
    using: str,
    length: timedelta,
    clock: Callable[[], float] = time.monotonic,
) -> Tenure | None:
    """The lease of a consumer's partition for this worker, or None while another one holds it. Waits for nobody."""
    leases = Lease.objects.using(using).filter(consumer=consumer, partition=partition)
    skip_locked = connections[using].features.has_select_for_update_skip_locked
    with transaction.atomic(using=using):
        limit_transaction(using=using, seconds=length.total_seconds())
        free = leases.filter(expires_at__lte=DatabaseNow())
        # A row that is locked belongs to a worker in the middle of a transaction: not free, and not worth waiting for.
        row = free.select_for_update(skip_locked=skip_locked).first()
        if row is None:
            # The rows of further partitions are made when their number is decided: one that is missing was given up.
            if partition or not make_rows(consumer, using=using):
                return None
            row = free.select_for_update(skip_locked=skip_locked).first()
            if row is None:
                return None
        leases.update(owner=_owner(), token=F("token") + 1, expires_at=DatabaseNow() + length)
    return Tenure(
        consumer=consumer,
        partition=partition,
        token=row.token + 1,
        using=using,
        length=length,
        follows_dead=row.owner != "",
        clock=clock,
    )


def make_rows(consumer: str, *, using: str) -> bool:
    """The consumer's state and the lease of its only partition. False when they are there, whoever may hold them."""
    if Lease.objects.using(using).filter(consumer=consumer).exists():
        return False
    ConsumerState.objects.using(using).bulk_create([ConsumerState(consumer=consumer)], ignore_conflicts=True)
    Lease.objects.using(using).bulk_create([Lease(consumer=consumer, expires_at=LONG_AGO)], ignore_conflicts=True)
    return True


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"[:200]
