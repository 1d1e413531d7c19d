"""Finding the entry of an event id, which has no index.

An index on random ids would cost every writer more than this costs an operator now and then. Ids that a caller supplied are
keys of a table of their own. All others are UUIDs of version 7, which carry the time they were made; entries get their
numbers in about that order, so a search by halves over the primary key comes near, and a short range is looked through.

What is not found: an id of another version that was written by raw SQL, and one whose entry is further than MARGIN numbers
away from those made at the same time (inside a bulk load that others wrote beside).
"""

from __future__ import annotations

from datetime import datetime
from statistics import median_low
from uuid import UUID

from django.db.models import QuerySet

from ..models import EventEntry, EventKey

__all__ = ["MARGIN", "entry_ids"]

MARGIN = 10_000
# A row that tells another time than its neighbours, a supplied id or a clock that was wrong, must not lead astray.
NEIGHBOURS = 5


def entry_ids(event_id: UUID, entries: QuerySet[EventEntry]) -> list[int]:
    """The entry with this event id, or none. Reads at most some 60 short index ranges, and one of 3 × MARGIN numbers."""
    supplied = EventKey.objects.using(entries.db).filter(pk=event_id).values_list("entry_id", flat=True)
    if found := list(supplied):
        return found
    edges = [entries.order_by(order).values_list("id", flat=True).first() for order in ("id", "-id")]
    low, high = edges[0], edges[1]
    if event_id.version != 7 or low is None or high is None:
        return []
    wanted = _milliseconds_of_id(event_id)
    while high - low > MARGIN:
        middle = (low + high) // 2
        if _milliseconds_at(middle, entries) < wanted:
            low = middle
        else:
            high = middle
    near = entries.filter(id__gte=low - MARGIN, id__lte=high + MARGIN, event_id=event_id)
    return list(near.order_by("id").values_list("id", flat=True))


def _milliseconds_at(id_: int, entries: QuerySet[EventEntry]) -> int:
    """When the entries from this number on were made, as most of the next few say."""
    rows = entries.filter(id__gte=id_).order_by("id").values_list("event_id", "timestamp")[:NEIGHBOURS]
    return median_low(
        _milliseconds_of_id(event_id) if event_id.version == 7 else _milliseconds(timestamp)
        for event_id, timestamp in rows
    )


def _milliseconds_of_id(event_id: UUID) -> int:
    return event_id.int >> 80


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
