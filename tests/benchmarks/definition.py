"""What a figure is: measurements of some variants in turns, and the comparisons that are made of them. Plain data."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "COMPARED_MILLISECONDS",
    "CPU_MICROSECONDS",
    "MICROSECONDS",
    "MILLISECONDS",
    "PEAK_MEMORY",
    "RATE",
    "Comparison",
    "Figure",
    "Measurement",
    "Quantity",
    "Reading",
    "Scale",
    "TAIL_MILLISECONDS",
    "Target",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured. ``quick`` shows that the benchmarks work, and nothing else."""

    vendor: str
    quick: bool

    def of(self, full: int, *, quick: int) -> int:
        """The number for this run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one process measured. ``seconds`` and ``cpu_seconds`` are for all ``count`` items together."""

    count: int
    seconds: float
    cpu_seconds: float
    """Of this process, the client: user and system."""
    peak_bytes: int
    """By how much the peak of the resident memory exceeded what it was at the start."""
    compared_seconds: float | None = None
    """The same for the comparison, where both must take turns on one connection."""
    tail_seconds: float | None = None
    """Where ``seconds`` is a median: the 99th percentile."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.seconds <= 0:
            raise ValueError(f"{self.count} items in {self.seconds} seconds: nothing was measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number that a measurement gives, and its unit."""

    unit: str
    of: Callable[[Measurement], float]


def _compared(measurement: Measurement) -> float:
    if measurement.compared_seconds is None:
        raise ValueError("this variant measures no comparison")
    return measurement.compared_seconds / measurement.count


def _tail(measurement: Measurement) -> float:
    if measurement.tail_seconds is None:
        raise ValueError("this variant measures no tail")
    return measurement.tail_seconds


MICROSECONDS: Final = Quantity(unit="µs", of=lambda m: m.seconds / m.count * 1e6)
MILLISECONDS: Final = Quantity(unit="ms", of=lambda m: m.seconds / m.count * 1e3)
COMPARED_MILLISECONDS: Final = Quantity(unit="ms", of=lambda m: _compared(m) * 1e3)
CPU_MICROSECONDS: Final = Quantity(unit="µs CPU", of=lambda m: m.cpu_seconds / m.count * 1e6)
TAIL_MILLISECONDS: Final = Quantity(unit="ms", of=lambda m: _tail(m) * 1e3)
RATE: Final = Quantity(unit="/s", of=lambda m: m.count / m.seconds)
PEAK_MEMORY: Final = Quantity(unit="MiB", of=lambda m: m.peak_bytes / 2**20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A quantity of a variant's measurement."""

    variant: str
    quantity: Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``Target(of="ratio", bound="≤", number=1.25)``: the ratio to the limit, or the measured value itself."""

    of: Literal["ratio", "measured"]
    bound: Literal["≤", "≥", "<"]
    number: float

    def is_met(self, *, measured: float, ratio: float | None) -> bool:
        """By the medians of all rounds."""
        value = ratio if self.of == "ratio" else measured
        if value is None:
            raise ValueError("a target for a ratio needs a limit")
        compare = {"≤": operator.le, "≥": operator.ge, "<": operator.lt}[self.bound]
        return bool(compare(value, self.number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row of the table: a reading, and the reading of what it is held against."""

    title: str
    measured: Reading
    limit: Reading | None = None
    limit_name: str = ""
    """What the limit is, in a few words."""
    targets: Mapping[str, Target] | None = None
    """By database; where there is none the row is for information."""

    def __post_init__(self) -> None:
        for target in (self.targets or {}).values():
            if target.of == "ratio" and self.limit is None:
                raise ValueError(f"{self.title}: a target for a ratio needs a limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Something that is measured, as often as ``rounds`` says; in each round every variant once, in this order."""

    name: str
    databases: tuple[str, ...]
    variants: Mapping[str, Callable[[Scale], Measurement]]
    """Each runs in a process of its own, with Django set up and the database prepared."""
    prepare: Callable[[Scale], None]
    """Runs untimed in the parent, on an empty database."""
    fresh: Literal["figure", "round"]
    """When the database is emptied and prepared: once, or before each round."""
    comparisons: tuple[Comparison, ...]
    rounds: int = 5
    needs: tuple[str, ...] = ()
    """Servers besides the database, of tests.servers.SERVICES. Where one is missing the figure is left out, aloud."""

    def __post_init__(self) -> None:
        for comparison in self.comparisons:
            for reading in filter(None, (comparison.measured, comparison.limit)):
                if reading.variant not in self.variants:
                    raise ValueError(f"{self.name}: no variant {reading.variant!r}")
