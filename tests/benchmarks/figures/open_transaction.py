"""Recording and delivering beside a transaction that has written and stays open: nothing behind it can be cleaned up."""

from __future__ import annotations

import statistics
import time
from datetime import timedelta

from django.db import transaction

from django_eventstore import EventEntry, EventForwarder, handles, record
from tests.benchmarks.connections import calm_database, commit_something, connect
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
    """Ticks in turns here, beside the open transaction, and in another database of the server, where there is none.

    What can be cleaned up is a matter of each database. Of both the last tenth is compared, so that a machine that gets
    slower meanwhile says nothing.
    """
    ticks, delivered = scale.of(3_000, quick=20), 0

    @handles("benchmarks.*", name=CONSUMER, transaction="batch", start="now")
    def count(event: dict[str, object]) -> None:
        nonlocal delivered
        delivered += 1

    with calm_database("calm") as calm:
        forwarders = {alias: EventForwarder(CONSUMER, using=alias) for alias in ("default", calm)}
        taken: dict[str, list[float]] = {alias: [] for alias in forwarders}
        EventEntry.objects.first()
        alias = connect("open")
        with transaction.atomic(using=alias), Stopwatch() as watch:
            commit_something(alias)  # which it does not, yet
            for number in range(ticks):
                for using, forwarder in forwarders.items():
                    began = time.perf_counter()
                    _tick(forwarder, number)
                    taken[using].append(time.perf_counter() - began)
    if delivered != 2 * ticks * AT_A_TIME:
        raise AssertionError(f"{delivered} of {2 * ticks * AT_A_TIME} events were delivered")
    beside, by_itself = (statistics.median(seconds[-max(1, ticks // 10) :]) for seconds in taken.values())
    return Measurement(
        count=AT_A_TIME,
        seconds=beside,
        compared_seconds=by_itself,
        cpu_seconds=watch.cpu_seconds / ticks / 2,
        peak_bytes=watch.peak_bytes,
    )


def _tick(forwarder: EventForwarder, number: int) -> None:
    with transaction.atomic(using=forwarder.using):
        for place in range(AT_A_TIME):
            record(order_shipped(number * AT_A_TIME + place), stream=f"order-{place}", using=forwarder.using)
    forwarder.get_and_send(longest=timedelta(hours=1))


FIGURE = Figure(
    name="beside-open-transaction",
    # MariaDB cleans up for all databases of a server together: there is none to compare with.
    databases=("postgresql",),
    variants={"open": beside_open},
    prepare=prepare,
    fresh="round",
    comparisons=(
        Comparison(
            title="an event recorded and delivered, at the end of 3,000 ticks beside an open transaction that has written",
            measured=Reading(variant="open", quantity=MILLISECONDS),
            limit=Reading(variant="open", quantity=COMPARED_MILLISECONDS),
            limit_name="the same without one",
            # A throughput of at least 0.9.
            targets={"postgresql": Target(of="ratio", bound="≤", number=1.11)},
        ),
    ),
    rounds=3,
)
