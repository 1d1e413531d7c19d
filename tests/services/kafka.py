"""A Kafka of one test's own, with a topic, and what was produced to it."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django_eventstore.delivery import DeliveredEntry
from django_eventstore.senders.kafka import KafkaSender
from tests.servers.kafka import MockKafka, Reader, TansuBroker

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

    def read(self, atleast: int, topic: str | None = None, *, partitions: int = 1, **config: object) -> list[Any]:
        """All that the topic has had so far."""
        name = topic or self.topic
        if name not in self._readers:
            self._readers[name] = Reader(self.kafka.url, name, partitions=partitions, **config)
        return self._readers[name].read(atleast)

    def close(self) -> None:
        self.proxy.open()
        for sender in self.senders:
            sender.close()
        for reader in self._readers.values():
            reader.close()


@contextmanager
def mock_ground() -> Iterator[Ground]:
    kafka = MockKafka()
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
