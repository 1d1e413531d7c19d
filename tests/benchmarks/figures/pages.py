"""Pages of 1,000 entries: far from the beginning of the log and at it, and filtered by a common and by a rare type."""

from __future__ import annotations

import statistics
import time

from django_eventstore import EventStore
from tests.benchmarks.definition import (
    COMPARED_MILLISECONDS,
    MILLISECONDS,
    Comparison,
    Figure,
    Measurement,
    Reading,
    Scale,
    Target,
)
from tests.benchmarks.entries import COMMON, RARE, begin_log, catch_up, load, settle
from tests.benchmarks.stopwatch import Stopwatch

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
LIMIT = 1_000
TIMES = 25


def _far(scale: Scale) -> int:
    return scale.of(1_000_000, quick=2_000)


def prepare(scale: Scale) -> None:
    begin_log()
    load(_far(scale) + 10 * LIMIT, transactions=10, mixed=True)
    catch_up()
    settle(scale.vendor)


def far_and_near(scale: Scale) -> Measurement:
    """In turns, so that whatever the machine does meanwhile falls on both."""
    offsets = (_far(scale), 0)
    taken: dict[int, list[float]] = {offset: [] for offset in offsets}
    for offset in offsets:
        _page(offset)
    with Stopwatch() as watch:
        for _ in range(TIMES):
            for offset in offsets:
                taken[offset].append(_page(offset))
    far, near = (statistics.median(taken[offset]) for offset in offsets)
    return Measurement(
        count=1,
        seconds=far,
        compared_seconds=near,
        cpu_seconds=watch.cpu_seconds / (2 * TIMES),
        peak_bytes=watch.peak_bytes,
    )


def common(scale: Scale) -> Measurement:
    return _filtered(COMMON, expected=min(LIMIT, (_far(scale) + 10 * LIMIT) // 20))


def rare(scale: Scale) -> Measurement:
    return _filtered(RARE, expected=min(LIMIT, (_far(scale) + 10 * LIMIT) // 10_000))


def _page(offset: int) -> float:
    """Seconds of one page that was as it must be."""
    began = time.perf_counter()
    page = EventStore().get(offset, LIMIT)
    seconds = time.perf_counter() - began
    if [entry.position for entry in page.entries] != list(range(offset + 1, offset + LIMIT + 1)):
        raise AssertionError(f"the page after {offset} holds other positions than the next {LIMIT}")
    return seconds


def _filtered(type_: str, *, expected: int) -> Measurement:
    taken = []
    EventStore().get(0, LIMIT, types=[type_])
    with Stopwatch() as watch:
        for _ in range(TIMES):
            began = time.perf_counter()
            page = EventStore().get(0, LIMIT, types=[type_])
            taken.append(time.perf_counter() - began)
            if len(page.entries) != expected:
                raise AssertionError(f"{len(page.entries)} entries of {type_} instead of {expected}")
    return Measurement(
        count=1, seconds=statistics.median(taken), cpu_seconds=watch.cpu_seconds / TIMES, peak_bytes=watch.peak_bytes
    )


NEAR = Reading(variant="far-and-near", quantity=COMPARED_MILLISECONDS)

FIGURE = Figure(
    name="get-1000",
    databases=EVERYWHERE,
    variants={"far-and-near": far_and_near, "common": common, "rare": rare},
    prepare=prepare,
    fresh="figure",
    comparisons=(
        Comparison(
            title="`get()` of 1,000 entries at position 1,000,000",
            measured=Reading(variant="far-and-near", quantity=MILLISECONDS),
            limit=NEAR,
            limit_name="at position 0",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≤", number=1.25)),
        ),
        Comparison(
            title="`get()` of 1,000 entries of a type that is 1 in 20",
            measured=Reading(variant="common", quantity=MILLISECONDS),
            limit=NEAR,
            limit_name="1,000 of any type",
        ),
        Comparison(
            title="`get()` of all 101 entries of a type that is 1 in 10,000",
            measured=Reading(variant="rare", quantity=MILLISECONDS),
            limit=NEAR,
            limit_name="1,000 of any type",
        ),
    ),
)
