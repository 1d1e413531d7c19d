"""Where the package would have spans: what a tracer is asked for. Plain Python; ``telemetry`` has the one of OpenTelemetry.

Without a tracer there is no span object, and a trace goes on all the same: ``traceparent`` is taken from the request, kept
with the event and sent along, see ``context``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from .context import EventContext

__all__ = ["Recording", "Traced", "Tracer", "forwarding", "get_tracer", "handling", "sending", "set_tracer"]


class Traced(Protocol):
    """What a tracer has to know of an entry."""

    @property
    def event_id(self) -> object: ...
    @property
    def type(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def metadata(self) -> str: ...


class Recording(Protocol):
    """The span of one call of record()."""

    def of(self, types: Sequence[str], *, event_id: object = None) -> None:
        """Say what is recorded; ``event_id`` of a single event."""


class Tracer(Protocol):
    """Gives context managers that hold a span open. An error that leaves the block is noted on the span."""

    def recording(self, context: EventContext | None) -> AbstractContextManager[Recording]:
        """record(): entries that are made in the block carry the span's ``traceparent``.

        Where no span is open the one that ``context`` names goes on.
        """

    def forwarding(self, consumer: str, entries: Sequence[Traced]) -> AbstractContextManager[object]:
        """A batch of a consumer, from its delivery to the save of its offset."""

    def sending(self, consumer: str, entries: Sequence[Traced]) -> AbstractContextManager[object]:
        """A batch handed to a sender that delivers to the outside."""

    def handling(self, handler: str, entry: Traced, *, linked: bool) -> AbstractContextManager[object]:
        """One event in one handler. ``linked``: to where the event was recorded, which is another process and time."""


_tracer: Tracer | None = None
_NOTHING: AbstractContextManager[object] = nullcontext()


def get_tracer() -> Tracer | None:
    """The tracer of this process; None: there are no spans."""
    return _tracer


def set_tracer(tracer: Tracer | None) -> None:
    """Use this one from now on, or none."""
    global _tracer
    _tracer = tracer


def handling(handler: str, entry: Traced, *, linked: bool) -> AbstractContextManager[object]:
    """The tracer's span around a handler, or nothing."""
    return _NOTHING if _tracer is None else _tracer.handling(handler, entry, linked=linked)


def forwarding(consumer: str, entries: Sequence[Traced]) -> AbstractContextManager[object]:
    """The tracer's span around a batch, or nothing."""
    return _NOTHING if _tracer is None else _tracer.forwarding(consumer, entries)


def sending(consumer: str, entries: Sequence[Traced]) -> AbstractContextManager[object]:
    """The tracer's span around a sender's work, or nothing."""
    return _NOTHING if _tracer is None else _tracer.sending(consumer, entries)
