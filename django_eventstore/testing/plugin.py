"""Fixtures for pytest, by entry point. Nothing is imported from Django, and nothing is done, until a test asks for one.

Each asks for ``db`` of pytest-django; with ``@pytest.mark.django_db(transaction=True)`` or ``transactional_db`` beside it
commits are real. In a project without pytest-django the fixtures exist, and only asking for one is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from django_eventstore import testing

__all__ = ["assert_idempotent", "assert_not_recorded", "assert_recorded", "drain_events", "recorded_events"]


@pytest.fixture
def recorded_events(db: None) -> testing.CapturedEvents:
    """What was recorded since the test began, or since this fixture was made: a sequence with ``of(type)``."""
    return testing.CapturedEvents.since_now()


@pytest.fixture
def assert_recorded(recorded_events: testing.CapturedEvents) -> Callable[..., testing.EntryList]:
    """See django_eventstore.testing.assert_recorded(); looks at what was recorded since the test began."""
    return partial(testing.assert_recorded, within=recorded_events)


@pytest.fixture
def assert_not_recorded(recorded_events: testing.CapturedEvents) -> Callable[..., None]:
    """See django_eventstore.testing.assert_not_recorded(); looks at what was recorded since the test began."""
    return partial(testing.assert_not_recorded, within=recorded_events)


@pytest.fixture
def drain_events(recorded_events: testing.CapturedEvents) -> Callable[..., testing.Drained]:
    """See django_eventstore.testing.drain()."""
    return testing.drain


@pytest.fixture
def assert_idempotent(recorded_events: testing.CapturedEvents) -> Callable[..., testing.Drained]:
    """See django_eventstore.testing.assert_idempotent()."""
    return testing.assert_idempotent
