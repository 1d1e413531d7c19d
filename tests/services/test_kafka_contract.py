"""The contract of senders, kept by KafkaSender: with a broker in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from django_eventstore.senders.kafka import KafkaSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.services.kafka import LONG, headers_of, tansu_ground

pytestmark = [pytest.mark.no_database, pytest.mark.needs("kafka-broker")]


class KafkaContract(SenderContract):
    patience = timedelta(seconds=12)
    many = 2_000
    options: dict[str, object] = {}

    @pytest.fixture(autouse=True)
    def _ground(self, request: pytest.FixtureRequest) -> Iterator[None]:
        # What is on its way when the broker goes is to be given up soon. All else has all the time.
        self.timeout = timedelta(seconds=1) if "in_the_middle_" in request.node.name else LONG
        with tansu_ground() as self.ground:
            yield

    def make_sender(self) -> KafkaSender:
        return self.ground.sender(
            max_bytes=3_000_000, timeout=self.timeout, connect_timeout=self.timeout, **self.options
        )

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
    # What a message holds, and how many there are, has nothing to do with transactions.
    test_what_is_accepted_has_arrived_once_and_as_it_was_recorded = None
    test_each_stream_arrives_in_its_order = None
    test_a_lease_that_is_over_sends_nothing = None
    test_any_text_arrives_as_it_is = None
    test_an_event_of_a_megabyte_arrives_between_small_ones = None
    test_many_events_arrive = None
    test_a_check_connects_to_nothing = None
