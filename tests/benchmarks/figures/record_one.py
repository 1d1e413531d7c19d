"""One event recorded in a transaction with one UPDATE, against ``create()`` of the same row in its place."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from django_eventstore import EventEntry, handles, record
from django_eventstore.store.event_ids import uuid7
from tests.benchmarks.definition import (
    CPU_MICROSECONDS,
    MICROSECONDS,
    Comparison,
    Figure,
    Measurement,
    Reading,
    Scale,
    Target,
)
from tests.benchmarks.entries import OrderShipped, begin_log, counter_row, order_shipped, payload_of, settle
from tests.benchmarks.stopwatch import Stopwatch
from tests.shop.models import Counter


def prepare(scale: Scale) -> None:
    begin_log()
    settle(scale.vendor)


def recorded(scale: Scale) -> Measurement:
    # Somebody listens, so that commits send their wake-ups; to a broker in memory, since the network is not what is measured.
    Celery("benchmarks", broker="memory://").set_default()
    handles(OrderShipped, name="benchmarks.nobody")(lambda event: None)

    def change(counter: Counter, number: int) -> None:
        record(order_shipped(number), stream=counter)

    return _transactions(scale, change, entries=1)


def created(scale: Scale) -> Measurement:
    def change(counter: Counter, number: int) -> None:
        EventEntry.objects.create(
            event_id=uuid7(),
            type="benchmarks.OrderShipped",
            version=1,
            content_type="application/json",
            payload=payload_of(order_shipped(number)),
            stream=f"counter-{counter.pk}",
            metadata="{}",
            timestamp=timezone.now(),
        )

    return _transactions(scale, change, entries=1)


def bare(scale: Scale) -> Measurement:
    return _transactions(scale, lambda counter, number: None, entries=0)


def _transactions(scale: Scale, change: Callable[[Counter, int], None], *, entries: int) -> Measurement:
    count, warm = scale.of(1_000, quick=20), scale.of(100, quick=5)
    counter = counter_row()
    before = EventEntry.objects.count()

    def run(numbers: range) -> None:
        for number in numbers:
            with transaction.atomic():
                Counter.objects.filter(pk=counter.pk).update(value=F("value") + 1)
                change(counter, number)

    run(range(warm))
    with Stopwatch() as watch:
        run(range(count))
    if EventEntry.objects.count() - before != (count + warm) * entries:
        raise AssertionError("not every transaction left its entry")
    return watch.measurement(count)


EVERYWHERE = ("postgresql", "mariadb", "sqlite")

FIGURE = Figure(
    name="record-one",
    databases=EVERYWHERE,
    variants={"record": recorded, "create": created, "bare": bare},
    prepare=prepare,
    fresh="figure",
    rounds=9,
    comparisons=(
        Comparison(
            title="one event recorded in a transaction with one UPDATE",
            measured=Reading(variant="record", quantity=MICROSECONDS),
            limit=Reading(variant="create", quantity=MICROSECONDS),
            limit_name="`create()` of the same row in its place",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≤", number=1.25)),
        ),
        Comparison(
            title="the same: CPU time of the client",
            measured=Reading(variant="record", quantity=CPU_MICROSECONDS),
            limit=Reading(variant="create", quantity=CPU_MICROSECONDS),
            limit_name="`create()` of the same row in its place",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="<", number=1.0)),
        ),
        Comparison(
            title="the same: what an event adds",
            measured=Reading(variant="record", quantity=MICROSECONDS),
            limit=Reading(variant="bare", quantity=MICROSECONDS),
            limit_name="the transaction without an event",
        ),
    ),
)
