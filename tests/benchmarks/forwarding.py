"""The whole way to a broker, as the figures of the senders measure it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django_eventstore import EventEntry, EventForwarder
from django_eventstore.consumers import Consumer
from tests.benchmarks.definition import Measurement, Scale
from tests.benchmarks.entries import begin_log, catch_up, load, settle
from tests.benchmarks.stopwatch import Stopwatch

__all__ = ["entries", "forwarded", "prepare"]


def entries(scale: Scale) -> int:
    return scale.of(20_000, quick=300)


def prepare(scale: Scale) -> None:
    begin_log()
    load(entries(scale), transactions=5)
    catch_up()
    settle(scale.vendor)


def forwarded(*, sender: str, options: Mapping[str, object], limit: int) -> Measurement:
    """Read from the log, written as CloudEvents, published, acknowledged, the offset saved."""
    consumer = Consumer(
        name=f"benchmarks-{limit}", events=("*",), sender=sender, options=dict(options), start="beginning", limit=limit
    )
    forwarder = EventForwarder(consumer)
    EventEntry.objects.first()
    with Stopwatch() as watch:
        done = forwarder.get_and_send(most_events=10**9, longest=timedelta(hours=1))
    forwarder.sender.close()
    return watch.measurement(done.delivered)
