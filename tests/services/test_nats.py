"""NATSSender on a real NATS JetStream, through a proxy that cuts, freezes and loses answers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from cloudevents.core.bindings import http as binding

from django_eventstore import Outcome
from django_eventstore.exceptions import LeaseLost, PermanentError, Unavailable
from django_eventstore.senders.nats import NATSSender
from django_eventstore.senders.nats import link as link_module
from django_eventstore.testing.contracts import LOG, Arrival, ContractEntry, SenderContract
from tests.documentation import DOCS, blocks
from tests.servers.proxy import Proxy
from tests.services.jetstream import JetStream, ids, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("nats")]


@pytest.fixture
def jetstream() -> Iterator[JetStream]:
    jetstream = JetStream()
    yield jetstream
    jetstream.close()


contract = SenderContract()


class NATSContract(SenderContract):
    patience = timedelta(seconds=12)
    many = 2_000
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
    # Seconds of waiting that would show nothing new.
    test_a_receiver_that_is_frozen_from_the_start_is_an_error = None
    test_a_receiver_that_freezes_in_the_middle_ends_as_an_error_and_not_as_a_hang = None

    def arrival(self, message: Any) -> Arrival:
        # The data is the last member, byte for byte as it was recorded.
        body = message.data.decode()
        return Arrival(json.loads(body)["id"], body.partition(',"data":')[2][:-1])


def large(entry: ContractEntry, size: int) -> None:
    entry.payload = '{"text":"%s"}' % ("x" * size)


def test_the_message_says_what_it_is_and_the_sdk_reads_it(jetstream):
    entry = contract.entries(1)[0]
    entry.correlation_id, entry.stream = "request-1", "commande n° 1 \U0001f9fe"
    jetstream.sender(headers={"tenant": "north"}, source="https://shop.example/log").send(contract.batch([entry]))
    [message] = jetstream.read(1)
    assert f"{jetstream.name}.contract.Happened" == message.subject
    headers = message.headers
    assert ("north", "application/json", jetstream.name) == (
        headers["tenant"],
        headers["Content-Type"],
        headers["Nats-Expected-Stream"],
    )
    assert headers["Nats-Msg-Id"].startswith(f"{entry.event_id}/")
    # In binary mode the bindings of HTTP and NATS are the same.
    event = binding.from_http_event(binding.HTTPMessage(headers, message.data))
    assert (str(entry.event_id), "https://shop.example/log") == (event.get_id(), event.get_source())
    assert (entry.stream, {"n": 1}) == (event.get_subject(), event.get_data())
    assert "0000000000000000001" == event.get_extension("sequence")


def test_plain_json_is_an_option(jetstream):
    entry = contract.entries(1)[0]
    jetstream.sender(format="json").send(contract.batch([entry]))
    [message] = jetstream.read(1)
    body = json.loads(message.data)
    assert (str(LOG), 1, 1, {"n": 1}) == (body["log"], body["epoch"], body["position"], body["payload"])
    assert {"Content-Type", "Nats-Expected-Stream", "Nats-Msg-Id"} == set(message.headers)


def test_the_subject_is_made_of_the_event(jetstream):
    entries = contract.entries(2)
    entries[0].stream, entries[0].version = "order 1 > *", 3
    outcome = jetstream.sender(subject=f"{jetstream.name}.v{{version}}.{{stream}}").send(contract.batch(entries))
    assert Outcome(done=2) == outcome
    assert [f"{jetstream.name}.v3.order%201%20%3E%20%2A", f"{jetstream.name}.v1.contract-2"] == [
        message.subject for message in jetstream.read(2)
    ]


def test_an_event_cannot_choose_a_subject_of_nats_itself(jetstream):
    entries = contract.entries(3)
    entries[1].stream = f"$JS.API.STREAM.DELETE.{jetstream.name}"
    jetstream.make(f"{jetstream.name}-2", subjects=["contract-1", "contract-0"])
    outcome = jetstream.sender(subject="{stream}", stream=f"{jetstream.name}-2").send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert 0 == jetstream.client.messages(jetstream.name)  # it is there


def test_a_stream_that_is_missing_is_the_senders_trouble_and_is_named(jetstream):
    name = f"{jetstream.name}-missing"
    sender, entries = jetstream.sender(stream=name, subject=f"{name}.{{type}}"), contract.entries(3)
    for batch in (entries, entries[:1]):
        with pytest.raises(Unavailable, match=f"'{name}': stream not found.*Create the stream"):
            sender.send(contract.batch(batch))
    jetstream.make(name, subjects=[f"{name}.>"])
    assert Outcome(done=3) == sender.send(contract.batch(entries))
    assert 3 == jetstream.client.messages(name)


def test_a_subject_that_the_stream_does_not_take_refuses_its_event_alone(jetstream):
    entries = contract.entries(300)
    name = f"{jetstream.name}-2"
    jetstream.make(name, subjects=[f"{name}.contract.*"])
    for number in (0, 150, 299):
        entries[number].type = "elsewhere.Happened"
    sender = jetstream.sender(stream=name, subject=f"{name}.{{type}}")
    done, refused = 0, {}
    while done < 300:
        outcome = sender.send(contract.batch(entries[done:]))
        assert outcome.done
        done += outcome.done
        refused.update(outcome.refused)
    assert {1, 151, 300} == set(refused)
    assert "does not take the subject" in str(refused[151])
    assert f"{name}.elsewhere.Happened" in str(refused[151])
    assert 297 == jetstream.client.messages(name)


def test_a_subject_that_another_stream_keeps_refuses_its_event_and_is_stored_nowhere(jetstream):
    entries = contract.entries(3)
    entries[1].type = "elsewhere"
    jetstream.make(f"{jetstream.name}-2", subjects=["elsewhere.>", f"{jetstream.name}-2.>"])
    jetstream.make(f"{jetstream.name}-3", subjects=[f"{jetstream.name}-3.contract.Happened"])
    sender = jetstream.sender(stream=f"{jetstream.name}-3", subject=f"{jetstream.name}-3.{{type}}")
    entries[1].type = "contract.Happened"
    assert Outcome(done=3) == sender.send(contract.batch(entries))
    wrong = jetstream.sender(stream=f"{jetstream.name}-3", subject=f"{jetstream.name}-2.{{type}}")
    outcome = wrong.send(contract.batch(contract.entries(1)))
    assert (1, {1}) == (outcome.done, set(outcome.refused))
    assert "kept by another stream" in str(outcome.refused[1])
    assert 0 == jetstream.client.messages(f"{jetstream.name}-2")


def test_an_event_that_is_too_large_for_the_stream_is_refused_for_good(jetstream):
    name = f"{jetstream.name}-2"
    jetstream.make(name, subjects=[f"{name}.>"], max_msg_size=5_000)
    entries = contract.entries(1)
    large(entries[0], 6_000)
    outcome = jetstream.sender(stream=name, subject=f"{name}.{{type}}").send(contract.batch(entries))
    assert (1, {1}) == (outcome.done, set(outcome.refused))
    assert isinstance(outcome.refused[1], PermanentError)


@pytest.mark.parametrize(
    "size, options, reason", [(5_000, {"max_bytes": 5_000}, "max_bytes"), (1024 * 1024 - 300, {}, "limit")]
)
def test_events_that_are_too_large_are_refused_before_they_are_sent(jetstream, size, options, reason):
    entries = contract.entries(3)
    large(entries[1], size)
    outcome = jetstream.sender(**options).send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert isinstance(outcome.refused[2], PermanentError)
    assert reason in str(outcome.refused[2])
    assert wanted([entries[0], entries[2]]) == ids(jetstream.read(2))


def test_a_stream_that_is_no_attribute_refuses_its_event(jetstream):
    entries = contract.entries(3)
    entries[1].stream = "line\nbreak"
    outcome = jetstream.sender().send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))


FULL = {"max_msgs": 5, "discard": "new"}


@pytest.mark.parametrize("in_flight", [1, 1_000])
def test_a_stream_that_is_full_makes_the_consumer_wait_and_loses_nothing(in_flight):
    jetstream = JetStream(**FULL)
    try:
        entries, done, reasons = contract.entries(40), 0, []
        sender = jetstream.sender(max_in_flight=in_flight)
        while done < 40:
            try:
                outcome = sender.send(contract.batch(entries[done:]))
            except Unavailable as error:
                reasons.append(str(error))
                read = len(jetstream.got)
                jetstream.read(min(40, done))
                jetstream.client.purge(jetstream.name)
                assert len(jetstream.got) >= read
            else:
                assert {} == outcome.refused
                done += outcome.done
        assert reasons
        assert {True} == {"maximum messages exceeded" in reason for reason in reasons}
        received = ids(jetstream.read(40))
        assert wanted(entries) == received
    finally:
        jetstream.close()


def with_room_for_one_per_subject(jetstream):
    """Makes a second stream, which takes no further message of a subject; returns its name."""
    name = f"{jetstream.name}-2"
    limits = {"max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": True}
    jetstream.make(name, subjects=[f"{name}.>"], **limits)
    return name


def test_nothing_of_a_stream_is_stored_ahead_of_what_was_not_taken(jetstream):
    """A receiver that has seen it would drop the earlier one, and another worker's repeat of it the server."""
    name = with_room_for_one_per_subject(jetstream)
    entries = contract.entries(3, streams=1)
    entries[2].type = "contract.Other"
    options = {"stream": name, "subject": f"{name}.{{type}}"}
    assert Outcome(done=1) == jetstream.sender(**options).send(contract.batch(entries))  # the first subject is full now
    assert 1 == jetstream.client.messages(name)
    got = jetstream.client.collect(name)
    jetstream.client.purge(name)
    another = jetstream.sender(**options)
    contract.send_all(another, entries[1:])
    deadline = time.monotonic() + 10
    while not set(wanted(entries)[1:]) <= set(ids(got)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert wanted(entries)[-2:] == ids(got)[-2:]


def test_what_was_stored_ahead_of_another_stream_is_not_there_twice(jetstream):
    name = with_room_for_one_per_subject(jetstream)
    entries = contract.entries(3, streams=3)
    entries[2].type = "contract.Other"
    options = {"stream": name, "subject": f"{name}.{{type}}"}
    sender, got = jetstream.sender(**options), jetstream.client.collect(name)
    assert Outcome(done=1) == sender.send(contract.batch(entries))
    assert 2 == jetstream.client.messages(name)
    jetstream.client.purge(name)
    contract.send_all(sender, entries[1:])
    deadline = time.monotonic() + 10
    while len(got) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(wanted(entries)) == sorted(ids(got))


def test_after_a_trouble_one_event_is_tried_before_the_others(jetstream):
    """So that a subject which stays full does not let the others repeat theirs with each try."""
    name = f"{jetstream.name}-2"
    limits = {"max_msgs_per_subject": 3, "discard": "new", "discard_new_per_subject": True}
    jetstream.make(name, subjects=[f"{name}.>"], **limits)
    entries = contract.entries(40)
    for number, entry in enumerate(entries[4:]):
        entry.type = f"contract.Other{number}"
    sender = jetstream.sender(stream=name, subject=f"{name}.{{type}}")
    assert Outcome(done=3) == sender.send(contract.batch(entries))  # the fourth finds its subject full
    for _ in range(4):
        with pytest.raises(Unavailable, match="maximum messages per subject"):
            sender.send(contract.batch(entries[3:]))
    assert jetstream.client.messages(name) <= 3 + 36


def test_nothing_is_sent_behind_what_was_not_taken(jetstream):
    name = f"{jetstream.name}-2"
    jetstream.make(name, subjects=[f"{name}.>"], max_msgs=5, discard="new")
    sender = jetstream.sender(max_in_flight=100)
    assert Outcome(done=100) == sender.send(contract.batch(contract.entries(100)))
    hundred = jetstream.proxy.upstream_bytes
    full = jetstream.sender(stream=name, subject=f"{name}.{{type}}", max_in_flight=100)
    assert 5 == full.send(contract.batch(contract.entries(1_000))).done
    assert jetstream.proxy.upstream_bytes - hundred < 1.5 * hundred


def test_lost_answers_mean_repeats_that_the_stream_drops(jetstream):
    entries = contract.entries(50, streams=50)
    sender = jetstream.sender(timeout=timedelta(seconds=1))
    contract.send_all(sender, contract.entries(1, first=51))
    jetstream.proxy.deafen()
    with pytest.raises(Unavailable, match="nothing was answered for 1 s, and 50 messages are open"):
        sender.send(contract.batch(entries))
    jetstream.proxy.open()
    contract.send_all(sender, entries)
    assert wanted(entries) == ids(jetstream.read(51))[1:]


def test_a_lease_that_ends_while_answers_are_awaited_ends_the_waiting(jetstream):
    sender, asked = jetstream.sender(timeout=timedelta(minutes=1)), []
    sender.send(contract.batch(contract.entries(1, first=51)))
    jetstream.proxy.deafen()

    def still_held() -> bool:
        asked.append(1)
        return len(asked) < 3

    with pytest.raises(Unavailable, match="the lease ended"):
        sender.send(contract.batch(contract.entries(50), still_held=still_held))


def test_a_lease_that_ends_while_one_stream_is_sent_ends_the_sending(jetstream):
    """Each answer comes in time, and all of them together would not."""
    jetstream.proxy.slow_down(0.05)
    entries, until = contract.entries(100, streams=1), time.monotonic() + 2
    batch = contract.batch(entries, still_held=lambda: time.monotonic() < until)
    outcome = jetstream.sender().send(batch)
    assert 0 < outcome.done < 100
    jetstream.proxy.slow_down(0)
    assert wanted(entries)[: outcome.done] == ids(jetstream.read(outcome.done))


def test_a_lease_that_is_lost_is_told_to_the_loop(jetstream):
    lost, asked = LeaseLost(consumer="contract", token=1), []

    def still_held() -> bool:
        asked.append(1)
        if len(asked) > 1:
            raise lost
        return True

    with pytest.raises(LeaseLost):
        jetstream.sender().send(contract.batch(contract.entries(3), still_held=still_held))


def test_a_thread_that_does_not_answer_is_the_senders_trouble(jetstream, monkeypatch):
    async def ask(link: object, subject: str, seconds: float) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("it never ends")

    monkeypatch.setattr(link_module, "GOODBYE", 0.05)
    monkeypatch.setattr(link_module.Link, "_ask", ask)
    sender = jetstream.sender(
        stream=f"{jetstream.name}-missing", subject="missing.{type}", timeout=timedelta(seconds=1)
    )
    with pytest.raises(Unavailable, match="no answer within"):
        sender.send(contract.batch(contract.entries(1)))


def test_a_connection_that_was_closed_is_an_error_to_its_user(jetstream):
    sender = jetstream.sender()
    sender.send(contract.batch(contract.entries(1)))
    with sender._link.use() as link:
        pass
    sender.close()
    with pytest.raises(RuntimeError):
        link.settle()


def test_a_replay_arrives_and_so_does_what_another_consumer_sends(jetstream):
    entries = contract.entries(5)
    batch, sender = contract.batch(entries), jetstream.sender()
    assert Outcome(done=5) == sender.send(batch)
    for again in (dataclasses.replace(batch, consumer="other"), dataclasses.replace(batch, epoch=2)):
        assert Outcome(done=5) == sender.send(again)
    assert Outcome(done=5) == sender.send(dataclasses.replace(batch, catches_up=True))
    for entry in entries:
        entry.is_replay = True
    assert Outcome(done=5) == sender.send(batch)
    assert wanted(entries) * 5 == ids(jetstream.read(25))


def test_a_slow_server_is_waited_for(jetstream):
    jetstream.proxy.slow_down(0.02)
    entries = contract.entries(200)
    assert Outcome(done=200) == jetstream.sender(max_in_flight=20).send(contract.batch(entries))
    assert wanted(entries) == ids(jetstream.read(200))


def test_a_connection_that_ended_while_it_was_idle_is_not_noticed(jetstream):
    sender = jetstream.sender()
    assert Outcome(done=5) == sender.send(contract.batch(contract.entries(5)))
    jetstream.proxy.cut()
    jetstream.proxy.open()
    time.sleep(0.1)
    assert Outcome(done=5) == sender.send(contract.batch(contract.entries(5, first=6)))


def test_the_next_server_of_the_url_is_tried(jetstream):
    nobody = Proxy("127.0.0.1", 1)
    nobody.close()
    entries = contract.entries(5)
    sender = jetstream.sender(url=f"nats://127.0.0.1:{nobody.port};{jetstream.url}")
    assert Outcome(done=5) == sender.send(contract.batch(entries))
    assert wanted(entries) == ids(jetstream.read(5))


def test_threads_share_a_sender(jetstream):
    sender = jetstream.sender()
    batches = [contract.entries(100, first=1 + 100 * number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda entries: sender.send(contract.batch(entries)), batches))
    assert [Outcome(done=100)] * 6 == outcomes
    assert {name for entries in batches for name in wanted(entries)} == set(ids(jetstream.read(600)))


def test_a_closed_sender_leaves_no_thread_behind(jetstream):
    import threading

    sender, before = jetstream.sender(), set(threading.enumerate())
    sender.send(contract.batch(contract.entries(3)))
    [thread] = [each for each in set(threading.enumerate()) - before if each.name == "eventstore-nats"]
    sender.close()
    assert not thread.is_alive()


def test_the_snippets_of_the_guide_make_a_stream_send_and_read(jetstream):
    settings, declare, read = (block.text for block in blocks(DOCS / "guides" / "nats.md", language="python"))
    name = f"{jetstream.name}-guide"
    scope: dict[str, Any] = {"servers": jetstream.url}
    exec(declare.replace('"ORDERS"', repr(name)).replace('"orders.>"', repr(f"{name}.>")), scope)
    exec(settings, scope)
    exec(read, scope)
    jetstream.client.call(scope["make_stream"](jetstream.url))
    jetstream.streams.append(name)
    [options] = [consumer["OPTIONS"] for consumer in scope["EVENTSTORE"]["CONSUMERS"].values()]
    entry = contract.entries(1)[0]
    sender = jetstream.sender(**{**options, "stream": name, "url": jetstream.url, "subject": f"{name}.{{type}}"})
    assert Outcome(done=1) == sender.send(contract.batch([entry]))
    got = jetstream.client.collect(name)
    deadline = time.monotonic() + 10
    while not got and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (str(entry.event_id), "contract.Happened", entry.stream, {"n": 1}) == scope["read"](got[0])
