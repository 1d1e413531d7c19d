from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from django_eventstore import EventForwarder
from django_eventstore.consumers import Consumer, OffsetStore
from django_eventstore.models import Endpoint
from django_eventstore.store import log_state
from django_eventstore.webhooks import WebhookSender
from django_eventstore.webhooks.signing import new_secret
from django_eventstore.webhooks.vault import encrypt
from tests.delivery import clean_process, elsewhere
from tests.webhooks.receiver import Receiver, receiving

__all__ = ["clean_process", "elsewhere"]

ANY_PORT = range(1, 65_536)
WAIT = 60
"""Seconds after which what is waited for will not come any more."""
SENDER = "django_eventstore.webhooks.WebhookSender"
AT_ONCE = {"retry_base": timedelta(microseconds=1), "retry_cap": timedelta(microseconds=1)}

PATIENT = {"timeout": timedelta(seconds=25), "patience": timedelta(seconds=25)}
"""On a busy machine too nobody is late by chance."""


def until(condition: Callable[[], object], work: Callable[[], object] = lambda: time.sleep(0.01)) -> None:
    """Work until the condition holds."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "It did not come to that."
        work()


class Hooks:
    """A consumer of webhooks, its endpoints, and the server that they are at."""

    def __init__(self, receiver: Receiver, name: str = "webhooks") -> None:
        self.receiver, self.name = receiver, name
        self.senders: list[WebhookSender] = []
        self.forwarder = self.another()

    def another(self, **options: Any) -> EventForwarder:
        """Another worker's, as a rule with other options."""
        given = {"allow_http": True, "allow_private": True, "ports": ANY_PORT, **AT_ONCE, **PATIENT, **options}
        self.senders.append(WebhookSender(**given))
        consumer = Consumer(name=self.name, events=("test.*",), sender=SENDER, start="beginning")
        return EventForwarder(consumer, sender=self.senders[-1])

    def use(self, **options: Any) -> None:
        self.forwarder = self.another(**options)

    def endpoint(self, path: str, *, events: str = "*", secret: str | None = None, **values: Any) -> Endpoint:
        stored = encrypt(secret or new_secret())
        return Endpoint.objects.create(
            **{"consumer": self.name, "url": self.receiver.url(path), "events": events, "secret": stored, **values}
        )

    def forward(self) -> int:
        """One tick; returns the number of events that the consumer has delivered."""
        return self.forwarder.get_and_send().delivered

    def forward_until(self, condition: Callable[[], object]) -> None:
        def tick() -> None:
            self.forward()
            time.sleep(0.01)

        until(condition, tick)

    def offset(self) -> int:
        progress = OffsetStore().load(self.name)
        return -1 if progress is None else progress.offset

    def is_level(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint has what the consumer has, the consumer all there is, and nobody is sending to it."""
        now, offset = row(endpoint), self.offset()
        is_level = now.offset is None or now.offset >= offset
        return is_level and now.claimed_until is None and not now.attempts and offset == log_state("default").head

    def close(self) -> None:
        for sender in self.senders:
            sender.close()


def row(endpoint: Endpoint) -> Endpoint:
    """As it is now."""
    return Endpoint.objects.get(pk=endpoint.pk)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def calm(receiver: Receiver, db: None) -> Iterator[Hooks]:
    """The same in a transaction that is rolled back: for what leaves no endpoint to a thread."""
    hooks = Hooks(receiver)
    yield hooks
    hooks.close()


@pytest.fixture
def hooks(receiver: Receiver, transactional_db: None) -> Iterator[Hooks]:
    hooks = Hooks(receiver)
    yield hooks
    receiver.going_on.set()  # or a thread would wait for its answer
    hooks.close()
