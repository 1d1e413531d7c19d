"""20,000 events in one transaction, against ``bulk_create`` of the same rows."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from django_eventstore import EventEntry, record
from django_eventstore.store.event_ids import uuid7
from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import OrderShipped, begin_log, order_shipped, payload_of, settle
from tests.benchmarks.stopwatch import Stopwatch

STREAM = "bulk"


def prepare(scale: Scale) -> None:
    begin_log()
    settle(scale.vendor)


def recorded(scale: Scale) -> Measurement:
    return _in_one_transaction(scale, lambda events: record(*events, stream=STREAM))


def bulk_created(scale: Scale) -> Measurement:
    def create(events: list[OrderShipped]) -> None:
        now = timezone.now()
        EventEntry.objects.bulk_create(
            [
                EventEntry(
                    event_id=uuid7(),
                    type="benchmarks.OrderShipped",
                    version=1,
                    content_type="application/json",
                    payload=payload_of(event),
                    stream=STREAM,
                    metadata="{}",
                    timestamp=now,
                )
                for event in events
            ]
        )

    return _in_one_transaction(scale, create)


def _in_one_transaction(scale: Scale, store: Callable[[list[OrderShipped]], object]) -> Measurement:
    count, warm = scale.of(20_000, quick=200), 100
    before = EventEntry.objects.count()

    def run(events: list[OrderShipped]) -> None:
        with transaction.atomic():
            store(events)

    run([order_shipped(number) for number in range(warm)])
    events = [order_shipped(number) for number in range(count)]
    with Stopwatch() as watch:
        run(events)
    if EventEntry.objects.count() - before != count + warm:
        raise AssertionError("not every event was stored")
    return watch.measurement(count)


FIGURE = Figure(
    name="bulk-20k",
    databases=("postgresql", "mariadb", "sqlite"),
    variants={"record": recorded, "bulk-create": bulk_created},
    prepare=prepare,
    fresh="figure",
    comparisons=(
        Comparison(
            title="20,000 events in one transaction",
            measured=Reading(variant="record", quantity=RATE),
            limit=Reading(variant="bulk-create", quantity=RATE),
            limit_name="`bulk_create` of the same rows",
            targets={
                "postgresql": Target(of="ratio", bound="≥", number=5),
                "mariadb": Target(of="ratio", bound="≥", number=1.5),
                "sqlite": Target(of="ratio", bound="≥", number=1.5),
            },
        ),
    ),
)
