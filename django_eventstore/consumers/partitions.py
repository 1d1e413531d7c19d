"""Partitions: a consumer's share of the log, as a group of slots, so that several workers can deliver for it at once."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SLOTS", "Partition"]

SLOTS = 64
"""How many slots there are; a stream has the same one for ever (see LogPosition)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One of ``count`` groups of neighbouring slots of a consumer. Valid, or not constructible."""

    consumer: str
    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.count <= SLOTS:
            raise ValueError(f"A consumer has 1 to {SLOTS} partitions, not {self.count}.")
        if not 0 <= self.number < self.count:
            raise ValueError(f"There is no partition {self.number} of {self.count}.")

    @property
    def slots(self) -> range | None:
        """Its slots; None for all of them."""
        if self.count == 1:
            return None
        return range(SLOTS * self.number // self.count, SLOTS * (self.number + 1) // self.count)

    def __str__(self) -> str:
        return self.consumer if self.count == 1 else f"{self.consumer} {self.number + 1}/{self.count}"
