"""One stream of 10,000 whose events always fail: what it costs the others."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.db import connections, transaction

from django_eventstore import EventEntry, EventForwarder, handles
from django_eventstore.handlers import TransactionScope
from django_eventstore.models import FailedDelivery
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
from tests.benchmarks.entries import COMMON, begin_log, catch_up, settle
from tests.benchmarks.stopwatch import Stopwatch

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
POISON = "stream-7"


class Poisoned(Exception):
    """What the handler raises, each time, for this stream."""


def _streams(scale: Scale) -> int:
    return scale.of(10_000, quick=300)


def _entries(scale: Scale) -> int:
    return _streams(scale) * 10


def prepare(scale: Scale) -> None:
    begin_log()
    with transaction.atomic(), connections["default"].cursor() as cursor:
        streams = _streams(scale)
        for first in range(0, _entries(scale), 10_000):
            numbers = range(first, min(first + 10_000, _entries(scale)))
            cursor.executemany(
                "INSERT INTO eventstore_entry (type, version, content_type, payload, stream, metadata) "
                "VALUES (%s, 1, 'application/json', %s, %s, '{}')",
                [(COMMON, f'{{"n": {number}}}', f"stream-{number % streams}") for number in numbers],
            )
    catch_up()
    settle(scale.vendor)


def in_batches(scale: Scale) -> Measurement:
    return _in_turns(scale, "batch", count=_entries(scale), turn=scale.of(10_000, quick=1_000))


def event_by_event(scale: Scale) -> Measurement:
    return _in_turns(scale, "event", count=scale.of(5_000, quick=200), turn=scale.of(500, quick=100))


def _in_turns(scale: Scale, scope: TransactionScope, *, count: int, turn: int) -> Measurement:
    """A consumer with the poison and one without, alternately. The first event that fails is in the first turn."""
    logging.disable(logging.CRITICAL)  # a traceback for each failure is not what is measured
    healthy, poisoned = _consumer(scope, poison=""), _consumer(scope, poison=POISON)
    seconds, delivered = {healthy: 0.0, poisoned: 0.0}, {healthy: 0, poisoned: 0}
    EventEntry.objects.first()
    with Stopwatch() as watch:
        for _ in range(0, count, turn):
            for forwarder in (healthy, poisoned):
                began = time.perf_counter()
                delivered[forwarder] += forwarder.get_and_send(most_events=turn, longest=timedelta(hours=1)).delivered
                seconds[forwarder] += time.perf_counter() - began
    _require_one_failure(poisoned)
    if delivered[healthy] != count or delivered[poisoned] < count - _entries(scale) // _streams(scale):
        raise AssertionError(f"{delivered[healthy]} and {delivered[poisoned]} of {count} were delivered")
    return Measurement(
        count=count,
        seconds=seconds[poisoned] * count / delivered[poisoned],
        compared_seconds=seconds[healthy],
        cpu_seconds=watch.cpu_seconds,
        peak_bytes=watch.peak_bytes,
    )


def _require_one_failure(forwarder: EventForwarder) -> None:
    failed = FailedDelivery.objects.filter(consumer=forwarder.consumer.name).values_list("stream", flat=True)
    if list(failed) != [POISON]:
        raise AssertionError(f"the streams that failed are {list(failed)}")


def _consumer(scope: TransactionScope, *, poison: str) -> EventForwarder:
    name = f"benchmarks.{'poisoned' if poison else 'healthy'}.{scope}"

    @handles(COMMON, name=name, transaction=scope, start="beginning")
    def swallow(event: dict[str, int], entry: EventEntry) -> None:
        if entry.stream == poison:
            raise Poisoned(entry.stream)

    return EventForwarder(name)


def _comparison(scope: TransactionScope, events: str) -> Comparison:
    return Comparison(
        title=f'an event beside one poison stream in 10,000, `transaction="{scope}"`, {events} events',
        measured=Reading(variant=scope, quantity=MILLISECONDS),
        limit=Reading(variant=scope, quantity=COMPARED_MILLISECONDS),
        limit_name="without it",
        targets={"postgresql": Target(of="ratio", bound="≤", number=1.05)},
    )


FIGURE = Figure(
    name="poison-stream",
    databases=EVERYWHERE,
    variants={"batch": in_batches, "event": event_by_event},
    prepare=prepare,
    fresh="round",
    comparisons=(_comparison("batch", "100,000"), _comparison("event", "5,000")),
)
