"""What a sender has to do besides batches, in each tick."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from django_eventstore import Batch, EventSender, Outcome
from django_eventstore.consumers import pause, resume
from django_eventstore.forwarding import forward_all
from tests.delivery import forwarder_of, numbers_of, record_numbers, retry_now, state_of

pytestmark = pytest.mark.django_db(transaction=True)

CALLS: list[tuple[str, object]] = []


class Tending(EventSender):
    """Writes down what is asked of it. ``broken``: it cannot tend."""

    broken = False

    def send(self, batch: Batch) -> Outcome:
        CALLS.append(("send", numbers_of(batch.entries)))
        return Outcome(done=len(batch.entries))

    def tend(self, consumer: str, *, events: Sequence[str], using: str) -> None:
        CALLS.append(("tend", (consumer, tuple(events), using)))
        if self.broken:
            raise RuntimeError("nothing can be tended")


class Broken(Tending):
    broken = True


@pytest.fixture(autouse=True)
def _no_calls(settings):
    CALLS.clear()
    path = "tests.forwarding.test_tending."
    settings.EVENTSTORE = {
        "CREATE_BEAT_SCHEDULE": False,
        "RETRY_BASE": timedelta(days=100),  # a wait is drawn from nothing on
        "RETRY_CAP": timedelta(days=100),
        "CONSUMERS": {
            "broken": {"SENDER": path + "Broken", "EVENTS": ["test.*"], "START": "beginning"},
            "numbers": {"SENDER": path + "Tending", "EVENTS": ["test.Counted"], "START": "beginning"},
        },
    }


TENDED = ("tend", ("numbers", ("test.Counted",), "default"))


def test_a_sender_tends_in_each_tick_also_when_no_event_comes():
    for keep in (False, False, True, True, True):
        forward_all(consumers=["numbers"], keep=keep)
    assert [TENDED] * 5 == CALLS


def test_a_sender_tends_before_its_batches():
    record_numbers(1)
    forwarder_of(Tending(), events=("test.Counted",)).get_and_send()
    assert [TENDED, ("send", [1])] == CALLS


def test_a_sender_does_not_tend_while_its_consumer_is_paused():
    forward_all(consumers=["numbers"])
    pause("numbers", reason="", using="default")
    forward_all(consumers=["numbers"])
    forwarder_of(Tending()).get_and_send()
    assert [TENDED] == CALLS
    resume("numbers", using="default")
    forward_all(consumers=["numbers"])
    assert [TENDED] * 2 == CALLS


def test_one_that_cannot_tend_waits_and_the_others_go_on():
    record_numbers(1)
    forward_all()
    assert ("send", [1]) == CALLS[-1]
    assert "nothing can be tended" in state_of("broken").error
    assert 1 == sum(call == "send" for call, _ in CALLS)
    forward_all(consumers=["broken"])
    assert 1 == sum(call == ("tend", ("broken", ("test.*",), "default")) for call in CALLS)  # it waits
    retry_now("broken")
    forwarder_of(Broken(), name="broken").get_and_send()
    assert 2 == state_of("broken").attempts
