"""Readers that get the order of the log wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

from django_eventstore import EventStore
from django_eventstore.models import EventEntry
from django_eventstore.store import Page, log_state, pages

COLUMNS = ", ".join(f"e.{field.column}" for field in EventEntry._meta.concrete_fields)
BY_ID = "SELECT i.id, i.id AS place FROM eventstore_entry i"
BY_RANK = "SELECT i.id, ROW_NUMBER() OVER (ORDER BY i.id) AS place FROM eventstore_entry i"
BEHIND_XMIN = "SELECT i.id, i.id AS place FROM eventstore_entry i WHERE i.xid < pg_snapshot_xmin(pg_current_snapshot())"


def reads_by(source: str) -> Callable[[], list[Any]]:
    """``get`` reads rows of (id columns, place) from this statement in place of the log."""

    def get(
        self: EventStore, offset: int = 0, limit: int = 100, *, types: Any = (), stream: Any = None, epoch: Any = None
    ) -> Page:
        pages.sequence(self.using)  # so that the log exists and only the reader is wrong
        state = log_state(self.using)
        rows = EventEntry.objects.using(self.using).raw(
            f"SELECT {COLUMNS}, q.place AS position FROM ({source}) q JOIN eventstore_entry e ON e.id = q.id "
            "WHERE q.place > %s ORDER BY q.place LIMIT %s",
            [offset, limit],
        )
        entries = tuple(rows)
        wanted = tuple(
            entry
            for entry in entries
            if (stream is None or entry.stream == stream)
            and (not types or any(entry.type == t or entry.type.startswith(t.rstrip("*")) for t in types))
        )
        complete = len(entries) < limit
        return Page(
            log=state.log,
            epoch=state.epoch,
            entries=wanted,
            next_offset=entries[-1].position if entries else offset,
            complete=complete,
            head=state.head if complete else None,
        )

    return lambda: [mock.patch.object(EventStore, "get", get)]


def read_head_after_select() -> list[Any]:
    """``get`` says that the reader has seen everything up to a head that it read after it had selected."""
    getting = EventStore.get

    def get(self: EventStore, *arguments: Any, **keywords: Any) -> Page:
        page = getting(self, *arguments, **keywords)
        if not page.complete:
            return page
        head = log_state(self.using).head
        return replace(page, next_offset=head, head=head)

    return [mock.patch.object(EventStore, "get", get)]
