import pytest

from django_eventstore.events import registry


@pytest.fixture(autouse=True)
def _registry_restored(monkeypatch):
    """What a test declares is forgotten with it: some of these events are declared wrong on purpose."""
    monkeypatch.setattr(registry, "_by_type", dict(registry._by_type))
    monkeypatch.setattr(registry, "_by_class", dict(registry._by_class))
