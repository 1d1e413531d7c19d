from __future__ import annotations

import pytest
from django.db import connection

from django_eventstore.handlers import handler_registry
from tests.delivery import elsewhere

__all__ = ["elsewhere"]


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that a test declares end with it. Everything else is as in a project, which has no such fixture."""
    monkeypatch.setattr(handler_registry, "_handlers", {})
    monkeypatch.setattr(handler_registry, "_sync", {})
    monkeypatch.setattr(handler_registry, "_after_commit", {})


@pytest.fixture(
    params=[
        pytest.param(False, marks=pytest.mark.django_db, id="in a TestCase"),
        pytest.param(True, marks=pytest.mark.django_db(transaction=True), id="in a TransactionTestCase"),
    ]
)
def each_kind_of_test(request: pytest.FixtureRequest) -> None:
    """The test twice, where nothing is ever committed and where everything is."""
    # By marks, since pytest-django looks at what a test asks for, and not at what a fixture asks for later.
    assert request.param is not connection.in_atomic_block
