"""The contract of senders, kept by KafkaSender: with a broker in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from django_eventstore.senders.kafka import KafkaSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.services.kafka import headers_of, tansu_ground

pytestmark = [pytest.mark.no_database, pytest.mark.needs("kafka-broker")]


class KafkaContract(SenderContract):
    patience = timedelta(seconds=12)
    many = 2_000
    options: dict[str, object] = {}

    @pytest.fixture(autouse=True)
    def _ground(self) -> Iterator[None]:
        with tansu_ground() as self.ground:
            yield

    def make_sender(self) -> KafkaSender:
        sender = self.ground.sender(max_bytes=3_000_000, **self.options)
        # Of the batch in whose middle the broker goes; else it has all the time.
        sender.timeout = sender.connect_timeout = timedelta(seconds=2)
        return sender

    def arrivals(self, atleast: int) -> list[Arrival]:
        return [
            Arrival(headers_of(message)["ce_id"], message.value().decode()) for message in self.ground.read(atleast)
        ]

    def refusable(self, entry: ContractEntry) -> ContractEntry:
        entry.payload = '{"text":"%s"}' % ("x" * 3_000_000)
        return entry

    def take_away(self) -> None:
        self.ground.proxy.cut()
        self.ground.hurry()

    def freeze(self) -> None:
        self.ground.proxy.freeze()
        self.ground.hurry()

    def bring_back(self) -> None:
        self.ground.proxy.open()
        self.ground.take_time()


class TestKafkaSender(KafkaContract):
    pass


class TestKafkaSenderWithTransactions(KafkaContract):
    options = {"transactional_id": "test-{consumer}-{partition}"}
    many = 300
    # What a message holds has nothing to do with transactions.
    test_any_text_arrives_as_it_is = None
    test_an_event_of_a_megabyte_arrives_between_small_ones = None
    test_many_events_arrive = None
    test_a_check_connects_to_nothing = None
