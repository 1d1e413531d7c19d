"""Recording and delivering beside a transaction that has written and stays open: nothing behind it can be cleaned up."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta

from django.db import transaction

from django_eventstore import EventEntry, EventForwarder, handles, record
from tests.benchmarks.connections import commit_something, connect
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
from tests.benchmarks.entries import begin_log, order_shipped, settle
from tests.benchmarks.stopwatch import Stopwatch

CONSUMER = "benchmarks.beside-open"
AT_A_TIME = 5


def prepare(scale: Scale) -> None:
    begin_log()
    settle(scale.vendor)


def beside_open(scale: Scale) -> Measurement:
    """Ticks: five events recorded in one transaction, and delivered: the last tenth against the first."""
    alias, ticks = connect("open"), scale.of(3_000, quick=20)
    delivered = 0

    @handles("benchmarks.*", name=CONSUMER, transaction="batch", start="now")
    def count(event: dict[str, object]) -> None:
        nonlocal delivered
        delivered += 1

    forwarder = EventForwarder(CONSUMER)
    EventEntry.objects.first()
    taken = []
    with transaction.atomic(using=alias), Stopwatch() as watch:
        commit_something(alias)  # which it does not, yet
        for number in range(ticks + ticks // 10):
            began = time.perf_counter()
            _tick(forwarder, number)
            taken.append(time.perf_counter() - began)
    if delivered != len(taken) * AT_A_TIME:
        raise AssertionError(f"{delivered} of {len(taken) * AT_A_TIME} events were delivered")
    del taken[: ticks // 10]  # warm
    tenth = ticks // 10
    return Measurement(
        count=AT_A_TIME,
        seconds=statistics.median(taken[-tenth:]),
        compared_seconds=statistics.median(taken[:tenth]),
        cpu_seconds=watch.cpu_seconds / len(taken),
        peak_bytes=watch.peak_bytes,
    )


def _tick(forwarder: EventForwarder, number: int) -> None:
    with transaction.atomic():
        for place in range(AT_A_TIME):
            record(order_shipped(number * AT_A_TIME + place), stream=f"order-{place}")
    forwarder.get_and_send(longest=timedelta(hours=1))


FIGURE = Figure(
    name="beside-open-transaction",
    databases=("postgresql", "mariadb"),
    variants={"open": beside_open},
    prepare=prepare,
    fresh="round",
    comparisons=(
        Comparison(
            title="an event recorded and delivered, at the end of 3,000 ticks beside an open transaction that has written",
            measured=Reading(variant="open", quantity=MILLISECONDS),
            limit=Reading(variant="open", quantity=COMPARED_MILLISECONDS),
            limit_name="at their beginning",
            # A throughput of at least 0.9 of that at the start.
            targets={"postgresql": Target(of="ratio", bound="≤", number=1.11)},
        ),
    ),
    rounds=3,
)
