"""Reading the log: by position, in the order of positions, through the indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connections

from ..events import selects
from ..models import EventEntry, EventType
from .places import fetch

__all__ = ["Extract", "position_before", "read", "type_ids"]

# LEFT: a place whose entry is gone still counts as read, or a page with one would seem to be the last.
JOIN = "LEFT JOIN eventstore_entry e ON e.id = p.entry_id"
# OFFSET 0 keeps PostgreSQL from looking at every entry of the log and hashing the places, as it does while it finds that
# cheaper than to look for a thousand of them: up to some hundred thousand entries.
LATERAL_JOIN = "LEFT JOIN LATERAL (SELECT * FROM eventstore_entry i WHERE i.id = p.entry_id OFFSET 0) e ON true"
# The places are chosen first and joined afterwards, in this order on every database, whatever its statistics say.
PLACES = "SELECT position, entry_id, slot FROM eventstore_position WHERE position > %s AND position <= %s"
MOST_RANGES = 32
WINDOW = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """Entries after an offset. Every matching one up to ``next_offset`` is among them."""

    entries: tuple[EventEntry, ...]
    next_offset: int


def type_ids(patterns: Sequence[str], *, using: str) -> list[int] | None:
    """The ids of the types in the log that match by one of their names, None when every type does."""
    if not patterns or "*" in patterns:
        return None
    known = EventType.objects.using(using).values_list("id", "name")
    return [id_ for id_, name in known if selects(patterns, name)]


def read(
    *,
    offset: int,
    head: int,
    limit: int,
    types: list[int] | None,
    stream: str | None,
    slots: range | None = None,
    using: str,
) -> Extract:
    """At most ``limit`` entries with ``offset < position <= head``. ``slots``: only those of a partition.

    ``head`` was read before: what appears later lies above it, so that no match can be stepped over.
    """
    # No index has the slot, so that a partition with little in it looks at a window of the log at a time.
    upto = head if slots is None else min(head, offset + WINDOW)
    if types is not None and not types:
        return Extract(entries=(), next_offset=max(offset, head))
    if stream is not None:
        source, parameters = _of_stream(offset, head, limit, types, stream)
    elif types is None:
        source, parameters = _of_places(_within(slots), [offset, upto, limit], using)
    elif len(types) <= MOST_RANGES:
        source, parameters = _of_few_types(offset, upto, limit, types, slots, using)
    else:
        upto = min(head, offset + WINDOW)
        marks = ", ".join(["%s"] * len(types))
        source, parameters = _of_places(
            f"{_within(slots)} AND type_id IN ({marks})", [offset, upto, *types, limit], using
        )
    places = fetch(source, parameters, using=using)
    entries = tuple(entry for entry in places if entry.id is not None)
    if len(places) < limit:
        return Extract(entries=entries, next_offset=max(offset, upto))
    return Extract(entries=entries, next_offset=places[-1].position or offset)


def _within(slots: range | None) -> str:
    return "" if slots is None else f" AND slot BETWEEN {int(slots.start)} AND {int(slots.stop) - 1}"


def _joined(places: str, using: str) -> str:
    join = LATERAL_JOIN if connections[using].vendor == "postgresql" else JOIN
    return f"FROM ({places}) p {join} ORDER BY p.position"


def _of_places(condition: str, parameters: list[object], using: str) -> tuple[str, list[object]]:
    return _joined(f"{PLACES}{condition} ORDER BY position LIMIT %s", using), parameters


def _of_few_types(
    offset: int, upto: int, limit: int, types: list[int], slots: range | None, using: str
) -> tuple[str, list[object]]:
    """One range of the (type, position) index per type, merged: rare types cost what they hold."""
    one = f"SELECT * FROM ({PLACES}{_within(slots)} AND type_id = %s ORDER BY position LIMIT %s) q{{}}"
    union = " UNION ALL ".join(one.format(n) for n in range(len(types)))
    places = f"SELECT position, entry_id, slot FROM ({union}) u ORDER BY position LIMIT %s"
    parameters: list[object] = [value for id_ in types for value in (offset, upto, id_, limit)]
    return _joined(places, using), [*parameters, limit]


def _of_stream(offset: int, head: int, limit: int, types: list[int] | None, stream: str) -> tuple[str, list[object]]:
    """By the (stream, id) index; the cost grows with the length of the stream, not of the log."""
    of_types = f"AND p.type_id IN ({', '.join(['%s'] * len(types))}) " if types is not None else ""
    source = (
        "FROM eventstore_entry e JOIN eventstore_position p ON p.entry_id = e.id "
        f"WHERE e.stream = %s AND p.position > %s AND p.position <= %s {of_types}"
        # + 0: or PostgreSQL, when the stream looks frequent, walks the whole log in order to save the sort.
        "ORDER BY p.position + 0 LIMIT %s"
    )
    return source, [stream, offset, head, *(types or []), limit]


def position_before(moment: datetime, *, head: int, using: str) -> int:
    """The last position before the first event that was recorded at ``moment`` or later, found by halving.

    Events that committed late may lie on the wrong side by as long as their transactions took: times are no order.
    """
    low, high = 0, head  # everything up to low is earlier, everything above high is not
    while low < high:
        middle = (low + high + 1) // 2
        found = EventEntry.objects.using(using).filter(log_position__position__gte=middle)
        place = found.order_by("log_position__position").values_list("log_position__position", "timestamp").first()
        if place is None or place[0] > high or place[1] >= moment:
            high = middle - 1
        else:
            low = place[0]
    return low
