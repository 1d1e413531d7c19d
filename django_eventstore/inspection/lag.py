"""How far a consumer is behind: counted through the indexes, and never further than asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min, QuerySet

from ..models import EventEntry, LogPosition
from ..store.reading import type_ids

__all__ = ["Lag", "lag_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """``events`` wanted and not delivered, or at least so many when ``is_capped``; None when it cannot be known.

    ``oldest``: when the first of them was recorded.
    """

    events: int | None = None
    is_capped: bool = False
    oldest: datetime | None = None


def lag_of(patterns: Sequence[str], *, offset: int, head: int, most: int, using: str) -> Lag:
    """What lies between the offset and the head of the types that the patterns select, counted up to ``most``.

    For all events nothing is counted, and so nothing capped: positions are dense, above what retention has removed.
    """
    ahead = LogPosition.objects.using(using).filter(position__gt=offset, position__lte=head).order_by("position")
    types = type_ids(patterns, using=using)
    if types is None:
        first = ahead.values_list("position", flat=True).first()
        if first is None:
            return Lag(events=0)
        return Lag(events=head - first + 1, oldest=_recorded_at(first, using=using))
    count, first = _count(ahead, types, most=most)
    if first is None:
        return Lag(events=0)
    return Lag(events=min(count, most), is_capped=count > most, oldest=_recorded_at(first, using=using))


def _count(ahead: QuerySet[LogPosition], types: Sequence[int], *, most: int) -> tuple[int, int | None]:
    """(how many, the first position). One range of the (type, position) index per type: rare types cost what they hold."""
    total, lowest = 0, None
    for type_id in types:
        # Sliced and in the index's order, so that no plan walks over other types. One at least, for its position.
        part = ahead.filter(type_id=type_id)[: max(1, most + 1 - total)]
        found = part.aggregate(number=Count("position"), first=Min("position"))
        total += found["number"]
        if found["first"] is not None and (lowest is None or found["first"] < lowest):
            lowest = found["first"]
    return total, lowest


def _recorded_at(position: int, *, using: str) -> datetime | None:
    entries = EventEntry.objects.using(using).filter(log_position__position=position)
    moment: datetime | None = entries.values_list("timestamp", flat=True).first()
    return moment
