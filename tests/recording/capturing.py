"""What the tests of capture() share: declarations that end with the test, and what was told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.db import models
from django.db.models.signals import m2m_changed, post_save, pre_delete

from django_eventstore.models import EventEntry
from django_eventstore.recording.captures import captures


@pytest.fixture(autouse=True)
def no_captures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is captured but by the test, and nobody listens but for it."""
    monkeypatch.setattr(captures, "_declared", {})
    monkeypatch.setattr(captures, "_found", {})
    signals = (post_save, pre_delete, m2m_changed)
    for signal in signals:
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))
    yield
    for signal in signals:
        signal.sender_receivers_cache.clear()  # also of what monkeypatch takes back afterwards


def created(instance: models.Model) -> tuple[str, dict[str, Any]]:
    return "test.Created", {"pk": str(instance.pk)}


def updated(instance: models.Model, changes: Any) -> tuple[str, dict[str, Any]]:
    return "test.Updated", {name: [plain(change.before), plain(change.after)] for name, change in changes.items()}


def deleted(instance: models.Model) -> tuple[str, dict[str, Any]]:
    return "test.Deleted", {"pk": str(instance.pk)}


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def told(using: str = "default") -> list[tuple[str, str, dict[str, Any]]]:
    """(what, stream, payload) of every event in the log, in the order of their recording."""
    entries: Sequence[EventEntry] = EventEntry.objects.using(using).order_by("id")
    return [(entry.type.removeprefix("test."), entry.stream, entry.data) for entry in entries]


def kinds(using: str = "default") -> list[str]:
    return [kind for kind, _, _ in told(using)]


def changes(using: str = "default") -> list[dict[str, Any]]:
    return [payload for kind, _, payload in told(using) if kind == "Updated"]
