"""Pages of the list of entries: each reads a stretch of an index and never counts or skips rows.

The cursor is the key of the row where the neighbouring page ends, so the millionth page costs what the first does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet

from ..models import EventEntry, EventType, LogPosition
from .event_ids import entry_ids
from .keyset import LARGEST, Cursor, KeysetPage, neighbours

__all__ = ["by_id", "entry_page"]

POSITION = re.compile(r"[0-9]{1,19}")


def entry_page(
    entries: QuerySet[EventEntry], *, search: str, type_name: str | None, cursor: Cursor | None, size: int
) -> KeysetPage:
    """One page of the entries that match, with their positions and without payload and metadata.

    Without a search the entries of a type are found through the log, in its order, which alone has an index by type: they
    appear there once they have a position. ``search``: see ``_sources``.
    """
    if type_name is not None and not search:
        types = EventType.objects.using(entries.db).filter(name=type_name).values_list("id", flat=True)
        places = LogPosition.objects.using(entries.db).filter(type_id=types.first())
        keys = _window([places.values_list("position", "entry_id")], "position", cursor, size + 1)
    else:
        sources = _sources(search, entries) if search else [entries]
        if type_name is not None:
            sources = [source.filter(type=type_name) for source in sources]
        keys = _window([source.values_list("id", "id") for source in sources], "id", cursor, size + 1)
    more, keys = len(keys) > size, keys[:size]
    if cursor is not None and cursor.newer:
        keys.reverse()
    older, newer = neighbours([key for key, _ in keys], cursor=cursor, more=more)
    return KeysetPage(rows=_load(entries, [id_ for _, id_ in keys]), older=older, newer=newer)


def _window(
    sources: Iterable[QuerySet[Any, Any]], field: str, cursor: Cursor | None, size: int
) -> list[tuple[int, int]]:
    """The next (key, entry id) pairs of all sources together, each read along its index."""
    newer = cursor is not None and cursor.newer
    found: set[tuple[int, int]] = set()
    for source in sources:
        if cursor is not None:
            source = source.filter(**{f"{field}__{'gt' if newer else 'lt'}": cursor.key})
        if not source.query.order_by:
            source = source.order_by(field)
        found.update((source if newer else source.reverse())[:size])
    return sorted(found, reverse=not newer)[:size]


def _sources(search: str, entries: QuerySet[EventEntry]) -> list[QuerySet[EventEntry]]:
    """Where a text can be found through an index: as stream or correlation id, and as position or event id if it is one.

    Queries of their own: joined by OR, they would be answered by reading the whole table.
    """
    ids: list[int] = []
    if POSITION.fullmatch(search) and int(search) <= LARGEST:
        ids.extend(LogPosition.objects.using(entries.db).filter(pk=int(search)).values_list("entry_id", flat=True))
    elif (event_id := _uuid(search)) is not None:
        ids.extend(entry_ids(event_id, entries))
    sources = [entries.filter(id__in=ids)] if ids else []
    sources.extend(by_id(entries.filter(**{name: search})) for name in ("stream", "correlation_id"))
    return sources


def by_id(few: QuerySet[EventEntry]) -> QuerySet[EventEntry]:
    """Entries chosen by an index of few rows, in the order of their ids, at the cost of those rows.

    Not in the order of the plain id: where a planner holds the value for frequent it walks the primary key instead, and reads
    the whole table when the last such entry is an old one.
    """
    ordered: QuerySet[EventEntry] = few.order_by(F("id") + 0)
    return ordered


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _load(entries: QuerySet[EventEntry], ids: list[int]) -> tuple[EventEntry, ...]:
    """The entries in the order of the ids; two statements, however many there are."""
    if not ids:
        return ()
    found = {entry.id: entry for entry in entries.filter(id__in=ids).defer("payload", "metadata")}
    places = LogPosition.objects.using(entries.db).filter(entry_id__in=ids).values_list("entry_id", "position")
    for id_, position in places:
        if id_ in found:
            found[id_].position = position
    return tuple(found[id_] for id_ in ids if id_ in found)
