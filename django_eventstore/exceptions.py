"""The errors of the package: one base, few children, each with the facts as attributes."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

__all__ = [
    "AppendOnlyError",
    "ConcurrencyError",
    "EpochChanged",
    "EventDecodingError",
    "EventEncodingError",
    "EventIdConflict",
    "EventStoreError",
    "LeaseLost",
    "MixedStreamError",
    "PermanentError",
    "RetryAfter",
    "SequencingRefused",
    "Unavailable",
    "UnknownConsumer",
    "UnknownEventType",
]


class EventStoreError(Exception):
    """Something went wrong in the event store."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class EventEncodingError(EventStoreError, ValueError):
    """The event cannot be stored as it is; nothing was written.

    Attributes: ``type``, the event's type name; ``field``, the path of the value inside the event (``lines[0].price``, empty
    for the event as a whole); ``reason``, what is wrong with it and what to do.
    """

    def __init__(self, *, type: str, field: str, reason: str) -> None:
        self.type = type
        self.field = field
        self.reason = reason
        where = f"{type}, field {field}" if field else type
        super().__init__(f"{where}: {reason}")


class EventDecodingError(EventStoreError, ValueError):
    """The stored payload does not fit the event class that the code declares for it.

    Attributes: ``type``, ``version`` and ``reason``.
    """

    def __init__(self, *, type: str, version: int, reason: str) -> None:
        self.type = type
        self.version = version
        self.reason = reason
        super().__init__(f"{type} version {version}: {reason}")


class UnknownEventType(EventStoreError, LookupError):
    """No event class is registered for this type. Import the module that declares it, or handle the type by its name.

    Attribute: ``type``.
    """

    def __init__(self, type: str) -> None:
        self.type = type
        super().__init__(
            f"{type}: no event class is registered for this type. Declare it with @event({type!r}) in an app's events "
            "module, or handle the type by its name."
        )


class ConcurrencyError(EventStoreError):
    """Somebody else appended to the stream first. Load the stream again, decide again, then record.

    Attributes: ``stream``; ``expected``, the version the caller expected; ``actual``, the version the stream has as far as
    this transaction can see, or None when the winner is not visible to it yet.
    """

    def __init__(self, *, stream: str, expected: int, actual: int | None) -> None:
        self.stream = stream
        self.expected = expected
        self.actual = actual
        found = f"version {actual}" if actual is not None else "a newer version that this transaction cannot see"
        super().__init__(
            f"Stream {stream!r} was expected at version {expected} and has {found}: somebody else appended first. "
            "Load the stream again, decide again, then record."
        )


class MixedStreamError(EventStoreError):
    """A stream takes either versioned events (recorded with expected_version) or plain ones, never both.

    Attributes: ``stream``; ``versioned``, whether the stream holds versioned events.
    """

    def __init__(self, *, stream: str, versioned: bool) -> None:
        self.stream = stream
        self.versioned = versioned
        holds, refused = ("versioned", "plain") if versioned else ("plain", "versioned")
        advice = "pass expected_version" if versioned else "leave expected_version out"
        super().__init__(
            f"Stream {stream!r} holds {holds} events, and this one is {refused}: a stream takes one kind only. "
            f"Use another stream, or {advice}."
        )


class EventIdConflict(EventStoreError):
    """The supplied event_id already names another event: its type or its stream differs. Use a new id.

    Attributes: ``event_id``; ``type`` and ``stream`` of the event that has the id.
    """

    def __init__(self, *, event_id: UUID, type: str, stream: str) -> None:
        self.event_id = event_id
        self.type = type
        self.stream = stream
        super().__init__(
            f"event_id {event_id} already names an event of type {type!r} on stream {stream!r}. Repeating an event "
            "returns the first one; another event needs an id of its own."
        )


class AppendOnlyError(EventStoreError):
    """The log is append-only: entries are recorded, read, and never changed. Record a new event that corrects the old one."""


class EpochChanged(EventStoreError):
    """The log began a new history that the reader's offset does not belong to. Positions may name other events now.

    Attributes: ``log``; ``epoch``, the log's current epoch; ``reader_epoch``, the reader's (None if it named none);
    ``offset``, the reader's; ``head``, the log's last position; ``began_after``, the last position the two histories share.
    """

    def __init__(
        self, *, log: UUID, epoch: int, reader_epoch: int | None, offset: int, head: int, began_after: int
    ) -> None:
        self.log = log
        self.epoch = epoch
        self.reader_epoch = reader_epoch
        self.offset = offset
        self.head = head
        self.began_after = began_after
        reader = f"of epoch {reader_epoch}" if reader_epoch is not None else "of an unknown epoch"
        super().__init__(
            f"Offset {offset} {reader} is not in the history of log {log}: it is in epoch {epoch}, which began after "
            f"position {began_after}, and its head is {head}. Compare what you received above position {began_after} with "
            "the log, then go on from an offset of this epoch."
        )


class SequencingRefused(EventStoreError):
    """The sequencer does not run here: inside an open transaction, or on a connection that cannot write."""


class LeaseLost(EventStoreError):
    """The lease is over and another worker holds the consumer; this worker's transaction was rolled back.

    Attributes: ``consumer`` and ``token``, the fencing token that is no longer the newest.
    """

    def __init__(self, *, consumer: str, token: int) -> None:
        self.consumer = consumer
        self.token = token
        super().__init__(
            f"Consumer {consumer!r}: the lease with token {token} is over and another worker holds it. "
            "Nothing of this transaction was kept."
        )


class UnknownConsumer(EventStoreError, LookupError):
    """No consumer of this name is declared.

    Attributes: ``consumer``; ``known``, the declared names.
    """

    def __init__(self, *, consumer: str, known: tuple[str, ...]) -> None:
        self.consumer = consumer
        self.known = known
        names = ", ".join(known) or "none"
        super().__init__(f"No consumer {consumer!r} is declared. Declared: {names}.")


class PermanentError(EventStoreError):
    """Raised by a handler or named by a sender: trying this event again is of no use. It is parked at once."""


class RetryAfter(EventStoreError):
    """Raised by a handler or named by a sender: try this event again after ``delay``; it counts as an attempt.

    Attribute: ``delay``.
    """

    def __init__(self, delay: timedelta, message: str | None = None) -> None:
        self.delay = delay
        super().__init__(message or f"Try again in {delay.total_seconds():g} s.")


class Unavailable(EventStoreError):
    """Raised by a handler: what it needs is down as a whole, and no event is to blame. Its consumer waits and tries again."""
