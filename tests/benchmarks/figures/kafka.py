"""20,000 entries of the log to a topic of a Kafka-compatible broker, every one reported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django_eventstore import EventEntry, EventForwarder, EventStore
from django_eventstore.consumers import Consumer
from django_eventstore.delivery import Batch
from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import begin_log, catch_up, load, settle
from tests.benchmarks.stopwatch import Stopwatch

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
TOPIC = "eventstore-benchmarks"
PARTITIONS = 4
LIMIT = 5_000


def _entries(scale: Scale) -> int:
    return scale.of(20_000, quick=300)


def prepare(scale: Scale) -> None:
    begin_log()
    load(_entries(scale), transactions=5)
    catch_up()
    settle(scale.vendor)


def forwarded(scale: Scale) -> Measurement:
    """The whole way: read from the log, written as CloudEvents, produced, reported, the offset saved."""
    with _topic() as topic:
        consumer = Consumer(
            name="benchmarks",
            events=("*",),
            sender="django_eventstore.senders.kafka.KafkaSender",
            options=topic.options,
            start="beginning",
            limit=LIMIT,
        )
        forwarder = EventForwarder(consumer)
        _warm_up(forwarder.sender)
        EventEntry.objects.first()
        with Stopwatch() as watch:
            done = forwarder.get_and_send(most_events=10**9, longest=timedelta(hours=1))
        forwarder.sender.close()
        topic.require(done.delivered, _entries(scale))
    return watch.measurement(done.delivered)


def sender_alone(scale: Scale) -> Measurement:
    """The sender, of entries that are read already: written as CloudEvents, produced, reported."""
    from django_eventstore.senders.kafka import KafkaSender

    with _topic() as topic:
        sender = KafkaSender(**topic.options)
        _warm_up(sender)
        batches = [_batch(entries) for entries in _pages(scale)]
        with Stopwatch() as watch:
            done = sum(sender.send(batch).done for batch in batches)
        sender.close()
        topic.require(done, _entries(scale))
    return watch.measurement(done)


def bare_producer(scale: Scale) -> Measurement:
    """By confluent-kafka alone: each entry written by the same writer, produce(), flush() per batch, a report each."""
    return _bare(scale, made_before=False)


def bare_producer_of_made_messages(scale: Scale) -> Measurement:
    """The same with all messages made beforehand: what the client costs."""
    return _bare(scale, made_before=True)


def _bare(scale: Scale, *, made_before: bool) -> Measurement:
    from confluent_kafka import Producer

    from django_eventstore.senders.kafka import KafkaSender

    with _topic() as topic:
        sender = KafkaSender(**topic.options)
        batches = [_batch(entries) for entries in _pages(scale)]
        make = sender._maker(sender.format.writer(log=batches[0].log, epoch=batches[0].epoch))
        made = [[make(entry) for entry in batch.entries] for batch in batches] if made_before else []
        producer = Producer({"bootstrap.servers": topic.url, "acks": "all", "enable.idempotence": True, "log_level": 0})
        reported, failed = 0, []

        def report(error: object, message: object) -> None:
            nonlocal reported
            reported += 1
            if error is not None:
                failed.append(error)

        producer.produce(TOPIC, b"{}", on_delivery=report)
        producer.flush(30)
        with Stopwatch() as watch:
            for messages in made or (map(make, batch.entries) for batch in batches):
                for number, message in enumerate(messages):
                    producer.produce(
                        message.topic, message.value, message.key, headers=message.headers, on_delivery=report
                    )
                    if number % 100 == 0:
                        producer.poll(0)
                producer.flush(30)
        if failed:
            raise AssertionError(failed[0])
        topic.require(reported - 1, _entries(scale))
    return watch.measurement(reported - 1)


def _pages(scale: Scale) -> Iterator[list[EventEntry]]:
    offset = 0
    while entries := EventStore().get(offset=offset, limit=LIMIT).entries:
        yield list(entries)
        offset += len(entries)


def _batch(entries: list[EventEntry]) -> Batch:
    page = EventStore().get(limit=1)

    def nothing(*arguments: object) -> Any:
        raise AssertionError("a sender to the outside calls none of these")

    return Batch(
        consumer="benchmarks",
        entries=entries,
        log=page.log,
        epoch=page.epoch,
        using="default",
        advance=nothing,
        is_saved=nothing,
        begin=nothing,
        still_held=lambda: True,
    )


def _warm_up(sender: Any) -> None:
    """The connection and the producer's id, which librdkafka takes half a second over, are there once per process."""
    [entry] = EventStore().get(limit=1).entries
    if sender.send(_batch([entry])).done != 1:
        raise AssertionError("the broker did not take the first event")


class _Topic:
    """A topic of four partitions on a broker of this measurement alone, with one message before those that count."""

    def __init__(self, broker: Any) -> None:
        self.url: str = broker.straight
        self.options: dict[str, object] = {"topic": TOPIC, "url": self.url}

    def require(self, claimed: int, expected: int) -> None:
        """As many are claimed as there are, and as many are there."""
        from tests.servers.kafka import Reader

        reader = Reader(self.url, TOPIC, partitions=PARTITIONS)
        found = len(reader.read(expected + 1)) - 1
        reader.close()
        if (claimed, found) != (expected, expected):
            raise AssertionError(f"{claimed} of {expected} were claimed, and {found} are in the topic")


@contextmanager
def _topic() -> Iterator[_Topic]:
    from tests.servers.kafka import TansuBroker

    with tempfile.TemporaryDirectory(prefix="eventstore-") as directory:
        broker = TansuBroker(Path(directory) / "tansu", proxied=False).start()
        try:
            broker.create(TOPIC, partitions=PARTITIONS)
            yield _Topic(broker)
        finally:
            broker.delete()


VARIANTS: dict[str, Callable[[Scale], Measurement]] = {
    "alone": sender_alone,
    "bare": bare_producer,
    "made": bare_producer_of_made_messages,
    "forwarded": forwarded,
}
BARE = Reading(variant="bare", quantity=RATE)
BARE_NAME = "the same events by a bare producer, produce and flush"

FIGURE = Figure(
    name="kafka",
    databases=EVERYWHERE,
    variants=VARIANTS,
    prepare=prepare,
    fresh="round",
    needs=("kafka-broker",),
    comparisons=(
        Comparison(
            title="20,000 entries in hand by the Kafka sender, batches of 5,000",
            measured=Reading(variant="alone", quantity=RATE),
            limit=BARE,
            limit_name=BARE_NAME,
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≥", number=0.7)),
        ),
        Comparison(
            title="the same, against messages that are made",
            measured=Reading(variant="alone", quantity=RATE),
            limit=Reading(variant="made", quantity=RATE),
            limit_name="a bare producer of messages made beforehand",
        ),
        Comparison(
            title="20,000 entries of the log to Kafka, `LIMIT` 5,000",
            measured=Reading(variant="forwarded", quantity=RATE),
            limit=BARE,
            limit_name=BARE_NAME,
        ),
    ),
)
