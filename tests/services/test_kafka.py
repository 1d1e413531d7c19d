"""KafkaSender with librdkafka's mock cluster, through a proxy, and with answers that are wrong to order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cloudevents.core.bindings import kafka as binding
from confluent_kafka import KafkaError

from django_eventstore import Outcome
from django_eventstore.exceptions import PermanentError, Unavailable
from django_eventstore.senders.kafka import KafkaSender
from django_eventstore.senders.kafka.options import BATCH_BYTES
from django_eventstore.testing.contracts import LOG, SenderContract
from tests.documentation import DOCS, blocks
from tests.servers.certificates import tls_of
from tests.servers.proxy import Proxy
from tests.services.kafka import SHORT, Ground, deliver, headers_of, ids, in_order, kafka_of, mock_ground, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("kafka-mock")]

UNKNOWN = -1
contract = SenderContract()


@pytest.fixture
def ground() -> Iterator[Ground]:
    with mock_ground() as ground:
        yield ground


# --- the message ---


def test_the_message_says_what_it_is_and_the_sdk_reads_it(ground):
    entry = contract.entries(1)[0]
    entry.correlation_id, entry.stream = "request-1", "commande n° 1 \U0001f9fe"
    sender = ground.sender(headers={"tenant": "Nordsøen"}, source="https://shop.example/log")
    assert Outcome(done=1) == sender.send(contract.batch([entry]))
    [message] = ground.read(1)
    assert (entry.stream.encode(), b'{"n":1}') == (message.key(), message.value())
    headers = dict(message.headers())
    assert ("Nordsøen".encode(), b"application/json") == (headers["tenant"], headers["content-type"])
    event = binding.from_kafka_event(binding.KafkaMessage(headers, message.key(), message.value()))
    assert (str(entry.event_id), "https://shop.example/log") == (event.get_id(), event.get_source())
    assert (entry.stream, {"n": 1}) == (event.get_subject(), event.get_data())
    assert ("0000000000000000001", "request-1") == (
        event.get_extension("sequence"),
        event.get_extension("correlationid"),
    )


def test_structured_mode_is_read_by_the_sdk_as_well(ground):
    entry = contract.entries(1)[0]
    ground.sender(format="structured").send(contract.batch([entry]))
    [message] = ground.read(1)
    assert {"content-type": "application/cloudevents+json"} == headers_of(message)
    event = binding.from_kafka_event(binding.KafkaMessage(dict(message.headers()), message.key(), message.value()))
    assert (str(entry.event_id), entry.stream, {"n": 1}) == (event.get_id(), event.get_subject(), event.get_data())


def test_plain_json_is_an_option(ground):
    ground.sender(format="json").send(contract.batch(contract.entries(1)))
    [message] = ground.read(1)
    body = json.loads(message.value())
    assert (str(LOG), 1, 1, {"n": 1}) == (body["log"], body["epoch"], body["position"], body["payload"])
    assert {"content-type": "application/json"} == headers_of(message)


def test_a_stream_lies_in_the_partition_that_javas_producers_choose_for_it(ground):
    topic = ground.create(partitions=4)
    entries = contract.entries(40, streams=10)
    assert Outcome(done=40) == ground.sender(topic=topic).send(contract.batch(entries))
    found = {message.key().decode(): message.partition() for message in ground.read(40, topic, partitions=4)}
    assert {f"contract-{number}": murmur2(f"contract-{number}".encode()) % 4 for number in range(10)} == found


def murmur2(data: bytes) -> int:
    """As in org.apache.kafka.common.utils.Utils, without the sign."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


def test_an_event_without_a_stream_has_no_key(ground):
    entry = contract.entries(1)[0]
    entry.stream = ""
    assert Outcome(done=1) == ground.sender().send(contract.batch([entry]))
    [message] = ground.read(1)
    assert (None, False) == (message.key(), "ce_subject" in headers_of(message))


def test_the_topic_is_made_of_the_event(ground):
    topics = [ground.create(), ground.create()]
    entries = contract.entries(6)
    for entry, topic in zip(entries, topics * 3, strict=True):
        entry.type = topic
    assert Outcome(done=6) == ground.sender(topic="{type}").send(contract.batch(entries))
    assert wanted(entries[::2]) == ids(ground.read(3, topics[0]))
    assert wanted(entries[1::2]) == ids(ground.read(3, topics[1]))


# --- what is refused ---


def test_a_name_that_is_no_topic_refuses_its_event(ground):
    entries = contract.entries(3)
    for entry, type_ in zip(entries, (ground.topic, "no topic", ground.topic), strict=True):
        entry.type = type_
    outcome = ground.sender(topic="{type}").send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert isinstance(outcome.refused[2], PermanentError)
    assert wanted([entries[0], entries[2]]) == ids(ground.read(2))


