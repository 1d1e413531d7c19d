from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_eventstore import EventForwarder
from django_eventstore.consumers import OffsetStore, declared_consumers
from django_eventstore.models import ConsumerState, FailedDelivery
from tests.inspection import senders
from tests.store.log import save

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
    senders.MENDED.clear()


@pytest.fixture
def failing(declare: Declare) -> None:
    """``billing`` has had 1 and 2 and put 3 aside, at position 4, which order-7 waits for; 4 is behind it, 5 is delivered.

    Position 3 is of a type that it does not want.
    """
    declare(billing={"EVENTS": ["test.Counted"], "OPTIONS": {"fails_at": 3}})
    save(1, 2, stream="order-7")
    save(0, type="test.Other")
    save(3, 4, stream="order-7")
    save(5, stream="order-8")
    EventForwarder("billing").get_and_send()


def tick() -> None:
    """What a worker does: with forwarders of its own."""
    for name in declared_consumers():
        EventForwarder(name).get_and_send()


def time_passes() -> None:
    """The waits after a failure are over."""
    ConsumerState.objects.update(retry_at=None)
    FailedDelivery.objects.update(retry_at=None)
