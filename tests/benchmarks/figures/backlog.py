"""What waits costs nothing: a long backlog and a short one drained in turns, and the memory of draining the long one."""

from __future__ import annotations

import time
from datetime import timedelta

from django_eventstore import EventEntry, EventForwarder, handles
from tests.benchmarks.definition import (
    COMPARED_MILLISECONDS,
    MILLISECONDS,
    PEAK_MEMORY,
    Comparison,
    Figure,
    Measurement,
    Reading,
    Scale,
    Target,
)
from tests.benchmarks.entries import OrderShipped, begin_log, catch_up, load, settle
from tests.benchmarks.stopwatch import Stopwatch

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
BATCH = 1_000
"""What the forwarder takes at a time; a run ends with the batch in which it reaches its bound."""


def _long(scale: Scale) -> int:
    return scale.of(500_000, quick=4_000)


def _short(scale: Scale) -> int:
    return scale.of(50_000, quick=2_000)


def prepare(scale: Scale) -> None:
    begin_log()
    load(_long(scale), transactions=50)
    catch_up()
    settle(scale.vendor)


def in_turns(scale: Scale) -> Measurement:
    """A consumer with everything before it and one with the last tenth, alternately a few thousand events each."""
    count, turn = _short(scale), scale.of(5_000, quick=BATCH)
    long, short = _consumer("turns.long", start=0), _consumer("turns.short", start=_long(scale) - count)
    seconds = {"long": 0.0, "short": 0.0}
    EventEntry.objects.first()
    with Stopwatch() as watch:
        for _ in range(0, count, turn):
            seconds["long"] += _deliver(long, turn)
            seconds["short"] += _deliver(short, turn)
    return Measurement(
        count=count,
        seconds=seconds["long"],
        compared_seconds=seconds["short"],
        cpu_seconds=watch.cpu_seconds,
        peak_bytes=watch.peak_bytes,
    )


def all_of_it(scale: Scale) -> Measurement:
    """Memory counts from here, where the process has imported and has not asked the database for anything."""
    count = _long(scale)
    with Stopwatch() as watch:
        _deliver(_consumer("all", start=0), count)
    return watch.measurement(count)


def _consumer(name: str, *, start: int) -> EventForwarder:
    @handles(OrderShipped, name=f"benchmarks.backlog.{name}", transaction="batch", start=start)
    def do_nothing(event: OrderShipped) -> None:
        pass

    return EventForwarder(f"benchmarks.backlog.{name}")


def _deliver(forwarder: EventForwarder, count: int) -> float:
    began = time.perf_counter()
    done = forwarder.get_and_send(most_events=count, longest=timedelta(hours=1))
    if done.delivered != count:
        raise AssertionError(f"{done.delivered} events were delivered instead of {count}")
    return time.perf_counter() - began


FIGURE = Figure(
    name="backlog",
    databases=EVERYWHERE,
    variants={"turns": in_turns, "all": all_of_it},
    prepare=prepare,
    fresh="round",
    comparisons=(
        Comparison(
            title="an event when 500,000 wait",
            measured=Reading(variant="turns", quantity=MILLISECONDS),
            limit=Reading(variant="turns", quantity=COMPARED_MILLISECONDS),
            limit_name="when 50,000 wait",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≤", number=1.15)),
        ),
        Comparison(
            title="draining all 500,000: peak memory above import",
            measured=Reading(variant="all", quantity=PEAK_MEMORY),
            targets=dict.fromkeys(EVERYWHERE, Target(of="measured", bound="<", number=80)),
        ),
    ),
    rounds=3,
)