def test_a_topic_that_is_missing_is_the_senders_trouble_and_is_named(ground):
    kafka_of(ground).fail_topic("missing", KafkaError.UNKNOWN_TOPIC_OR_PART)
    sender = ground.sender(topic="missing")
    for entries in (contract.entries(3), contract.entries(1)):
        with pytest.raises(Unavailable, match="'missing'"):
            sender.send(contract.batch(entries))


def test_a_topic_of_a_template_that_is_missing_refuses_its_events_and_no_others(ground):
    kafka_of(ground).fail_topic("missing", KafkaError.UNKNOWN_TOPIC_OR_PART)
    kafka_of(ground).fail_topic("forbidden", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    entries = contract.entries(6, streams=6)
    for entry, type_ in zip(entries, (ground.topic, "missing", "forbidden") * 2, strict=True):
        entry.type = type_
    outcome = ground.sender(topic="{type}").send(contract.batch(entries))
    assert (6, {2, 3, 5, 6}) == (outcome.done, set(outcome.refused))
    assert not any(isinstance(error, PermanentError) for error in outcome.refused.values())
    assert "'missing'" in str(outcome.refused[2])
    assert wanted(entries[::3]) == ids(ground.read(2))


@pytest.mark.parametrize("constant", [True, False])
def test_a_topic_that_is_forbidden_meanwhile_is_found_by_its_reports(ground, constant):
    entries = contract.entries(4)
    for entry in entries:
        entry.type = ground.topic
    sender = ground.sender(topic=ground.topic if constant else "{type}")
    assert Outcome(done=1) == sender.send(contract.batch(entries[:1]))
    kafka_of(ground).fail_requests(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    if constant:
        with pytest.raises(Unavailable, match="authorization"):
            sender.send(contract.batch(entries[1:2]))
    else:
        outcome = sender.send(contract.batch(entries[1:2]))
        assert (1, {2}) == (outcome.done, set(outcome.refused))
        assert not isinstance(outcome.refused[2], PermanentError)
    assert {} == deliver(sender, entries[2:])


def test_events_that_are_too_large_are_refused_before_they_are_sent(ground):
    entries = contract.entries(3)
    entries[1].payload = '{"text":"%s"}' % ("x" * 5_000)
    outcome = ground.sender(max_bytes=5_000).send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert isinstance(outcome.refused[2], PermanentError)
    assert wanted([entries[0], entries[2]]) == ids(ground.read(2))


def test_nothing_of_a_stream_is_sent_behind_one_that_is_refused(ground):
    entries = contract.entries(6, streams=2)
    entries[1].payload = '{"text":"%s"}' % ("x" * 3_000)
    outcome = ground.sender(max_bytes=2_000).send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert wanted([entries[0], entries[2]]) == ids(ground.read(2))


def test_a_stream_that_is_no_attribute_refuses_its_event(ground):
    entries = contract.entries(3)
    entries[1].stream = "line\nbreak"
    outcome = ground.sender().send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))


def test_a_large_event_that_the_broker_does_not_take_is_refused_for_good(ground):
    """It was in a request of its own, so that it is the one."""
    entries = contract.entries(1)
    entries[0].payload = '{"text":"%s"}' % ("x" * BATCH_BYTES)
    kafka_of(ground).fail_requests(KafkaError.MSG_SIZE_TOO_LARGE)
    sender = ground.sender()
    before, after = contract.entries(2, first=2), contract.entries(2, first=4)
    refused = deliver(sender, [*entries, *before])
    assert {1} == set(refused)
    assert isinstance(refused[1], PermanentError)
    assert {} == deliver(sender, after)
    assert wanted([*before, *after]) == ids(ground.read(4))


