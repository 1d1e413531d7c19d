"""From a change to its events: the builder is called, and what it returns is recorded on the stream of the instance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import models

from .captures import Builder, Changes, Subject
from .record import record_each

__all__ = ["gathered", "tell"]

Told = list[tuple[object, str]]

_gathering: ContextVar[tuple[str, Told] | None] = ContextVar("eventstore_gathering", default=None)


def tell(changes: Iterable[tuple[models.Model, Changes]], *, subject: Subject, using: str) -> None:
    """Record the events of changed instances in one statement; the transaction of the change is open."""
    told: Told = []
    for instance, change in changes:
        events = _built(instance, change, subject.builder)
        if events:
            stream = subject.stream_of(instance)
            told += ((event, stream) for event in events)
    gathering = _gathering.get()
    if gathering is not None and gathering[0] == using:
        gathering[1].extend(told)
    elif told:
        record_each(told, using=using)


@contextmanager
def gathered(*, using: str) -> Iterator[None]:
    """What is told inside is recorded at the end, in one statement."""
    told: Told = []
    token = _gathering.set((using, told))
    try:
        yield
    finally:
        _gathering.reset(token)
    if told:
        record_each(told, using=using)


def _built(instance: models.Model, changes: Changes, builder: Builder) -> list[object]:
    result = builder.function(instance, changes) if builder.takes_changes else builder.function(instance)
    if result is None:
        return []
    if isinstance(result, list) or (isinstance(result, tuple) and not _is_pair(result)):
        return [event for event in result if event is not None]
    return [result]


def _is_pair(event: tuple[object, ...]) -> bool:
    return len(event) == 2 and isinstance(event[0], str) and isinstance(event[1], Mapping)
