"""What the writers record. Every event says who recorded it, as which of its stream, and when."""

from __future__ import annotations

from dataclasses import dataclass

from django_eventstore import event


@dataclass(frozen=True)
class Mark:
    """``key``: writer/transaction/number, unique. ``count``: the value of the stream's Counter row, None without one.

    ``at``: seconds of the machine's monotonic clock, which all processes share, just before the insert.
    """

    key: str
    count: int | None
    at: float


@event("load.Alpha")
@dataclass(frozen=True)
class Alpha(Mark):
    pass


@event("load.Beta")
@dataclass(frozen=True)
class Beta(Mark):
    pass


@event("rare.Gamma")
@dataclass(frozen=True)
class Gamma(Mark):
    pass


KINDS: tuple[type[Mark], ...] = (Alpha, Beta, Gamma)
WEIGHTS = (10, 5, 1)