def test_of_several_events_in_a_request_that_is_refused_the_one_is_found_and_none_else_is_blamed(ground):
    entries = contract.entries(5)
    sender = ground.sender(config={"linger.ms": 100})
    assert Outcome(done=1) == sender.send(contract.batch(entries[:1]))
    # All in one request; then each in its own, of which the second is the bad one.
    kafka_of(ground).fail_requests(KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(Unavailable, match="too large"):
        sender.send(contract.batch(entries[1:]))
    kafka_of(ground).fail_requests(0, KafkaError.MSG_SIZE_TOO_LARGE)
    refused = deliver(sender, entries[1:])
    assert {3} == set(refused)
    assert isinstance(refused[3], PermanentError)
    received = ids(ground.read(4))
    assert set(wanted(entries)) - {str(entries[2].event_id)} == set(received)


# --- trouble of the brokers ---


@pytest.mark.parametrize("error", [UNKNOWN, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER])
def test_an_error_that_ends_the_producer_blames_no_event_and_the_next_one_sends(ground, error):
    sender, entries = ground.sender(), contract.entries(50)
    assert Outcome(done=1) == sender.send(contract.batch(entries[:1]))
    kafka_of(ground).fail_requests(error)
    with pytest.raises(Unavailable, match="Kafka: ") as caught:
        sender.send(contract.batch(entries[1:]))
    assert "SystemError" not in str(caught.value)
    assert {} == deliver(sender, entries[1:])
    received = ground.read(50)
    assert set(wanted(entries)) == set(ids(received))


def test_an_error_that_passes_is_not_noticed(ground):
    sender, entries = ground.sender(), contract.entries(50)
    kafka_of(ground).fail_requests(KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_LEADER_FOR_PARTITION)
    assert Outcome(done=50) == sender.send(contract.batch(entries))
    assert wanted(entries) == ids(ground.read(50))


def test_what_comes_behind_an_event_that_failed_is_not_sent(ground):
    """Save what was in flight, which Kafka drops by its sequence numbers, and the mock cluster does not."""
    sender, entries = ground.sender(config={"linger.ms": 0}), contract.entries(300, streams=1)
    sender._one_by_one = {None}
    assert Outcome(done=1) == sender.send(contract.batch(entries[:1]))
    sender.close()
    sender._one_by_one = {None}
    kafka_of(ground).fail_requests(UNKNOWN)
    with pytest.raises(Unavailable):
        sender.send(contract.batch(entries[1:]))
    in_flight = 5
    assert len(ground.read(1)) <= 1 + in_flight


def test_what_was_not_sent_when_the_batch_was_given_up_does_not_come_later(ground):
    sender, entries = ground.sender(), contract.entries(50)
    assert Outcome(done=10) == sender.send(contract.batch(entries[:10]))
    ground.proxy.cut()
    sender.connect_timeout = SHORT  # the other time-out is for brokers that can be reached
    with pytest.raises(Unavailable, match=r"the brokers cannot be reached for 0\.5 s"):
        sender.send(contract.batch(entries[10:]))
    ground.proxy.open()
    ground.take_time()
    assert wanted(entries[:10]) == ids(ground.read(10))
    assert Outcome(done=40) == sender.send(contract.batch(entries[10:]))
    assert wanted(entries) == ids(ground.read(50))


def test_lost_answers_mean_repeats_and_nothing_is_claimed(ground):
    sender, entries = ground.sender(), contract.entries(50)
    sender.send(contract.batch(contract.entries(1, first=51)))
    ground.proxy.deafen()
    ground.hurry()
    with pytest.raises(Unavailable, match=r"nothing was reported for 0\.5 s, and 50 messages are open"):
        sender.send(contract.batch(entries))
    ground.proxy.open()
    ground.take_time()
    assert {} == deliver(sender, entries)
    received = ground.read(51)[1:]
    assert set(wanted(entries)) == set(ids(received))
    in_order(entries, received)


def test_after_a_trouble_one_event_is_tried_before_the_others(ground):
    """So that each try gets on by one at least, and repeats one at most."""
    sender, entries = ground.sender(), contract.entries(5)
    for entry in entries:  # so large that each has a request of its own
        entry.payload = '{"text":"%s"}' % ("x" * BATCH_BYTES)
    assert Outcome(done=1) == sender.send(contract.batch(entries[:1]))
    kafka_of(ground).fail_requests(UNKNOWN)
    with pytest.raises(Unavailable):
        sender.send(contract.batch(entries[1:2]))
    kafka_of(ground).fail_requests(UNKNOWN)
    with pytest.raises(Unavailable):
        sender.send(contract.batch(entries[1:]))
    # Of several that are on their way the mock cluster would have taken those behind the one that failed.
    assert wanted(entries[:1]) == ids(ground.read(1))
    assert {} == deliver(sender, entries[1:])
    assert wanted(entries) == ids(ground.read(5))


def test_a_slow_broker_is_waited_for(ground):
    ground.proxy.slow_down(0.02)
    entries = contract.entries(60)
    assert Outcome(done=60) == ground.sender(max_in_flight=10).send(contract.batch(entries))
    ground.proxy.slow_down(0)
    assert wanted(entries) == ids(ground.read(60))


def test_a_producer_that_is_full_is_waited_for(ground):
    entries = contract.entries(60)
    for entry in entries:
        entry.payload = '{"text":"%s"}' % ("x" * 10_000)
    sender = ground.sender(config={"queue.buffering.max.kbytes": 30})
    assert Outcome(done=60) == sender.send(contract.batch(entries))
    assert wanted(entries) == ids(ground.read(60))


def test_a_producer_that_stays_full_is_given_up(ground):
    entries = contract.entries(60)
    for entry in entries:
        entry.payload = '{"text":"%s"}' % ("x" * 10_000)
    sender = ground.sender(config={"queue.buffering.max.kbytes": 30})
    sender.send(contract.batch(entries[:1]))
    ground.proxy.freeze()
    ground.hurry()
    with pytest.raises(Unavailable, match="nothing was reported"):
        sender.send(contract.batch(entries[1:]))
    ground.proxy.open()
    ground.take_time()
    assert {} == deliver(sender, entries[1:])


def test_a_lease_that_ends_while_reports_are_awaited_ends_the_waiting(ground):
    sender, asked = ground.sender(), []

    def at_first() -> bool:
        asked.append(1)
        return len(asked) < 3

    sender.send(contract.batch(contract.entries(1)))
    ground.proxy.freeze()
    with pytest.raises(Unavailable, match="lease"):
        sender.send(contract.batch(contract.entries(5, first=2), still_held=at_first))


def test_the_next_address_of_the_url_is_tried(ground):
    nobody = Proxy("127.0.0.1", 1)
    nobody.close()
    entries = contract.entries(5)
    sender = ground.sender(url=f"127.0.0.1:{nobody.port},{ground.kafka.url}")
    assert {} == deliver(sender, entries)
    assert wanted(entries) == ids(ground.read(5))


def test_threads_share_a_sender(ground):
    sender = ground.sender()
    batches = [contract.entries(100, first=1 + 100 * number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda entries: sender.send(contract.batch(entries)), batches))
    assert [Outcome(done=100)] * 6 == outcomes
    assert {name for entries in batches for name in wanted(entries)} == set(ids(ground.read(600)))


# --- logging in ---


def test_nobody_there_is_said_with_the_reason(ground):
    ground.proxy.cut()
    with pytest.raises(Unavailable, match="refused"):
        ground.sender(connect_timeout=SHORT).send(contract.batch(contract.entries(1)))


def test_a_login_that_fails_is_the_senders_trouble_and_the_password_is_not_told(ground):
    config = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "shop"}
    sender = ground.sender(config={**config, "sasl.password": "s3cret"}, connect_timeout=SHORT)
    with pytest.raises(Unavailable) as caught:
        sender.send(contract.batch(contract.entries(1)))
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r} {sender.options.url_problem()!r}"


