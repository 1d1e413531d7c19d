"""A Kafka of one test's own, with a topic, and what was produced to it."""

from __future__ import annotations

import ssl
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django_eventstore.delivery import DeliveredEntry
from django_eventstore.exceptions import Unavailable
from django_eventstore.senders.kafka import KafkaSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.servers.kafka import MockKafka, Reader, TansuBroker

contract = SenderContract()
LONG = timedelta(seconds=15)
SHORT = timedelta(seconds=0.5)


class Ground:
    """A topic of one partition on this cluster, senders to it, and readers of it."""

    def __init__(self, kafka: MockKafka | TansuBroker) -> None:
        self.kafka = kafka
        self.proxy = kafka.proxy
        self.topic = self.create()
        self.senders: list[KafkaSender] = []
        self._readers: dict[str, Reader] = {}

    def create(self, *, partitions: int = 1) -> str:
        name = f"eventstore-test-{uuid.uuid4().hex}"
        self.kafka.create(name, partitions=partitions)
        return name

    def sender(self, **options: Any) -> KafkaSender:
        defaults = {"topic": self.topic, "url": self.kafka.url, "timeout": LONG, "connect_timeout": LONG}
        self.senders.append(KafkaSender(**{**defaults, **options}))
        return self.senders[-1]

    def hurry(self) -> None:
        """Let the senders give up soon: what comes now is to fail, and was not to fail by being slow before."""
        for sender in self.senders:
            sender.timeout = sender.connect_timeout = SHORT

    def take_time(self) -> None:
        """Undo ``hurry``."""
        for sender in self.senders:
            sender.timeout = sender.connect_timeout = LONG

    def read(
        self, atleast: int, topic: str | None = None, *, partitions: int = 1, config: Mapping[str, object] | None = None
    ) -> list[Any]:
        """All that the topic has had so far. ``config``: what else librdkafka needs to be told."""
        name = topic or self.topic
        if name not in self._readers:
            self._readers[name] = Reader(self.kafka.url, name, partitions=partitions, config=config)
        return self._readers[name].read(atleast)

    def close(self) -> None:
        self.proxy.open()
        for sender in self.senders:
            sender.close()
        for reader in self._readers.values():
            reader.close()


@contextmanager
def mock_ground(*, tls: ssl.SSLContext | None = None) -> Iterator[Ground]:
    kafka = MockKafka(tls=tls)
    ground = Ground(kafka)
    try:
        yield ground
    finally:
        ground.close()
        kafka.close()


@contextmanager
def tansu_ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="eventstore-") as directory:
        kafka = TansuBroker(Path(directory) / "tansu").start()
        ground = Ground(kafka)
        try:
            yield ground
        finally:
            ground.close()
            kafka.delete()


def headers_of(message: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers() or []}


def ids(messages: Iterable[Any]) -> list[str]:
    return [headers_of(message)["ce_id"] for message in messages]


def wanted(entries: Iterable[DeliveredEntry]) -> list[str]:
    return [str(entry.event_id) for entry in entries]


def kafka_of(ground: Ground) -> MockKafka:
    assert isinstance(ground.kafka, MockKafka)
    return ground.kafka


def deliver(sender: KafkaSender, entries: list[ContractEntry]) -> dict[int | None, BaseException]:
    """As the loop does it: what was not claimed comes again. Returns what was refused."""
    refused: dict[int | None, BaseException] = {}
    done, deadline = 0, time.monotonic() + 60
    while done < len(entries):
        assert time.monotonic() < deadline
        try:
            outcome = sender.send(contract.batch(entries[done:]))
        except Unavailable:
            continue
        refused.update(outcome.refused)
        done += outcome.done
    return refused


def in_order(entries: list[ContractEntry], messages: list[Any]) -> None:
    contract.first_come_in_order(entries, [Arrival(name, "") for name in ids(messages)])
