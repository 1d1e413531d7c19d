from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_eventstore.consumers import OffsetStore, declared_consumers
from tests.inspection import senders

Declare = Callable[..., None]


@pytest.fixture
def declare() -> Iterator[Declare]:
    """``declare(billing={...})``: consumers with a Recorder, which begin at the beginning of the log."""
    overrides = []

    def enter(**consumers: dict[str, Any]) -> None:
        defaults = {"SENDER": "tests.inspection.senders.Recorder", "START": "beginning"}
        override = override_settings(
            EVENTSTORE={"CONSUMERS": {name: {**defaults, **given} for name, given in consumers.items()}}
        )
        override.enable()
        overrides.append(override)
        OffsetStore().register(declared_consumers().values())

    yield enter
    for override in reversed(overrides):
        override.disable()


@pytest.fixture(autouse=True)
def received() -> Iterator[list[tuple[str, int]]]:
    """What the Recorders of the test were sent: (consumer, number)."""
    senders.RECEIVED.clear()
    yield senders.RECEIVED
    senders.RECEIVED.clear()