def test_options_that_librdkafka_does_not_take_are_the_senders_trouble(ground):
    with pytest.raises(Unavailable, match=r'"no\.such\.option"'):
        ground.sender(config={"no.such.option": 1}).send(contract.batch(contract.entries(1)))


def secure(certificate: str) -> dict[str, str]:
    return {"security.protocol": "SSL", "ssl.ca.location": certificate}


@pytest.mark.needs("openssl")
def test_events_go_by_tls_when_the_certificate_is_right(certificates):
    entries = contract.entries(50)
    config = secure(certificates.here[0])
    with mock_ground(tls=tls_of(certificates.here)) as ground:
        assert Outcome(done=50) == ground.sender(config=config).send(contract.batch(entries))
        assert wanted(entries) == ids(ground.read(50, config=config))


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("shown, trusted", [("elsewhere", "elsewhere"), ("here", "elsewhere")])
def test_a_certificate_of_another_name_or_of_nobody_known_ends_the_connection(certificates, shown, trusted):
    with mock_ground(tls=tls_of(getattr(certificates, shown))) as ground:
        config = secure(getattr(certificates, trusted)[0])
        sender = ground.sender(config=config, connect_timeout=SHORT)
        with pytest.raises(Unavailable, match="certificate"):
            sender.send(contract.batch(contract.entries(1)))


def test_the_snippets_of_the_guide_send_and_read(ground, monkeypatch):
    settings, fenced, read, login = (block.text for block in blocks(DOCS / "guides" / "kafka.md", language="python"))
    monkeypatch.setenv("KAFKA_PASSWORD", "s3cret")
    scope: dict[str, Any] = {"os": os}
    for snippet in (settings, fenced, read, login):
        exec(snippet, scope)
    [options] = [consumer["OPTIONS"] for consumer in scope["EVENTSTORE"]["CONSUMERS"].values()]
    assert [] == KafkaSender(**options).check()
    del scope["config"]["ssl.ca.location"]  # no such file here
    assert [] == KafkaSender(**options, config=scope["config"]).check()
    entry = contract.entries(1)[0]
    entry.type = "orders.OrderPlaced"
    sender = ground.sender(**{**scope["OPTIONS"], "topic": ground.topic, "url": ground.kafka.url})
    assert Outcome(done=1) == sender.send(contract.batch([entry]))
    [message] = ground.read(1)
    assert (str(entry.event_id), "orders.OrderPlaced", entry.stream, {"n": 1}) == scope["read"](message)
