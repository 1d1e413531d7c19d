"""Inspection along the log: every position once, with its entry, and every entry with a position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db import connections

from ..models import LogPosition
from .findings import Finding, Tally

__all__ = ["entries_without_one_position", "holes", "positions_without_entry"]

# Rows that one statement looks at: some ten milliseconds, and a result that is small in any case.
CHUNK = 50_000

HOLES = """
    SELECT previous + 1, position - 1 FROM (
        SELECT position, COALESCE(LAG(position) OVER (ORDER BY position), %s) AS previous
        FROM eventstore_position WHERE position > %s AND position <= %s
    ) q WHERE position > previous + 1 ORDER BY position
"""
MISPLACED = """
    SELECT p.position, e.id, e.type, t.name FROM eventstore_position p
    LEFT JOIN eventstore_entry e ON e.id = p.entry_id LEFT JOIN eventstore_type t ON t.id = p.type_id
    WHERE p.position > %s AND p.position <= %s AND (e.id IS NULL OR t.id IS NULL OR t.name <> e.type)
    ORDER BY p.position
"""
UPPER_ID = "SELECT MAX(id) FROM (SELECT id FROM eventstore_entry WHERE id > %s ORDER BY id LIMIT %s) q"
NOT_ONCE = """
    SELECT e.id, COUNT(p.position) FROM eventstore_entry e LEFT JOIN eventstore_position p ON p.entry_id = e.id
    WHERE e.id > %s AND e.id <= %s GROUP BY e.id HAVING COUNT(p.position) <> 1 ORDER BY e.id
"""


def holes(*, head: int, using: str) -> tuple[int, list[Finding]]:
    """(up to which position the log is pruned, findings about positions missing above that).

    Retention removes from the low end, so what is missing below the lowest position that is left was pruned, in an empty
    log everything up to the head. Nothing removes from the middle or from the upper end: what is missing there is lost.
    """
    lost = Tally(kind="hole", message="Positions are missing between others or below the head; nothing prunes there.")
    positions = LogPosition.objects.using(using).filter(position__lte=head).order_by("position")
    first = positions.values_list("position", flat=True).first()
    if first is None:
        return head, []
    start = present = first - 1
    while start < head:
        upto = min(start + CHUNK, head)
        chunk = positions.filter(position__gt=start, position__lte=upto)
        count = chunk.count()
        if not count:
            following = positions.filter(position__gt=upto).values_list("position", flat=True).first()
            if following is None:
                break
            start = following - 1
            continue
        if count < upto - start or present < start:
            missing = list(_rows(HOLES, [present, start, upto], using=using))
            # Retention may have gone on meanwhile.
            lowest = positions.values_list("position", flat=True).first() or head + 1
            for low, high in missing:
                if high >= lowest:
                    lost.add(f"positions {low} to {high}", number=high - low + 1)
        last = chunk.order_by("-position").values_list("position", flat=True).first()
        present = present if last is None else last
        start = upto
    if present < head:
        lost.add(f"positions {present + 1} to {head}", number=head - present)
    return first - 1, lost.findings()


def positions_without_entry(*, head: int, using: str) -> list[Finding]:
    """Positions that name no entry, and those whose type is not their entry's, which readers by type pass over."""
    orphans = Tally(kind="orphan", message="Positions name entries that do not exist.")
    wrong = Tally(kind="type", message="Positions carry another type than their entries: readers by type miss them.")
    first = LogPosition.objects.using(using).order_by("position").values_list("position", flat=True).first()
    start = head if first is None else first - 1
    while start < head:
        upto = min(start + CHUNK, head)
        for position, entry, type_, name in _rows(MISPLACED, [start, upto], using=using):
            if entry is None:
                orphans.add(f"position {position}")
            else:
                wrong.add(f"position {position}: {name!r} for an entry of type {type_!r}")
        start = upto
    return [*orphans.findings(), *wrong.findings()]


def entries_without_one_position(*, catch_up: Callable[[], object], using: str) -> list[Finding]:
    """Entries with no position although the sequencer has run since they could be seen, and entries with several.

    An entry of a transaction that is still open cannot be seen here, so it is never blamed. One that committed a moment ago
    is listed, and then the sequencer is run again by ``catch_up`` before its position is asked for.
    """
    missed = Tally(
        kind="unsequenced",
        message="Entries were committed before a pass of the sequencer and have no position after it.",
    )
    doubled = Tally(kind="double_position", message="Entries have several positions: readers meet them twice.")
    for low, high in _id_ranges(using=using):
        suspects = []
        for entry, count in _rows(NOT_ONCE, [low, high], using=using):
            if count:
                doubled.add(f"entry {entry}: {count} positions")
            else:
                suspects.append(entry)
        if not suspects:
            continue
        catch_up()
        known = set(suspects)
        for entry, count in _rows(NOT_ONCE, [suspects[0] - 1, suspects[-1]], using=using):
            if not count and entry in known:
                missed.add(f"entry {entry}")
    return [*missed.findings(), *doubled.findings()]


def _id_ranges(*, using: str) -> Iterator[tuple[int, int]]:
    low = -(2**63)
    while True:
        high = next(_rows(UPPER_ID, [low, CHUNK], using=using))[0]
        if high is None:
            return
        yield low, high
        low = high


def _rows(sql: str, parameters: list[object], *, using: str) -> Iterator[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        yield from cursor.fetchall()
