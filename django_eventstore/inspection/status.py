"""Where the log and its consumers stand, as one look at the tables tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db import router
from django.db.models import Case, Count, Min, Q, Value, When
from django.utils import timezone

from ..consumers import Consumer, OffsetStore, declared_consumers
from ..models import ConsumerOffset, DeliveryState, EventEntry, FailedDelivery, Heartbeat, Lease
from ..models import ConsumerState as StateRow
from ..models.fields import DatabaseNow
from ..store import log_state
from ..store.sequencing import sequencer
from .lag import Lag, lag_of

__all__ = ["ConsumerState", "ConsumerStatus", "LogStatus", "consumer_statuses", "log_status"]

COUNT_LIMIT = 10_000

ConsumerState = Literal["running", "paused", "waiting", "unknown"]
"""``running``: the next tick delivers what is there. ``paused``: by an operator, or since too much failed. ``waiting``: its
sender is unavailable, until ``retry_at``. ``unknown``: not declared in this project, or declared and never run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatus:
    """One consumer.

    ``offset`` is None when it has never run; of several partitions it is the lowest. ``lag`` counts the wanted events after
    the offset, exactly below 10,000 and for consumers of all events, else "at least" with ``lag_is_capped``; it is None where
    the offset or the filter is not known. ``lag_seconds`` is the age of the next undelivered wanted event, None when there
    is none.
    """

    name: str
    declared: bool
    sender: str
    """Dotted path of its sender; empty when the consumer is not declared."""
    offset: int | None
    lag: int | None
    lag_is_capped: bool
    lag_seconds: float | None
    state: ConsumerState
    reason: str
    """Why it is in this state; while it is running, what of it waits all the same, or nothing."""
    partitions: int
    blocked: int
    """Its failed events that are tried again."""
    parked: int
    """Its failed events that wait for somebody's decision."""
    failing_since: datetime | None
    """When the oldest of these failed first; None without any."""
    waiting_since: datetime | None
    """When its sender became unavailable; None after a success."""
    attempts: int
    """How often its sender was found unavailable since the last success."""
    error: str
    """The traceback of the last time; empty after a success."""
    retry_at: datetime | None
    held_by: str
    """The worker that holds its lease now; empty when none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """The log, what runs it, and its consumers, by name."""

    log: UUID
    epoch: int
    head: int
    unsequenced: int
    """Visible entries without a position, counted up to 10,000. Those of transactions that just ended are normal."""
    unsequenced_is_capped: bool
    worker_seen_at: datetime | None
    """When a Celery worker last ran the forward task; None when none ever did."""
    beat_seen_at: datetime | None
    """When beat was last seen to have sent it."""
    follower_seen_at: datetime | None
    """When an ``eventstore_forward --follow`` was last seen at work."""
    consumers: tuple[ConsumerStatus, ...]


def log_status(using: str | None = None) -> LogStatus:
    """The state of the log on one database. Runs no pass of the sequencer, so that looking changes nothing.

    Raises ValueError and ImproperlyConfigured when the declared consumers contradict each other or the settings.
    """
    alias = using or router.db_for_write(EventEntry)
    state = log_state(alias)
    unsequenced = sequencer(alias).unsequenced(limit=COUNT_LIMIT + 1)
    beats = dict(Heartbeat.objects.using(alias).values_list("name", "at"))
    return LogStatus(
        log=state.log,
        epoch=state.epoch,
        head=state.head,
        unsequenced=min(unsequenced, COUNT_LIMIT),
        unsequenced_is_capped=unsequenced > COUNT_LIMIT,
        worker_seen_at=beats.get("worker"),
        beat_seen_at=beats.get("beat"),
        follower_seen_at=beats.get("follower"),
        consumers=_consumer_statuses(alias, state.head),
    )


def consumer_statuses(using: str | None = None) -> tuple[ConsumerStatus, ...]:
    """Every consumer by name: the declared ones, and those that only have rows, from an earlier version of the project.

    Raises as log_status() does.
    """
    alias = using or router.db_for_write(EventEntry)
    return _consumer_statuses(alias, log_state(alias).head)


def _consumer_statuses(using: str, head: int) -> tuple[ConsumerStatus, ...]:
    declared = declared_consumers()
    waits = Case(When(Q(retry_at__gt=DatabaseNow()), then=Value(True)), default=Value(False))
    rows = {row.consumer: (row, row.waits) for row in StateRow.objects.using(using).annotate(waits=waits)}
    holders: dict[str, list[str]] = {}
    for name, owner in Lease.objects.using(using).filter(expires_at__gt=DatabaseNow()).values_list("consumer", "owner"):
        holders.setdefault(name, []).append(owner)
    failures = _failures(using)
    seen = set(ConsumerOffset.objects.using(using).order_by().values_list("consumer", flat=True).distinct())
    offsets = OffsetStore(using)
    statuses = []
    for name in sorted({*declared, *rows, *holders, *seen}):
        row, waiting = rows.get(name, (StateRow(consumer=name), False))
        stands = [offsets.load(name, partition=number) for number in range(row.partitions)] if name in seen else []
        statuses.append(
            _status(
                consumer=declared.get(name),
                row=row,
                waiting=waiting,
                offset=min((progress.offset for progress in stands if progress is not None), default=None),
                failures=failures.get(name, _NO_FAILURES),
                held_by=", ".join(sorted(set(holders.get(name, [])))),
                head=head,
                using=using,
            )
        )
    return tuple(statuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failures:
    blocked: int = 0
    parked: int = 0
    since: datetime | None = None

    def __str__(self) -> str:
        streams = "stream" if self.blocked == 1 else "streams"
        parts = [f"{self.blocked} {streams} blocked"] if self.blocked else []
        return ", ".join([*parts, *([f"{self.parked} parked"] if self.parked else [])])


_NO_FAILURES = _Failures()


def _failures(using: str) -> dict[str, _Failures]:
    """The open failures by consumer; one that a worker has in hand for the first time is none yet."""
    parked = Q(state=DeliveryState.PARKED)
    rows = FailedDelivery.objects.using(using).exclude(state=DeliveryState.TRYING).values_list("consumer")
    counted = rows.annotate(
        blocked=Count("pk", filter=~parked), parked=Count("pk", filter=parked), since=Min("first_failed_at")
    )
    return {
        name: _Failures(blocked=blocked, parked=held, since=since) for name, blocked, held, since in counted.order_by()
    }


def _status(
    *,
    consumer: Consumer | None,
    row: StateRow,
    waiting: bool,
    offset: int | None,
    failures: _Failures,
    held_by: str,
    head: int,
    using: str,
) -> ConsumerStatus:
    lag = Lag()
    if consumer is not None and offset is not None:
        lag = lag_of(consumer.events, offset=offset, head=head, most=COUNT_LIMIT, using=using)
    state, reason = _state(row, waiting=waiting, declared=consumer is not None, seen=offset is not None)
    if state == "running":
        reason = str(failures)
    return ConsumerStatus(
        name=row.consumer,
        declared=consumer is not None,
        sender=consumer.sender if consumer is not None else "",
        offset=offset,
        lag=lag.events,
        lag_is_capped=lag.is_capped,
        lag_seconds=_age(lag.oldest),
        state=state,
        reason=reason,
        partitions=row.partitions,
        blocked=failures.blocked,
        parked=failures.parked,
        failing_since=failures.since,
        waiting_since=row.waiting_since,
        attempts=row.attempts,
        error=row.error,
        retry_at=row.retry_at,
        held_by=held_by,
    )


def _state(row: StateRow, *, waiting: bool, declared: bool, seen: bool) -> tuple[ConsumerState, str]:
    if row.paused_at is not None:
        return "paused", row.paused_reason or "paused"
    if not declared:
        return "unknown", "not declared: no handler and no entry of EVENTSTORE['CONSUMERS'] has this name"
    if waiting:
        return "waiting", (row.error.strip().splitlines() or ["failed"])[-1]
    if not seen:
        return "unknown", "never run"
    return "running", ""


def _age(moment: datetime | None) -> float | None:
    """Seconds since then; not negative where the clocks of the recorder and of this process differ."""
    return None if moment is None else max(0.0, (timezone.now() - moment).total_seconds())
