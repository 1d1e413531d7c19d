"""50,000 entries delivered to a typed handler that does nothing, sequencing included, by both kinds of transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.db import connections

from django_eventstore import EventEntry, EventForwarder, EventStore, OffsetStore, handles
from django_eventstore.events import decode, registry
from django_eventstore.handlers import TransactionScope
from tests.benchmarks.definition import PEAK_MEMORY, RATE, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import OrderShipped, begin_log, catch_up, counter_row, load, settle
from tests.benchmarks.stopwatch import Stopwatch
from tests.shop.models import Refund

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
CONSUMER = "benchmarks.nobody"
PAGE = 1_000


def _entries(scale: Scale) -> int:
    return scale.of(50_000, quick=300)


def prepare(scale: Scale) -> None:
    begin_log()
    load(_entries(scale), transactions=5)
    settle(scale.vendor)


def in_batches(scale: Scale) -> Measurement:
    return _drained(scale, "batch")


def event_by_event(scale: Scale) -> Measurement:
    return _drained(scale, "event")


def _drained(scale: Scale, transaction: TransactionScope) -> Measurement:
    @handles(OrderShipped, name=CONSUMER, transaction=transaction, start="beginning")
    def do_nothing(event: OrderShipped) -> None:
        pass

    forwarder = EventForwarder(CONSUMER)
    EventEntry.objects.first()
    with Stopwatch() as watch:
        done = forwarder.get_and_send(most_events=10**9, longest=timedelta(hours=1))
    progress = OffsetStore().load(CONSUMER)
    if done.delivered != _entries(scale) or progress is None or progress.offset != done.delivered:
        raise AssertionError(
            f"{done.delivered} events were delivered instead of {_entries(scale)}; stands at {progress}"
        )
    return watch.measurement(done.delivered)


def bare_reading(scale: Scale) -> Measurement:
    """The same entries, in the log already, read by a cursor in pages and decoded: no consumer, no entry objects."""
    definition = registry.by_class(OrderShipped)
    assert definition is not None
    count = _entries(scale)
    catch_up()
    EventStore().get(0, 1)
    decoded = 0
    with Stopwatch() as watch, connections["default"].cursor() as cursor:
        for offset in range(0, count, PAGE):
            cursor.execute(
                "SELECT e.* FROM eventstore_position p JOIN eventstore_entry e ON e.id = p.entry_id "
                "WHERE p.position > %s AND p.position <= %s ORDER BY p.position",
                [offset, offset + PAGE],
            )
            names = [column[0] for column in cursor.description]
            version, payload = names.index("version"), names.index("payload")
            for row in cursor.fetchall():
                decode(definition, row[version], row[payload])
                decoded += 1
    if decoded != count:
        raise AssertionError(f"{decoded} of {count} entries were read")
    return watch.measurement(count)


def bare_transactions(scale: Scale) -> Measurement:
    """BEGIN, an UPDATE, an INSERT, COMMIT, by a cursor."""
    begin: str = "BEGIN IMMEDIATE" if scale.vendor == "sqlite" else "BEGIN"
    counter, count = counter_row(), _entries(scale)

    def run(times: int) -> None:
        with connections["default"].cursor() as cursor:
            for number in range(times):
                cursor.execute(begin)
                cursor.execute("UPDATE shop_counter SET value = value + 1 WHERE id = %s", [counter.pk])
                cursor.execute("INSERT INTO shop_refund (order_id) VALUES (%s)", [number])
                cursor.execute("COMMIT")

    with Stopwatch() as watch:
        run(count)
    if Refund.objects.count() != count:
        raise AssertionError("not every transaction left its row")
    return watch.measurement(count)


def _figure(
    name: str, *, variants: dict[str, Callable[[Scale], Measurement]], comparisons: tuple[Comparison, ...]
) -> Figure:
    return Figure(
        name=name, databases=EVERYWHERE, variants=variants, prepare=prepare, fresh="round", comparisons=comparisons
    )


BATCH = _figure(
    "drain-batch",
    variants={"batch": in_batches, "reading": bare_reading},
    comparisons=(
        Comparison(
            title='draining 50,000 entries, `transaction="batch"`',
            measured=Reading(variant="batch", quantity=RATE),
            limit=Reading(variant="reading", quantity=RATE),
            limit_name="the same rows read and decoded",
            targets=dict.fromkeys(EVERYWHERE, Target(of="measured", bound="≥", number=20_000)),
        ),
        Comparison(
            title="the same: peak memory above the start",
            measured=Reading(variant="batch", quantity=PEAK_MEMORY),
            targets=dict.fromkeys(EVERYWHERE, Target(of="measured", bound="≤", number=20)),
        ),
    ),
)

EVENT = _figure(
    "drain-event",
    variants={"event": event_by_event, "bare": bare_transactions},
    comparisons=(
        Comparison(
            title='draining 50,000 entries, `transaction="event"`',
            measured=Reading(variant="event", quantity=RATE),
            limit=Reading(variant="bare", quantity=RATE),
            limit_name="BEGIN, UPDATE, INSERT, COMMIT",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≥", number=0.7)),
        ),
    ),
)
