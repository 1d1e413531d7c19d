"""Which log this is, and whether a reader's offset belongs to its history.

After a failover to a lagging replica, a restore or a point-in-time recovery, the same positions can name other events, and a
reader that keeps its offset elsewhere would skip some in silence. A new epoch begins then. Each epoch keeps ``began_after``,
the last position it shares with the one before: a reader that has read only shared history goes on, any other is told.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction

from ..exceptions import EpochChanged, EventStoreError
from ..models import Epoch
from .sequencing import sequencer

__all__ = ["LogState", "begin_epoch", "ensure_log", "log_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """The log as one statement saw it. ``epochs``: (number, began_after) of every epoch, oldest first."""

    log: uuid.UUID
    epochs: tuple[tuple[int, int], ...]
    head: int
    last_type: int
    """The newest of the types, whose table only grows."""

    @property
    def epoch(self) -> int:
        """The epoch in force."""
        return self.epochs[-1][0]

    def require_shared_history(self, *, offset: int, epoch: int | None, may_lag: bool = False) -> None:
        """Raise EpochChanged unless everything up to ``offset`` of ``epoch`` is in the log as the reader knows it.

        ``epoch`` None: the reader names none and is believed to be of the current one. ``may_lag``: this connection may be
        behind the log (a standby, an old snapshot), where an offset above the head or a newer epoch says nothing: what it
        holds is older than that epoch and so of shared history.
        """
        later = [began_after for number, began_after in self.epochs if epoch is not None and number > epoch]
        known = epoch is None or any(number == epoch for number, _ in self.epochs) or (may_lag and epoch > self.epoch)
        if (offset > self.head and not may_lag) or any(offset > shared for shared in later) or not known:
            raise EpochChanged(
                log=self.log,
                epoch=self.epoch,
                reader_epoch=epoch,
                offset=offset,
                head=self.head,
                began_after=min(later, default=self.epochs[-1][1]),
            )


def log_state(using: str) -> LogState:
    """Log id, epochs and head in one statement, so that they belong together."""
    rows = _epochs_and_head(using)
    if not rows:
        ensure_log(using)
        rows = _epochs_and_head(using)
    if not rows:
        raise EventStoreError(
            f"The log on {using!r} has no id, and this transaction does not see the one that was just made: try again in a "
            "new transaction, or run migrate."
        )
    _, log, _, head, last_type = rows[-1]
    return LogState(
        log=log if isinstance(log, uuid.UUID) else uuid.UUID(str(log)),
        epochs=tuple((number, began_after) for number, _, began_after, _, _ in rows),
        head=int(head),
        last_type=last_type or 0,
    )


def _epochs_and_head(using: str) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT number, log, began_after, ({sequencer(using).head_sql}), (SELECT MAX(id) FROM eventstore_type) "
            "FROM eventstore_epoch ORDER BY number"
        )
        return list(cursor.fetchall())


def ensure_log(using: str) -> None:
    """Give the log its id and first epoch, if it has none yet: after ``migrate``, and after a flush."""
    Epoch.objects.using(using).bulk_create(
        [Epoch(number=1, log=uuid.uuid4(), began_after=0, reason="created")], ignore_conflicts=True
    )


def begin_epoch(using: str, *, after: int | None = None, reason: str) -> Epoch:
    """Begin a new epoch by hand, after a restore that the database cannot tell.

    ``after``: the last position that readers may have seen with its present meaning; the head when None. It must not lie
    above the head. Returns the new epoch.
    """
    with transaction.atomic(using=using):
        state = log_state(using)
        shared = state.head if after is None else after
        if not 0 <= shared <= state.head:
            raise EventStoreError(f"The new epoch must begin after a position between 0 and the head, {state.head}.")
        epoch: Epoch = Epoch.objects.using(using).create(
            number=state.epoch + 1, log=state.log, began_after=shared, reason=reason
        )
        return epoch
