"""What a test declares is forgotten with it."""

from __future__ import annotations

import pytest

from django_eventstore.events import registry


@pytest.fixture
def declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events, upcasters and retired types that the test declares are gone afterwards."""
    for name in ("_by_type", "_by_class", "_upcasters", "_retired"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
