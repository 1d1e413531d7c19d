"""Places of the log with the entries that stand there, as they come from the database.

Nothing here runs as often as this. So the rows are fetched at once, and become entries without ``Model.__init__()``, which
sets one attribute after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timezone
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init
from django.utils.timezone import get_default_timezone

from ..models import EventEntry

__all__ = ["fetch"]

FIELDS = EventEntry._meta.concrete_fields
COLUMNS = tuple(field.attname for field in FIELDS)
ATTRIBUTES = (*COLUMNS, "position", "slot")


def fetch(source: str, parameters: Sequence[object], *, using: str) -> list[EventEntry]:
    """The rows of ``source``, the rest of a SELECT over ``eventstore_entry e`` and places ``p``, as entries.

    The id of one whose place has no entry any more is None.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_columns(connection)} {source}", parameters)
        rows = cursor.fetchall()
    has_listeners = pre_init.has_listeners(EventEntry) or post_init.has_listeners(EventEntry)
    make: Callable[[Sequence[Any], str], EventEntry] = _make_by_django if has_listeners else _make
    return [make(row, using) for row in _converted(rows, connection)]


def _columns(connection: BaseDatabaseWrapper) -> str:
    names = {name: f"e.{name}" for name in COLUMNS}
    if connection.vendor == "postgresql":
        # Without a zone it is not read by a function in Python; in UTC, since the session's zone is not certain: behind
        # PgBouncer in transaction mode it may be another one than Django has set.
        names["timestamp"] = "e.timestamp AT TIME ZONE 'UTC'"
    return ", ".join([*names.values(), "p.position", "p.slot"])


def _converted(rows: Iterable[Sequence[Any]], connection: BaseDatabaseWrapper) -> Iterable[Sequence[Any]]:
    """The values as Django gives them."""
    if connection.vendor == "postgresql":
        return _with_zone(rows, connection)
    compiler = connection.ops.compiler("SQLCompiler")(EventEntry.objects.all().query, connection, connection.alias)
    converters = compiler.get_converters([field.get_col(EventEntry._meta.db_table) for field in FIELDS])
    converted: Iterable[Sequence[Any]] = compiler.apply_converters(rows, converters)
    return converted


def _with_zone(rows: Iterable[Sequence[Any]], connection: BaseDatabaseWrapper) -> Iterable[Sequence[Any]]:
    zone, place = connection.timezone or get_default_timezone(), COLUMNS.index("timestamp")
    for row in map(list, rows):
        if row[place] is not None:
            moment = row[place].replace(tzinfo=timezone.utc)
            if zone is not timezone.utc:
                moment = moment.astimezone(zone)
            row[place] = moment if settings.USE_TZ else moment.replace(tzinfo=None)
        yield row


def _make(row: Sequence[Any], using: str) -> EventEntry:
    entry, state = EventEntry.__new__(EventEntry), ModelState()
    state.adding, state.db = False, using
    entry.__dict__.update(zip(ATTRIBUTES, row, strict=True), _state=state)
    return entry


def _make_by_django(row: Sequence[Any], using: str) -> EventEntry:
    """With the signals pre_init and post_init, for a project that listens to them."""
    *values, position, slot = row
    entry: EventEntry = EventEntry.from_db(using, COLUMNS, values)
    entry.position, entry.slot = position, slot
    return entry
