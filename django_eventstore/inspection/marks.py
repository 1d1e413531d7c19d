"""Inspection of what each database's sequencer remembers beside the positions: head, shown mark, pending rows."""

from __future__ import annotations

from django.db import connections
from django.db.models import Exists, OuterRef, Subquery

from ..models import EventEntry, Head, LogPosition, Pending, Shown, Tick
from .findings import Finding, Tally

__all__ = ["wrong_marks"]

SQLITE_HEAD = """
    SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'eventstore_position'), 0),
           (SELECT MAX(position) FROM eventstore_position)
"""


def wrong_marks(*, using: str) -> list[Finding]:
    """Marks that contradict the positions. Each comparison is one statement, so that a pass beside it does no harm."""
    vendor = connections[using].vendor
    if vendor == "mysql":
        return [*_wrong_head(*_mariadb_head(using)), *_wrong_shown(using), *_wrong_pending(using)]
    return _wrong_head(*(_postgresql_head(using) if vendor == "postgresql" else _sqlite_head(using)))


def _wrong_head(head: int, highest: int | None) -> list[Finding]:
    """The head is the highest position, and stays where it was when retention has emptied the log.

    Positions missing below it are a hole, found elsewhere; here are those above, which were given out behind its back.
    """
    if highest is None or highest <= head:
        return []
    message = "The sequencer's head is below the highest position: it would give positions out twice."
    return [Finding(kind="head", message=message, count=highest - head, examples=(f"head {head}, position {highest}",))]


def _highest() -> Subquery:
    return Subquery(LogPosition.objects.order_by("-position").values("position")[:1])


def _postgresql_head(using: str) -> tuple[int, int | None]:
    ticks = Tick.objects.using(using).order_by("-id").annotate(highest=_highest())
    # Without a tick the first pass begins above the highest position.
    return ticks.values_list("head", "highest").first() or (0, None)


def _mariadb_head(using: str) -> tuple[int, int | None]:
    heads = Head.objects.using(using).annotate(highest=_highest())
    return heads.values_list("head", "highest").first() or (0, None)


def _sqlite_head(using: str) -> tuple[int, int | None]:
    with connections[using].cursor() as cursor:
        cursor.execute(SQLITE_HEAD)
        head, highest = cursor.fetchone()
        return head, highest


def _wrong_shown(using: str) -> list[Finding]:
    head = Subquery(Head.objects.order_by("pk").values("head")[:1])
    row = Shown.objects.using(using).annotate(head=head).values_list("position", "head").first()
    if row is None or row[1] is None or row[0] <= row[1]:
        return []
    message = "The shown mark is above the head: readers pass over events that get these positions later."
    return [Finding(kind="head", message=message, count=row[0] - row[1], examples=(f"shown {row[0]}, head {row[1]}",))]


def _wrong_pending(using: str) -> list[Finding]:
    placed = Tally(kind="pending", message="Pending rows have a position already: every pass of the sequencer fails.")
    lost = Tally(kind="pending", message="Pending rows name entries that do not exist.")
    pending = Pending.objects.using(using).order_by("entry_id")
    positions = LogPosition.objects.filter(entry_id=OuterRef("entry_id"))
    entries = EventEntry.objects.filter(pk=OuterRef("entry_id"))
    for tally, rows in ((placed, pending.filter(Exists(positions))), (lost, pending.filter(~Exists(entries)))):
        for entry_id in rows.values_list("entry_id", flat=True).iterator():
            tally.add(f"entry {entry_id}")
    return [*placed.findings(), *lost.findings()]
