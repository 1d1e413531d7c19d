"""The sender of handlers passes the contract too; its receiver is a table of the log's database."""

from __future__ import annotations

import pytest

from django_eventstore import handles
from django_eventstore.consumers import declared_consumer
from django_eventstore.forwarding import make_sender
from django_eventstore.testing.contracts import Arrival, SenderContract
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)


class Refused(Exception):
    pass


class HandlerContract(SenderContract):
    many = 300
    scope = "event"

    @pytest.fixture(autouse=True)
    def _handler(self):
        self.seen = {}

        @handles("contract.*", name="contract", transaction=self.scope)
        def handle(event, entry):
            if event.get("bad"):
                raise Refused
            self.seen[entry.position] = Arrival(str(entry.event_id), entry.payload)
            Refund.objects.create(order_id=entry.position)

    def make_sender(self):
        return make_sender(declared_consumer("contract"))

    def arrivals(self, atleast):
        """By the rows: what was rolled back has not arrived."""
        return [self.seen[position] for position in Refund.objects.order_by("pk").values_list("order_id", flat=True)]

    def refusable(self, entry):
        entry.payload = '{"bad":true}'
        return entry

    def test_a_forked_worker_and_its_parent_do_not_disturb_each_other(self):
        pytest.skip("the connection is Django's, and closed by whoever forks")


class TestHandlerSender(HandlerContract):
    pass


class TestHandlerSenderByBatch(HandlerContract):
    scope = "batch"

    def test_a_lease_that_ends_meanwhile_ends_the_sending(self):
        pytest.skip("a batch is one transaction, which the database ends with the lease")
