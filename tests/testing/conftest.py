from __future__ import annotations

import pytest

from django_eventstore.handlers import handler_registry
from tests.delivery import elsewhere

__all__ = ["elsewhere"]


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that a test declares end with it. Everything else is as in a project, which has no such fixture."""
    monkeypatch.setattr(handler_registry, "_handlers", {})
    monkeypatch.setattr(handler_registry, "_sync", {})
    monkeypatch.setattr(handler_registry, "_after_commit", {})
