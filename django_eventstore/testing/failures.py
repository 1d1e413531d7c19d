"""What goes wrong while a test delivers, and how the test is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..handlers import Handler
from ..models import EventEntry
from ..signals import delivery_failed, handler_failed

__all__ = ["DeliveryFailed", "EndlessDelivery", "Failure", "collected_failures", "raise_first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A delivery that failed. ``position`` and ``entry``: the event, None when the sender failed as a whole.

    Of a handler with ``mode="after_commit"``: ``consumer`` is its name, and there is no position.
    """

    consumer: str
    position: int | None
    entry: EventEntry | None
    error: BaseException

    def __str__(self) -> str:
        if self.entry is None:
            where = "its sender as a whole" if self.position is None else f"the event at position {self.position}"
        else:
            about = f" of {self.entry.stream}" if self.entry.stream else ""
            place = f"position {self.position}, " if self.position is not None else ""
            where = f"{self.entry.type}{about} ({place}event {self.entry.event_id})"
        return f"consumer {self.consumer}, {where}: {self.error!r}"


class DeliveryFailed(Exception):
    """Which consumer failed, and at which event: the first cause of what drain() raises, and so the top of its traceback.

    Attribute: ``failures``, every failure of the drain, the one that is raised first.
    """

    def __init__(self, failures: Sequence[Failure], circumstances: str = "") -> None:
        self.failures = tuple(failures)
        self._circumstances = circumstances
        lines = [f"A delivery failed{circumstances}: {self.failures[0]}"]
        lines += [f"Also: {failure}" for failure in self.failures[1:]]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[DeliveryFailed], tuple[object, ...]]:
        # Parallel test runs carry errors from process to process.
        return type(self), (self.failures, self._circumstances)


class EndlessDelivery(AssertionError):
    """Handling events records events whose handling records events, and so on, and drain() did not come to an end."""


@contextmanager
def collected_failures(failures: list[Failure], *, using: str) -> Iterator[None]:
    """Add what fails inside the block: on this thread, each event of each consumer once; after commits, on any thread."""
    thread = threading.get_ident()
    seen: list[tuple[str, int | None, BaseException]] = []
    after_commit: list[Failure] = []

    def note(*, consumer: str, position: int | None, error: BaseException, **kwargs: object) -> None:
        if threading.get_ident() == thread:
            seen.append((consumer, position, error))

    def note_handler(*, handler: Handler, entry: EventEntry, error: BaseException, **kwargs: object) -> None:
        after_commit.append(Failure(consumer=handler.name, position=None, entry=entry, error=error))

    delivery_failed.connect(note, weak=False)
    handler_failed.connect(note_handler, weak=False)
    try:
        yield
    finally:
        delivery_failed.disconnect(note)
        handler_failed.disconnect(note_handler)
    failures.extend(after_commit)
    known = {(failure.consumer, failure.position) for failure in failures}
    for consumer, position, error in seen:
        if (consumer, position) not in known:
            known.add((consumer, position))
            entry = _entry_at(position, using=using)
            failures.append(Failure(consumer=consumer, position=position, entry=entry, error=error))


def raise_first(failures: Sequence[Failure], *, circumstances: str = "") -> None:
    """Raise what the first failure's handler or sender raised, with DeliveryFailed as its first cause.

    The exception itself, so that a test can expect it; below its own causes, so that nothing it says of them is lost.
    """
    if not failures:
        return
    error = failures[0].error
    bottom = error
    while (below := bottom.__cause__ or bottom.__context__) is not None and not isinstance(below, DeliveryFailed):
        bottom = below
    bottom.__cause__ = DeliveryFailed(failures, circumstances)
    raise error


def _entry_at(position: int | None, *, using: str) -> EventEntry | None:
    if position is None:
        return None
    entry: EventEntry | None = EventEntry.objects.using(using).filter(log_position__position=position).first()
    return entry
