"""A batch on its way to Kafka, with a link that answers by a script: the order of reports is nobody's to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import pytest

pytest.importorskip("confluent_kafka")
from confluent_kafka import KafkaError, KafkaException

from django_eventstore import Outcome
from django_eventstore.exceptions import LeaseLost, PermanentError, Unavailable
from django_eventstore.senders.base import Receipts
from django_eventstore.senders.kafka.publication import Publication, Ready
from django_eventstore.senders.kafka.transaction import Transaction
from django_eventstore.senders.kafka.verdicts import Fenced
from django_eventstore.testing.contracts import SenderContract

pytestmark = pytest.mark.no_database

contract = SenderContract()
DELIVERED = None
FENCED = KafkaError(KafkaError.PRODUCER_FENCED)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
PURGED = KafkaError(KafkaError._PURGE_QUEUE)
FORBIDDEN = KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED)

Heard = list[tuple[int, KafkaError | None]]


class ScriptedLink:
    """Answers what was produced: with each look the next piece of the script; all is delivered when that is over."""

    is_down = False
    is_fenced = False
    trouble = ""

    def __init__(self, *script: Heard | Exception) -> None:
        self._script = list(script)
        self._heard: Heard = []
        self.open: list[int] = []
        self.done: list[str] = []
        self.error: Exception | None = None
        """What ``produce()`` raises."""

    def begin(self) -> None:
        self._heard = []

    def look_for(self, topic: str) -> None:
        pass

    def produce(self, number: int, *message: object) -> None:
        if self.error is not None:
            raise self.error
        self.open.append(number)

    def poll(self, seconds: float, *, all: bool = False) -> None:
        if not self.open:
            return
        piece = self._script.pop(0) if self._script else [(number, DELIVERED) for number in self.open]
        if isinstance(piece, Exception):
            raise piece
        self._heard += piece
        self.open = [number for number in self.open if number not in dict(piece)]

    def answers(self) -> Heard:
        heard, self._heard = self._heard, []
        return heard

    def hear_out(self, seconds: float) -> None:
        while self.open and self._script:
            self.poll(0)

    def drop(self) -> None:
        self.done.append("drop")
        self._heard += [(number, PURGED) for number in self.open]
        self.open = []

    def begin_transaction(self) -> None:
        self.done.append("begin")

    def commit_transaction(self, seconds: float) -> None:
        self.done.append("commit")

    def abort_transaction(self, seconds: float) -> None:
        self.done.append("abort")
        self.open = []


def publication(
    cls: type[Publication], link: ScriptedLink, *, count: int = 4, streams: int = 4, one_by_one: bool = True
) -> Publication:
    entries = contract.entries(count, streams=streams)
    return cls(
        link=link,  # type: ignore[arg-type]
        batch=contract.batch(entries),
        receipts=Receipts(entries),
        make=lambda entry: Ready("orders", entry.stream, b"{}", {}),
        constant=True,
        max_in_flight=100,
        silence=timedelta(seconds=1),
        connect=timedelta(seconds=1),
        careful=False,
        one_by_one=one_by_one,
    )


def without_what_is_refused(link: ScriptedLink, on_its_way: Publication) -> Outcome:
    """As the sender does it, which takes another link each time."""
    while not on_its_way.run():
        assert "drop" == link.done[-1]
        on_its_way = dataclasses.replace(on_its_way)
    return on_its_way.receipts.outcome()


def refused(outcome: Outcome) -> Sequence[int]:
    return list(outcome.refused)


def test_what_is_delivered_is_accepted_up_to_the_first_gap():
    link = ScriptedLink([(0, DELIVERED), (1, DELIVERED), (3, DELIVERED)], [(2, FORBIDDEN)])
    on_its_way = publication(Publication, link)
    with pytest.raises(Unavailable, match="authorization"):
        on_its_way.run()
    assert Outcome(done=2) == on_its_way.receipts.outcome()
    assert ["drop"] == link.done


@pytest.mark.parametrize("cls", [Publication, Transaction])
def test_what_stopped_the_producer_is_raised_also_when_what_it_stopped_is_heard_first(cls):
    link = ScriptedLink([(1, PURGED), (2, PURGED)], [(3, PURGED), (0, FORBIDDEN)])
    with pytest.raises(Unavailable, match="authorization"):
        publication(cls, link).run()
    # Those who read committed messages would wait behind a transaction that is left open.
    assert link.done == (["drop"] if cls is Publication else ["begin", "drop", "abort"])


@pytest.mark.parametrize(
    "order", [[(0, FENCED), (1, PURGED)], [(1, PURGED), (0, FENCED)], [(1, FORBIDDEN), (0, FENCED)]]
)
@pytest.mark.parametrize("together", [True, False])
def test_a_fence_is_told_from_its_consequences_in_whatever_order_they_are_heard(order, together):
    script = [order] if together else [[each] for each in order]
    with pytest.raises(Fenced):
        publication(Transaction, ScriptedLink(*script), count=2).run()


def test_a_fence_is_found_behind_the_error_that_ended_it():
    erroneous_state = KafkaException(KafkaError(KafkaError._STATE))
    with pytest.raises(Fenced):
        publication(Transaction, ScriptedLink(erroneous_state, [(0, FENCED), (1, PURGED)]), count=2).run()


@pytest.mark.parametrize("together", [True, False])
def test_a_refusal_is_found_behind_what_it_stopped_and_the_transaction_is_made_again_without_it(together):
    heard: Heard = [(3, PURGED), (1, TOO_LARGE), (0, DELIVERED), (2, PURGED)]
    link = ScriptedLink(*([heard] if together else [[each] for each in heard]))
    outcome = without_what_is_refused(link, publication(Transaction, link))
    assert (4, [2]) == (outcome.done, refused(outcome))
    assert isinstance(outcome.refused[2], PermanentError)
    assert ["begin", "abort", "drop", "begin", "commit"] == link.done


def test_several_that_are_refused_are_left_out_one_after_the_other():
    link = ScriptedLink(
        [(0, TOO_LARGE), (1, PURGED), (2, PURGED), (3, PURGED)], [(1, DELIVERED), (2, TOO_LARGE), (3, PURGED)]
    )
    outcome = without_what_is_refused(link, publication(Transaction, link))
    assert (4, [1, 3]) == (outcome.done, refused(outcome))
    assert 2 == link.done.count("abort")


def test_what_is_behind_a_refused_one_of_its_stream_is_not_in_the_transaction_that_is_made_without_it():
    link = ScriptedLink([(0, DELIVERED), (1, TOO_LARGE), (2, PURGED), (3, PURGED)])
    outcome = without_what_is_refused(link, publication(Transaction, link, streams=2))
    assert (3, [2]) == (outcome.done, refused(outcome))


def test_several_in_a_request_that_is_refused_are_not_blamed():
    link = ScriptedLink([(number, TOO_LARGE) for number in range(4)])
    on_its_way = publication(Publication, link, one_by_one=False)
    with pytest.raises(Unavailable, match="too large"):
        on_its_way.run()
    assert on_its_way.blames_several
    assert (0, []) == (on_its_way.receipts.done, refused(on_its_way.receipts.outcome()))


def test_silence_is_said_and_what_is_open_is_dropped():
    link = ScriptedLink()
    link.poll = lambda seconds, **how: None  # type: ignore[method-assign]
    on_its_way = publication(Publication, link)
    on_its_way.silence = timedelta(seconds=0.1)
    with pytest.raises(Unavailable, match="nothing was reported"):
        on_its_way.run()
    assert ["drop"] == link.done
    assert 0 == on_its_way.receipts.done


def test_answers_that_were_here_when_the_silence_began_count():
    link = ScriptedLink([(0, DELIVERED)])
    hear = link.poll

    def once(seconds: float, *, all: bool = False) -> None:
        if link.open and len(link.open) == 4:
            hear(seconds)

    link.poll = once  # type: ignore[method-assign]
    on_its_way = publication(Publication, link)
    on_its_way.silence = timedelta(seconds=0.1)
    with pytest.raises(Unavailable, match="3 messages are open"):
        on_its_way.run()
    assert Outcome(done=1) == on_its_way.receipts.outcome()


@pytest.mark.parametrize("constant", [True, False])
def test_a_topic_that_the_client_knows_to_be_forbidden_is_like_one_that_was_looked_for(constant):
    link = ScriptedLink()
    link.error = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    on_its_way = publication(Publication, link)
    on_its_way.constant = constant
    if constant:
        with pytest.raises(Unavailable, match="'orders'"):
            on_its_way.run()
    else:
        on_its_way.run()
        assert (4, [1, 2, 3, 4]) == (on_its_way.receipts.done, refused(on_its_way.receipts.outcome()))


def test_a_fence_that_the_link_has_heard_of_is_found_behind_what_produce_says():
    link = ScriptedLink()
    link.error, link.is_fenced = KafkaException(KafkaError(KafkaError._FATAL)), True
    with pytest.raises(Fenced):
        publication(Transaction, link).run()


def test_a_refusal_whose_transaction_cannot_be_aborted_claims_no_other():
    link = ScriptedLink([(1, TOO_LARGE), (0, PURGED), (2, PURGED), (3, PURGED)])

    def fail(seconds: float) -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    link.abort_transaction = fail  # type: ignore[method-assign]
    on_its_way = publication(Transaction, link)
    with pytest.raises(Unavailable, match="too large"):
        on_its_way.run()
    assert 0 == on_its_way.receipts.done


def test_a_lease_that_is_lost_is_told_as_it_is():
    link = ScriptedLink([(0, FORBIDDEN)])
    on_its_way = publication(Publication, link)
    lost = LeaseLost(consumer="contract", token=1)

    def ask() -> bool:
        raise lost

    link.is_fenced = True
    on_its_way.batch = dataclasses.replace(on_its_way.batch, still_held=ask)
    with pytest.raises(LeaseLost) as caught:
        on_its_way.run()
    assert lost is caught.value
