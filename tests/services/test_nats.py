"""NATSSender on a real NATS JetStream, through a proxy that cuts, freezes and loses answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from django_eventstore.senders.nats import NATSSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.services.jetstream import JetStream

pytestmark = [pytest.mark.no_database, pytest.mark.needs("nats")]


@pytest.fixture
def jetstream() -> Iterator[JetStream]:
    jetstream = JetStream()
    yield jetstream
    jetstream.close()


contract = SenderContract()


class NATSContract(SenderContract):
    patience = timedelta(seconds=12)
    options: dict[str, object] = {}

    @pytest.fixture(autouse=True)
    def _jetstream(self, jetstream: JetStream) -> None:
        self.jetstream = jetstream

    def make_sender(self) -> NATSSender:
        return self.jetstream.sender(**self.options)

    def arrivals(self, atleast: int) -> list[Arrival]:
        return [self.arrival(message) for message in self.jetstream.read(atleast)]

    def arrival(self, message: Any) -> Arrival:
        return Arrival(message.headers["ce-id"], message.data.decode())

    def refusable(self, entry: ContractEntry) -> ContractEntry:
        entry.type = "contract..Happened"  # no subject
        return entry

    def take_away(self) -> None:
        self.jetstream.proxy.cut()

    def freeze(self) -> None:
        self.jetstream.proxy.freeze()

    def bring_back(self) -> None:
        self.jetstream.proxy.open()


class TestNATSSender(NATSContract):
    pass


class TestNATSSenderWithStructuredEvents(NATSContract):
    options = {"format": "structured", "max_in_flight": 7}
    many = 300

    def arrival(self, message: Any) -> Arrival:
        # The data is the last member, byte for byte as it was recorded.
        body = message.data.decode()
        return Arrival(json.loads(body)["id"], body.partition(',"data":')[2][:-1])
