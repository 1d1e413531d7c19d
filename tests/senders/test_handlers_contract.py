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

    # The receiver is the log's own database, which cannot be taken away from under one sender of the process.
    test_a_receiver_that_is_not_there_is_an_error_and_no_event_is_blamed = None
    test_a_receiver_that_goes_in_the_middle_is_claimed_to_have_no_more_than_it_has = None
    test_a_receiver_that_freezes_in_the_middle_ends_as_an_error_and_not_as_a_hang = None
    test_a_receiver_that_is_frozen_from_the_start_is_an_error = None
    test_after_a_receiver_was_gone_between_two_batches_the_second_arrives = None
    test_a_check_connects_to_nothing = None
    # The connection is Django's, and closed by whoever forks.
    test_a_forked_worker_and_its_parent_do_not_disturb_each_other = None


class TestHandlerSender(HandlerContract):
    pass


class TestHandlerSenderByBatch(HandlerContract):
    scope = "batch"

    # A batch is one transaction, which the database ends with the lease.
    test_a_lease_that_ends_meanwhile_ends_the_sending = None
