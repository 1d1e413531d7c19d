"""What a publication makes of the errors of its link; the rest is tried on a real broker, in tests/services."""

from __future__ import annotations

from datetime import timedelta

import amqp
import pytest

from django_eventstore import Outcome
from django_eventstore.exceptions import PermanentError, Unavailable
from django_eventstore.senders.base import Receipts
from django_eventstore.senders.rabbitmq.frames import Message
from django_eventstore.senders.rabbitmq.publication import Publication, Ready
from django_eventstore.testing.contracts import SenderContract

pytestmark = pytest.mark.no_database

contract = SenderContract()


class FakeLink:
    """Confirms nothing, and raises what it is told to when it is waited on."""

    is_blocked = False

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.tag = 0
        self.distrusted = False

    def begin(self, confirms):
        self.confirms = confirms

    def publish(self, message, **way):
        self.tag += 1
        return self.tag

    def poll(self):
        pass

    def wait(self, seconds):
        if self.error is not None:
            raise self.error

    def distrust(self):
        self.distrusted = True


def ready(entry) -> Ready:
    message = Message(
        body=b"{}",
        content_type="application/json",
        headers={},
        message_id=str(entry.event_id),
        type=entry.type,
        timestamp=1,
    )
    return Ready(message, "orders", "a")


def publication(link, count, *, make=ready, silence=timedelta(0), streams=100, **options):
    batch = contract.batch(contract.entries(count, streams=streams), **options)
    receipts = Receipts(batch.entries)
    return receipts, Publication(
        link=link,
        batch=batch,
        receipts=receipts,
        make=make,
        mandatory=True,
        refuse_nacked=False,
        max_in_flight=10,
        per_stream=1,
        silence=silence,
        careful=False,
    )


def closed(code: int) -> amqp.exceptions.ChannelError:
    return amqp.exceptions.error_for_code(code, "because", (60, 40), amqp.exceptions.ChannelError)


@pytest.mark.parametrize("code", [311, 406])
def test_a_message_for_which_the_channel_was_closed_is_refused_when_it_is_the_only_one(code):
    link = FakeLink(closed(code))
    receipts, one = publication(link, 1)
    with pytest.raises(amqp.exceptions.ChannelError):
        one.run()
    outcome = receipts.outcome()
    assert (1, {1}, True) == (outcome.done, set(outcome.refused), link.distrusted)
    assert isinstance(outcome.refused[1], PermanentError)


@pytest.mark.parametrize("code, count", [(406, 2), (403, 1), (404, 1)])
def test_it_is_not_when_it_may_have_been_another_or_nothing_of_its_own(code, count):
    receipts, some = publication(FakeLink(closed(code)), count)
    with pytest.raises(amqp.exceptions.ChannelError):
        some.run()
    assert Outcome(done=0) == receipts.outcome()


def test_the_one_on_its_way_is_not_blamed_for_what_happens_before_the_next_is_published():
    def make(entry):
        if entry.position == 2:
            raise Unavailable("exchange of another kind")
        return ready(entry)

    receipts, two = publication(FakeLink(), 2, make=make)
    with pytest.raises(Unavailable):
        two.run()
    assert Outcome(done=0) == receipts.outcome()


def test_a_broker_that_has_blocked_the_connection_is_said_to():
    link = FakeLink()
    link.is_blocked = True
    _, some = publication(link, 3)
    with pytest.raises(Unavailable, match=r"3 messages are open\. It has said that it takes no messages"):
        some.run()
    assert link.distrusted


def test_no_more_are_on_their_way_than_may_be():
    link = FakeLink()
    _, many = publication(link, 50)
    with pytest.raises(Unavailable):
        many.run()
    assert 10 == link.tag
