"""The contract of senders, kept by KafkaSender with librdkafka's mock cluster and with a broker in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest

from django_eventstore.senders.kafka import KafkaSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.services.kafka import Ground, headers_of, mock_ground, tansu_ground

pytestmark = pytest.mark.no_database


class KafkaContract(SenderContract):
    patience = timedelta(seconds=12)
    many = 2_000

    def make_ground(self) -> AbstractContextManager[Ground]:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _ground(self) -> Iterator[None]:
        with self.make_ground() as self.ground:
            yield

    def make_sender(self) -> KafkaSender:
        return self.ground.sender(max_bytes=3_000_000)

    def arrivals(self, atleast: int) -> list[Arrival]:
        return [
            Arrival(headers_of(message)["ce_id"], message.value().decode()) for message in self.ground.read(atleast)
        ]

    def refusable(self, entry: ContractEntry) -> ContractEntry:
        entry.payload = '{"text":"%s"}' % ("x" * 3_000_000)
        return entry

    def take_away(self) -> None:
        self.ground.proxy.cut()

    def freeze(self) -> None:
        self.ground.proxy.freeze()

    def bring_back(self) -> None:
        self.ground.proxy.open()


@pytest.mark.needs("kafka-mock")
class TestKafkaSender(KafkaContract):
    def make_ground(self) -> AbstractContextManager[Ground]:
        return mock_ground()


@pytest.mark.needs("kafka-broker")
class TestKafkaSenderToABrokerOfItsOwnProcess(KafkaContract):
    def make_ground(self) -> AbstractContextManager[Ground]:
        return tansu_ground()
