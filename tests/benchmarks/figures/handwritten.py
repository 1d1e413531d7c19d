"""Draining held against a loop that is written by hand: a typed handler, and a sender that only counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django_eventstore import EventEntry, EventForwarder, EventSender, handles
from django_eventstore.consumers import Consumer
from django_eventstore.delivery import Batch, Outcome
from django_eventstore.events import decode, registry
from django_eventstore.store import log_state
from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import OrderShipped, begin_log, catch_up, load, settle
from tests.benchmarks.handwritten import BATCH, COLUMNS, read_by_hand
from tests.benchmarks.stopwatch import Stopwatch

EVERYWHERE = ("postgresql", "mariadb", "sqlite")


def _entries(scale: Scale) -> int:
    return scale.of(50_000, quick=300)


def prepare(scale: Scale) -> None:
    begin_log()
    load(_entries(scale), transactions=5)
    catch_up()
    settle(scale.vendor)


class CountingSender(EventSender):
    """Takes everything, and does nothing with it."""

    def __init__(self) -> None:
        self.count = 0

    def send(self, batch: Batch) -> Outcome:
        self.count += len(batch.entries)
        return Outcome(done=len(batch.entries))


def by_hand(scale: Scale) -> Measurement:
    """Rows, as a relay to a broker would need them."""
    seen = 0

    def count(row: Sequence[Any]) -> None:
        nonlocal seen
        seen += 1

    with Stopwatch() as watch:
        taken = read_by_hand(_entries(scale), count)
    return _checked(watch, scale, taken, seen)


def by_hand_typed(scale: Scale) -> Measurement:
    """The same with the payload decoded by the same codec."""
    definition = registry.by_class(OrderShipped)
    assert definition is not None
    version, payload = COLUMNS.index("version"), COLUMNS.index("payload")
    seen = 0

    def decoded(row: Sequence[Any]) -> None:
        nonlocal seen
        seen += isinstance(decode(definition, row[version], row[payload]), OrderShipped)

    with Stopwatch() as watch:
        taken = read_by_hand(_entries(scale), decoded)
    return _checked(watch, scale, taken, seen)


def handled(scale: Scale) -> Measurement:
    return _handled(scale, start=0)


def handled_and_sequenced(scale: Scale) -> Measurement:
    return _handled(scale, start=_load_more(scale))


def sent(scale: Scale) -> Measurement:
    return _sent(scale, start=0)


def sent_and_sequenced(scale: Scale) -> Measurement:
    return _sent(scale, start=_load_more(scale))


def _load_more(scale: Scale) -> int:
    """Commit as many again, which have no position yet; returns where they begin."""
    head = log_state("default").head
    load(_entries(scale), transactions=5)
    settle(scale.vendor)
    return head


def _handled(scale: Scale, *, start: int) -> Measurement:
    seen = 0

    @handles(OrderShipped, name=f"benchmarks.handled.{start}", transaction="batch", start=start)
    def count(event: OrderShipped) -> None:
        nonlocal seen
        seen += 1

    return _drained(scale, EventForwarder(f"benchmarks.handled.{start}"), lambda: seen)


def _sent(scale: Scale, *, start: int) -> Measurement:
    sender = CountingSender()
    consumer = Consumer(
        name=f"benchmarks.sent.{start}",
        events=("*",),
        sender=f"{CountingSender.__module__}.CountingSender",
        start=start,
        limit=BATCH,
    )
    return _drained(scale, EventForwarder(consumer, sender=sender), lambda: sender.count)


def _drained(scale: Scale, forwarder: EventForwarder, seen: Any) -> Measurement:
    EventEntry.objects.first()
    with Stopwatch() as watch:
        done = forwarder.get_and_send(most_events=_entries(scale), longest=timedelta(hours=1))
    return _checked(watch, scale, done.delivered, seen())


def _checked(watch: Stopwatch, scale: Scale, *counts: int) -> Measurement:
    if set(counts) != {_entries(scale)}:
        raise AssertionError(f"{counts} instead of {_entries(scale)} entries")
    return watch.measurement(_entries(scale))


def _comparison(title: str, measured: str, limit: str, ratio: float) -> Comparison:
    return Comparison(
        title=title,
        measured=Reading(variant=measured, quantity=RATE),
        limit=Reading(variant=limit, quantity=RATE),
        limit_name="a loop by hand" + (", decoding" if limit == "by-hand-typed" else ""),
        targets={"postgresql": Target(of="ratio", bound="≥", number=ratio)},
    )


FIGURE = Figure(
    name="drain-by-hand",
    databases=EVERYWHERE,
    variants={
        "by-hand": by_hand,
        "sent": sent,
        "by-hand-typed": by_hand_typed,
        "handled": handled,
        "sent-sequenced": sent_and_sequenced,
        "handled-sequenced": handled_and_sequenced,
    },
    prepare=prepare,
    fresh="round",
    comparisons=(
        _comparison('50,000 events to a typed handler, `transaction="batch"`', "handled", "by-hand-typed", 0.25),
        _comparison("50,000 events to a typed handler, sequencing included", "handled-sequenced", "by-hand-typed", 0.2),
        _comparison("50,000 events to a sender, raw", "sent", "by-hand", 0.35),
        _comparison("50,000 events to a sender, raw, sequencing included", "sent-sequenced", "by-hand", 0.28),
    ),
)
