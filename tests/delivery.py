"""What the tests of recording and delivering share: a clean process, recorded numbers, a sender that keeps what it got."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_eventstore import Batch, EventEntry, EventForwarder, EventSender, Outcome, record
from django_eventstore.consumers import Consumer, OffsetStore
from django_eventstore.forwarding import celery, forwarder
from django_eventstore.forwarding.notifying import notifier
from django_eventstore.handlers import handler_registry
from django_eventstore.models import ConsumerState, FailedDelivery
from django_eventstore.recording import forget_known_consumers
from tests.shop.models import Refund

T = TypeVar("T")
COUNTED = "test.Counted"


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that declares no handler and has done nothing yet; afterwards the one it was."""
    monkeypatch.setattr(handler_registry, "_handlers", {})
    monkeypatch.setattr(handler_registry, "_sync", {})
    monkeypatch.setattr(handler_registry, "_after_commit", {})
    monkeypatch.setattr(forwarder, "_forwarders", {})
    monkeypatch.setattr(celery, "_last_beats", {})
    monkeypatch.setattr(celery.wake_up, "_not_before", 0.0)
    monkeypatch.setattr(celery.wake_up, "_failures", 0)
    forget_known_consumers()
    notifier.forget()
    yield
    forget_known_consumers()


class Elsewhere(Protocol):
    def __call__(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> Future[T]: ...


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Call a function on a thread, which has connections of its own and closes them at its end; returns the Future."""
    pool = ThreadPoolExecutor(8)

    def call(function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        try:
            return function(*arguments, **keywords)
        finally:
            connections.close_all()

    yield lambda function, *arguments, **keywords: pool.submit(call, function, *arguments, **keywords)
    pool.shutdown()


class RolledBack(Exception):
    """Why the block of `rolled_back` ended."""


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or inside one a savepoint, that an error rolls back at its end."""
    try:
        with transaction.atomic():
            yield
            raise RolledBack
    except RolledBack:
        pass


def record_numbers(*numbers: int, type: str = COUNTED, using: str | None = None) -> list[EventEntry]:
    """One event per number, in one transaction of their own."""
    with transaction.atomic(using=using):
        return [record(type, {"n": number}, using=using)[0] for number in numbers]


def numbers_of(entries: Sequence[Any]) -> list[int]:
    return [entry.data["n"] for entry in entries]


class Clock:
    """Time that passes when the test says so; called, or read as ``time.monotonic`` is."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    monotonic = __call__


def refunds() -> list[int]:
    """What the handlers of these tests have done: one refund per number."""
    return sorted(Refund.objects.values_list("order_id", flat=True))


class RecordingSender(EventSender):
    """Keeps the numbers it was sent. ``script``: called with each batch in place of accepting all of it."""

    def __init__(self, script: Callable[[Batch], Outcome] | None = None) -> None:
        self.script = script
        self.batches: list[list[int]] = []

    @property
    def numbers(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    def send(self, batch: Batch) -> Outcome:
        self.batches.append(numbers_of(batch.entries))
        return self.script(batch) if self.script else Outcome(done=len(batch.entries))


def consumer(name: str = "numbers", **declared: Any) -> Consumer:
    """A consumer of the numbers; its sender is given to the forwarder."""
    return Consumer(**{"name": name, "events": (COUNTED,), "sender": "none", "start": "beginning", **declared})


def forwarder_of(sender: EventSender, *, using: str | None = None, **declared: Any) -> EventForwarder:
    return EventForwarder(consumer(**declared), sender=sender, using=using)


def offset_of(consumer: str = "numbers") -> int | None:
    """Where the consumer stands in the database; None when it has never been seen."""
    progress = OffsetStore().load(consumer)
    return None if progress is None else progress.offset


def state_of(consumer: str = "numbers") -> ConsumerState:
    return ConsumerState.objects.get(pk=consumer)


def retry_now(consumer: str = "numbers") -> None:
    """End the waits after a failure, as time does."""
    ConsumerState.objects.filter(pk=consumer).update(retry_at=None)
    FailedDelivery.objects.filter(consumer=consumer).update(retry_at=None)


def failures(consumer: str = "numbers") -> list[tuple[int, str, int]]:
    """Position, state and attempts of what the consumer has put aside."""
    rows = FailedDelivery.objects.filter(consumer=consumer).order_by("position")
    return list(rows.values_list("position", "state", "attempts"))


def failure_of(position: int, consumer: str = "numbers") -> FailedDelivery:
    return FailedDelivery.objects.get(consumer=consumer, position=position)


def writes(captured: CaptureQueriesContext) -> list[str]:
    """The captured statements that write; the sequencer's own call writes only when there is something new."""
    verbs = re.compile(r"\s*((\d+|\?) times: )?(INSERT|UPDATE|DELETE|REPLACE|COPY)\b")
    return [query["sql"] for query in captured if verbs.match(query["sql"])]


ENOUGH = {"most_events": 1_000_000, "longest": timedelta(minutes=1)}
