"""KafkaSender with a transactional id: a transaction for each batch, and one producer for each partition at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from django_eventstore import Batch, Outcome
from django_eventstore.exceptions import PermanentError, Unavailable
from django_eventstore.senders.kafka.options import BATCH_BYTES
from django_eventstore.testing.contracts import ContractEntry, SenderContract
from tests.services.kafka import Ground, deliver, ids, kafka_of, mock_ground, tansu_ground, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("kafka-mock")]

ID = "test-{consumer}-{partition}"
INIT_PRODUCER_ID = 22
"""The number of the protocol for the request that takes a transactional id."""
contract = SenderContract()


@pytest.fixture
def mock() -> Iterator[Ground]:
    with mock_ground() as ground:
        yield ground


@pytest.fixture
def tansu() -> Iterator[Ground]:
    with tansu_ground() as ground:
        yield ground


@pytest.mark.needs("kafka-broker")
def test_a_worker_that_wakes_up_after_another_has_taken_over_sends_and_commits_nothing_more(tansu):
    """It is stopped in the middle of its batch, and does not know that its lease is over."""
    zombie, successor = tansu.sender(transactional_id=ID), tansu.sender(transactional_id=ID)
    entries = contract.entries(350)
    asked = []

    def believes() -> bool:
        asked.append(1)
        if len(asked) == 4:  # two chunks of a hundred are on their way
            assert Outcome(done=350) == successor.send(contract.batch(entries))
        return len(asked) < 6

    with pytest.raises(Unavailable, match="newer"):
        zombie.send(contract.batch(entries, still_held=believes))
    received = ids(tansu.read(350))
    assert wanted(entries) == received[-350:]
    # Tansu shows what was aborted too. Of the zombie there is nothing behind the first of its successor.
    assert received[:-350] == wanted(entries)[: len(received) - 350]
    assert Outcome(done=1) == successor.send(contract.batch(contract.entries(1, first=351)))


@pytest.mark.needs("kafka-broker")
def test_workers_that_have_the_partition_in_turns_do_not_notice_each_other(tansu):
    workers = [tansu.sender(transactional_id=ID), tansu.sender(transactional_id=ID)]
    batches = [contract.entries(20, first=1 + 20 * number) for number in range(5)]
    for number, entries in enumerate(batches):
        assert Outcome(done=20) == workers[number % 2].send(contract.batch(entries))
    assert [name for entries in batches for name in wanted(entries)] == ids(tansu.read(100))


@pytest.mark.needs("kafka-broker")
def test_partitions_have_producers_of_their_own(tansu):
    sender = tansu.sender(transactional_id=ID)
    for partition in (0, 1, 0, 1):
        batch = dataclasses.replace(contract.batch(contract.entries(5)), partition=partition)
        assert Outcome(done=5) == sender.send(batch)
    assert {"test-contract-0", "test-contract-1"} == set(sender._links)


@pytest.mark.parametrize("behind", [0, 3])
def test_a_message_that_is_refused_is_left_out_and_the_others_are_committed(mock, behind):
    """Also when nothing behind it was in flight, from which librdkafka would see that its sequence numbers have a gap."""
    entries = contract.entries(2 + behind, streams=2 + behind)
    sender = mock.sender(transactional_id=ID)
    refuse(mock, entries[1])
    outcome = sender.send(contract.batch(entries))
    assert (2 + behind, {2}) == (outcome.done, set(outcome.refused))
    assert isinstance(outcome.refused[2], PermanentError)
    more = contract.entries(2, first=3 + behind)
    assert Outcome(done=2) == sender.send(contract.batch(more))
    assert set(wanted([entries[0], *entries[2:], *more])) == set(ids(mock.read(3 + behind)))


def test_what_is_left_out_of_a_transaction_keeps_its_stream_out_of_the_next(mock):
    entries = contract.entries(6, streams=2)
    refuse(mock, entries[1])
    outcome = mock.sender(transactional_id=ID).send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert set(wanted([entries[0], entries[2]])) == set(ids(mock.read(2)))


def test_the_id_is_not_taken_again_to_leave_a_message_out_when_the_lease_has_ended(mock):
    entries = contract.entries(2)
    refuse(mock, entries[1])
    asked: list[int] = []

    def until_it_was_refused() -> bool:
        asked.append(1)
        if len(asked) == 2:  # the id was taken, nothing was sent
            errors = [KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED] * 10
            kafka_of(mock).fail_requests(*errors, request=INIT_PRODUCER_ID)
        return len(asked) < 3

    sender = mock.sender(transactional_id=ID)
    assert Outcome(done=0) == sender.send(contract.batch(entries, still_held=until_it_was_refused))


def refuse(mock: Ground, entry: ContractEntry) -> None:
    """The second entry of the next batch. It is so large that it has a request of its own, between its neighbours."""
    entry.payload = '{"text":"%s"}' % ("x" * BATCH_BYTES)
    kafka_of(mock).fail_requests(0, KafkaError.MSG_SIZE_TOO_LARGE)


def of_partition(number: int, entries: list[ContractEntry]) -> Batch:
    return dataclasses.replace(contract.batch(entries), partition=number)


def test_a_request_that_is_refused_to_one_partition_does_not_make_another_blame_its_events(mock):
    """Its producer still sends many in a request, and nobody knows which of them is too large."""
    sender = mock.sender(transactional_id=ID, config={"linger.ms": 100})
    for number in (0, 1):
        assert Outcome(done=1) == sender.send(of_partition(number, contract.entries(1)))
    troubles = []
    while not any("too large" in text for text in troubles):  # see above: sometimes it is told as "Purged"
        assert len(troubles) < 10
        kafka_of(mock).fail_requests(KafkaError.MSG_SIZE_TOO_LARGE)
        with pytest.raises(Unavailable) as caught:
            sender.send(of_partition(0, contract.entries(4, first=2)))
        troubles.append(str(caught.value))
    kafka_of(mock).fail_requests(KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(Unavailable):
        sender.send(of_partition(1, contract.entries(4, first=6)))
    # Each has one producer that sends one by one next, and finds none to blame.
    for number, entries in ((1, contract.entries(4, first=6)), (0, contract.entries(4, first=2))):
        assert Outcome(done=4) == sender.send(of_partition(number, entries))


def test_a_transaction_that_does_not_commit_claims_nothing(mock):
    end_txn = 26
    sender, entries = mock.sender(transactional_id=ID), contract.entries(5)
    assert Outcome(done=1) == sender.send(contract.batch(entries[:1]))
    kafka_of(mock).fail_requests(KafkaError.INVALID_TXN_STATE, request=end_txn)
    with pytest.raises(Unavailable):
        sender.send(contract.batch(entries[1:]))
    assert {} == deliver(sender, entries[1:])


def test_a_lease_that_ends_before_the_commit_claims_nothing_and_aborts(mock):
    asked: list[int] = []

    def until_all_is_reported() -> bool:
        asked.append(1)
        return len(asked) < 3

    sender, entries = mock.sender(transactional_id=ID), contract.entries(5)
    assert Outcome(done=0) == sender.send(contract.batch(entries, still_held=until_all_is_reported))
    assert Outcome(done=5) == sender.send(contract.batch(entries))


def test_a_broker_that_is_not_there_when_the_id_is_taken_is_the_senders_trouble(mock):
    mock.proxy.cut()
    sender = mock.sender(transactional_id=ID)
    mock.hurry()
    with pytest.raises(Unavailable, match="Kafka: "):
        sender.send(contract.batch(contract.entries(1)))
    mock.proxy.open()
    mock.take_time()
    assert {} == deliver(sender, contract.entries(1))
