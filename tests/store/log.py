"""Shorthands of these tests: record numbered events, and say what the log holds."""

from __future__ import annotations

import time

from django.db import connections

from django_eventstore import EventStore, Page
from django_eventstore.models import EventEntry, LogPosition


def save(
    *numbers: int, using: str = "default", stream: str | None = None, type: str = "test.Counted"
) -> list[EventEntry]:
    """One event per number."""
    store = EventStore(using)
    return [store.save(type, {"n": number}, stream=stream)[0] for number in numbers]


def numbers(page: Page) -> list[int]:
    return [entry.data["n"] for entry in page.entries]


def log_numbers(using: str = "default") -> list[int]:
    """What a reader that follows the log from offset 0 sees. The end of the log must be reached within 10 seconds."""
    offset, seen = 0, []
    store = EventStore(using)
    deadline = time.monotonic() + 10
    while True:
        page = store.get(offset, 1_000)
        assert [entry.position for entry in page.entries] == list(range(offset + 1, offset + 1 + len(page.entries)))
        seen += numbers(page)
        offset = page.next_offset
        if page.complete:
            return seen
        assert time.monotonic() < deadline, f"incomplete at {offset}"


def placed(using: str = "default") -> list[tuple[int, int]]:
    """(position, entry id) of the whole log, read beside the store."""
    return list(LogPosition.objects.using(using).order_by("position").values_list("position", "entry_id"))


def execute(sql: str, parameters: object = None, *, using: str = "default") -> list[tuple]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []
