"""Places of the log with the entries that stand there, as they come from the database.

Nothing here runs as often as this. So the rows are fetched at once, and become entries without ``Model.__init__()``, which
sets one attribute after the other, unless somebody listens to its signals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from ..models import EventEntry

__all__ = ["fetch"]

FIELDS = EventEntry._meta.concrete_fields
COLUMNS = tuple(field.attname for field in FIELDS)
ATTRIBUTES = (*COLUMNS, "position", "slot")


def fetch(source: str, parameters: Sequence[object], *, using: str) -> list[EventEntry]:
    """The rows of ``source``, the rest of a SELECT over ``eventstore_entry e`` and places ``p``, as entries.

    The id of one whose place has no entry any more is None.
    """
    if pre_init.has_listeners(EventEntry) or post_init.has_listeners(EventEntry):
        return list(EventEntry.objects.using(using).raw(f"SELECT {_select()} {source}", parameters))
    connection = connections[using]
    # A time that names its zone is read by a function in Python. Only of UTC is it known without: elsewhere an hour of each
    # autumn comes twice.
    in_utc = connection.vendor == "postgresql" and settings.USE_TZ and connection.timezone_name == "UTC"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_select(in_utc=in_utc)} {source}", parameters)
        rows = cursor.fetchall()
    entries = [_make(row, using) for row in _converted(rows, connection)]
    if in_utc:
        _set_zone(entries, connection.timezone)
    return entries


def _select(*, in_utc: bool = False) -> str:
    names = {name: f"e.{name}" for name in COLUMNS}
    if in_utc:
        names["timestamp"] += " AT TIME ZONE 'UTC'"
    return ", ".join([*names.values(), "p.position", "p.slot"])


def _converted(rows: Sequence[Sequence[Any]], connection: BaseDatabaseWrapper) -> Iterable[Sequence[Any]]:
    """The values as the fields have them."""
    if connection.vendor == "postgresql":
        return rows  # the driver gives what Django gives
    compiler = connection.ops.compiler("SQLCompiler")(EventEntry.objects.all().query, connection, connection.alias)
    converters = compiler.get_converters([field.get_col(EventEntry._meta.db_table) for field in FIELDS])
    converted: Iterable[Sequence[Any]] = compiler.apply_converters(rows, converters)
    return converted


def _set_zone(entries: Iterable[EventEntry], zone: tzinfo | None) -> None:
    for entry in entries:
        if entry.id is not None:
            entry.timestamp = entry.timestamp.replace(tzinfo=zone)


def _make(row: Sequence[Any], using: str) -> EventEntry:
    entry, state = EventEntry.__new__(EventEntry), ModelState()
    state.adding, state.db = False, using
    entry.__dict__.update(zip(ATTRIBUTES, row, strict=True), _state=state)
    return entry
