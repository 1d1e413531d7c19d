"""RedisStreamSender on a real Redis, through a proxy that cuts, freezes and loses answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from django_eventstore import Outcome
from django_eventstore.exceptions import LeaseLost, PermanentError, Unavailable
from django_eventstore.senders.redis import RedisStreamSender
from django_eventstore.testing.contracts import LOG, Arrival, ContractEntry, SenderContract
from tests.documentation import DOCS, blocks
from tests.services.redis_streams import Fields, RedisStreams, ids, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("redis")]


@pytest.fixture
def streams() -> Iterator[RedisStreams]:
    streams = RedisStreams()
    yield streams
    streams.close()


contract = SenderContract()


class RedisContract(SenderContract):
    patience = timedelta(seconds=12)
    many = 2_000
    options: dict[str, object] = {}

    @pytest.fixture(autouse=True)
    def _streams(self, streams: RedisStreams) -> None:
        self.streams = streams

    def make_sender(self) -> RedisStreamSender:
        return self.streams.sender(**{"max_bytes": 1_500_000, **self.options})

    def arrivals(self, atleast: int) -> list[Arrival]:
        return [self.arrival(fields) for fields in self.streams.read(atleast)]

    def arrival(self, fields: Fields) -> Arrival:
        return Arrival(fields["ce-id"], fields["data"])

    def refusable(self, entry: ContractEntry) -> ContractEntry:
        entry.payload = '{"text":"%s"}' % ("x" * 1_500_000)
        return entry

    def take_away(self) -> None:
        self.streams.proxy.cut()

    def freeze(self) -> None:
        self.streams.proxy.freeze()

    def bring_back(self) -> None:
        self.streams.proxy.open()


class TestRedisStreamSender(RedisContract):
    pass


class TestRedisStreamSenderWithStructuredEvents(RedisContract):
    options = {"format": "structured", "max_in_flight": 7}
    many = 300
    # Seconds of waiting that would show nothing new.
    test_a_receiver_that_is_frozen_from_the_start_is_an_error = None
    test_a_receiver_that_freezes_in_the_middle_ends_as_an_error_and_not_as_a_hang = None

    def arrival(self, fields: Fields) -> Arrival:
        # The data is the last member, byte for byte as it was recorded.
        return Arrival(json.loads(fields["data"])["id"], fields["data"].partition(',"data":')[2][:-1])


def test_the_entry_says_what_it_is(streams):
    entry = contract.entries(1)[0]
    entry.correlation_id, entry.stream = "request-1", "commande n° 1 \U0001f9fe"
    streams.sender(headers={"tenant": "north"}, source="https://shop.example/log").send(contract.batch([entry]))
    [fields] = streams.read(1)
    assert ("north", "application/json", "1", '{"n":1}') == tuple(
        fields.pop(name) for name in ("tenant", "content-type", "position", "data")
    )
    event = CloudEvent({name.removeprefix("ce-"): _attribute(name, value) for name, value in fields.items()}, None)
    assert (str(entry.event_id), "https://shop.example/log") == (event.get_id(), event.get_source())
    assert (entry.stream, "contract.Happened") == (event.get_subject(), event.get_type())
    assert ("0000000000000000001", "request-1") == (
        event.get_extension("sequence"),
        event.get_extension("correlationid"),
    )


def _attribute(name: str, value: str) -> object:
    return datetime.fromisoformat(value.replace("Z", "+00:00")) if name == "ce-time" else value


def test_plain_json_is_an_option(streams):
    streams.sender(format="json").send(contract.batch(contract.entries(1)))
    [fields] = streams.read(1)
    assert {"content-type", "position", "data"} == set(fields)
    body = json.loads(fields["data"])
    assert (str(LOG), 1, 1, {"n": 1}) == (body["log"], body["epoch"], body["position"], body["payload"])


def test_the_key_is_made_of_the_event(streams):
    entries = contract.entries(3)
    entries[1].type, entries[1].version = "contract.Other", 2
    outcome = streams.sender(key=f"{streams.key}:{{type}}:{{version}}").send(contract.batch(entries))
    assert Outcome(done=3) == outcome
    assert wanted([entries[0], entries[2]]) == ids(streams.read(2, f"{streams.key}:contract.Happened:1"))
    assert wanted([entries[1]]) == ids(streams.read(1, f"{streams.key}:contract.Other:2"))


def test_an_event_without_a_stream_has_no_key_of_one(streams):
    entries = contract.entries(3)
    for entry in entries:
        entry.stream = f"{streams.key}-{entry.stream}"
    entries[1].stream = ""
    outcome = streams.sender(key="{stream}").send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))


def test_what_is_retried_replayed_and_repartitioned_is_never_taken_for_a_repeat(streams):
    """Ids that are made of positions would be refused when they come late; those of the server are always the next."""
    entries = contract.entries(60)
    ahead, behind = entries[30:], entries[:30]
    sender = streams.sender()
    assert Outcome(done=30) == sender.send(contract.batch(ahead))  # by another partition, which was faster
    assert Outcome(done=30) == sender.send(contract.batch(behind))
    assert Outcome(done=30) == sender.send(contract.batch(behind))  # since the offset was not saved
    for entry in entries:
        entry.is_replay = True
    assert Outcome(done=60) == sender.send(contract.batch(entries))
    received = streams.read(150)
    assert wanted([*ahead, *behind, *behind, *entries]) == ids(received)
    assert [entry.position for entry in entries] == [int(fields["position"]) for fields in received[-60:]]


def test_a_stream_can_be_kept_short(streams):
    entries = contract.entries(1_000)
    assert Outcome(done=1_000) == streams.sender(maxlen=100, approximate=False).send(contract.batch(entries))
    assert wanted(entries[-100:]) == ids(streams.read(100))
    about = f"{streams.key}-about"
    assert Outcome(done=1_000) == streams.sender(key=about, maxlen=100).send(contract.batch(entries))
    kept = ids(streams.read(100, about))
    assert 100 <= len(kept) < 1_000
    assert wanted(entries[-len(kept) :]) == kept


def test_a_key_that_is_no_stream_is_the_senders_trouble_and_is_named(streams):
    streams.straight.set(f"{streams.key}-taken", "something else")
    for entries in (contract.entries(3), contract.entries(1)):
        with pytest.raises(Unavailable, match=f"key '{streams.key}-taken': WRONGTYPE"):
            streams.sender(key=f"{streams.key}-taken").send(contract.batch(entries))


def test_of_what_goes_to_several_keys_no_more_is_claimed_than_was_appended(streams):
    streams.straight.set(f"{streams.key}-taken", "something else")
    entries = contract.entries(30)
    for entry in entries:
        entry.type = "free"
    entries[20].type = "taken"
    sender = streams.sender(key=f"{streams.key}-{{type}}")
    assert Outcome(done=20) == sender.send(contract.batch(entries))
    with pytest.raises(Unavailable):
        sender.send(contract.batch(entries[20:]))
    streams.straight.delete(f"{streams.key}-taken")
    assert Outcome(done=10) == sender.send(contract.batch(entries[20:]))
    assert wanted(entries[20:21]) == ids(streams.read(1, f"{streams.key}-taken"))
    # What came behind it arrives again behind it.
    free = [entry for entry in entries if entry.type == "free"]
    assert wanted([*free, *free[20:]]) == ids(streams.read(38, f"{streams.key}-free"))


def test_lost_answers_mean_repeats_and_nothing_is_claimed(streams):
    entries = contract.entries(50)
    sender = streams.sender(timeout=timedelta(seconds=1))
    contract.send_all(sender, contract.entries(1, first=51))
    streams.proxy.deafen()
    with pytest.raises(Unavailable, match="Timeout"):
        sender.send(contract.batch(entries))
    streams.proxy.open()
    contract.send_all(sender, entries)
    received = ids(streams.read(101))[-100:]
    assert [*wanted(entries), *wanted(entries)] == received


def test_after_a_trouble_one_event_is_tried_before_the_others(streams):
    """So that what stays unanswered, here by a replica that is not there, is one repeat with each try, and not a batch."""
    entries = contract.entries(50)
    sender = streams.sender(replicas=1, timeout=timedelta(seconds=0.5))
    for _ in range(3):
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            sender.send(contract.batch(entries))
    assert wanted([*entries, entries[0], entries[0]]) == ids(streams.read(52))


def test_a_slow_server_is_waited_for(streams):
    streams.proxy.slow_down(0.02)
    entries = contract.entries(200)
    assert Outcome(done=200) == streams.sender(max_in_flight=20).send(contract.batch(entries))
    assert wanted(entries) == ids(streams.read(200))


def test_a_connection_that_ended_while_it_was_idle_is_not_noticed(streams):
    sender = streams.sender()
    assert Outcome(done=5) == sender.send(contract.batch(contract.entries(5)))
    streams.proxy.cut()
    streams.proxy.open()
    time.sleep(0.1)
    assert Outcome(done=5) == sender.send(contract.batch(contract.entries(5, first=6)))


def test_events_that_are_too_large_are_refused_before_they_are_sent(streams):
    entries = contract.entries(3)
    entries[1].payload = '{"text":"%s"}' % ("x" * 5_000)
    outcome = streams.sender(max_bytes=5_000).send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert isinstance(outcome.refused[2], PermanentError)
    assert wanted([entries[0], entries[2]]) == ids(streams.read(2))


def test_large_events_go_in_transactions_of_their_own(streams):
    entries = contract.entries(6)
    for entry in entries[1:]:
        entry.payload = '{"text":"%s"}' % ("x" * 3_000_000)
    asked: list[int] = []

    def still_held() -> bool:
        asked.append(1)
        return True

    assert Outcome(done=6) == streams.sender().send(contract.batch(entries, still_held=still_held))
    assert wanted(entries) == ids(streams.read(6))
    assert 6 == len(asked)  # once at first, and before each of five


def test_nothing_of_a_stream_is_appended_behind_one_that_is_refused(streams):
    entries = contract.entries(6, streams=2)
    entries[1].payload = '{"text":"%s"}' % ("x" * 3_000)
    outcome = streams.sender(max_bytes=2_000).send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert wanted([entries[0], entries[2]]) == ids(streams.read(2))


def test_a_stream_that_is_no_attribute_refuses_its_event(streams):
    entries = contract.entries(3)
    entries[1].stream = "line\nbreak"
    outcome = streams.sender().send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))


def test_a_lease_that_is_lost_is_told_to_the_loop(streams):
    lost, asked = LeaseLost(consumer="contract", token=1), []

    def still_held() -> bool:
        asked.append(1)
        if len(asked) > 1:
            raise lost
        return True

    with pytest.raises(LeaseLost):
        streams.sender().send(contract.batch(contract.entries(3), still_held=still_held))


def test_threads_share_a_sender(streams):
    sender = streams.sender()
    batches = [contract.entries(100, first=1 + 100 * number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda entries: sender.send(contract.batch(entries)), batches))
    assert [Outcome(done=100)] * 6 == outcomes
    assert {name for entries in batches for name in wanted(entries)} == set(ids(streams.read(600)))


def test_the_snippets_of_the_guide_send_and_read(streams):
    settings, read = (block.text for block in blocks(DOCS / "guides" / "redis.md", language="python"))
    scope: dict[str, Any] = {}
    exec(settings, scope)
    exec(read.replace('"orders"', repr(streams.key)), scope)
    [options] = [consumer["OPTIONS"] for consumer in scope["EVENTSTORE"]["CONSUMERS"].values()]
    entries = contract.entries(3)
    sender = streams.sender(**{**options, "url": streams.url, "key": streams.key})
    assert Outcome(done=3) == sender.send(contract.batch(entries))
    got = list(scope["read"](streams.straight, "0-0"))
    assert [(str(entry.event_id), "contract.Happened", {"n": entry.position}) for entry in entries] == [
        event for _, event in got
    ]
    assert [] == list(scope["read"](streams.straight, got[-1][0]))
