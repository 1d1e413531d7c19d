"""RabbitMQSender on a real RabbitMQ, through a proxy that cuts, freezes and loses answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import amqp
import celery
import pytest
from cloudevents.core.bindings import rabbitmq as binding

from django_eventstore import Outcome
from django_eventstore.exceptions import PermanentError, Unavailable
from django_eventstore.senders.rabbitmq import RabbitMQSender
from django_eventstore.senders.rabbitmq import sender as sender_module
from django_eventstore.testing.contracts import LOG, Arrival, ContractEntry, SenderContract
from tests.documentation import DOCS, blocks
from tests.servers.certificates import tls_of
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQNode, connect
from tests.services.broker import SHORT, Broker, ids, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("rabbitmq")]


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


contract = SenderContract()


class RabbitMQContract(SenderContract):
    patience = timedelta(seconds=12)
    options: dict[str, object] = {}
    queue_arguments: dict[str, object] = {}

    @pytest.fixture(autouse=True)
    def _broker(self, broker: Broker) -> None:
        self.broker = broker
        broker.queue(**self.queue_arguments)

    def make_sender(self) -> RabbitMQSender:
        return self.broker.sender(**self.options)

    def arrivals(self, atleast: int) -> list[Arrival]:
        return [
            Arrival(str(message.properties["message_id"]), self.payload(message))
            for message in self.broker.read(atleast)
        ]

    def payload(self, message: amqp.Message) -> str:
        return bytes(message.body).decode()

    def refusable(self, entry: ContractEntry) -> ContractEntry:
        entry.type = "contract." + "x" * 300  # a routing key longer than AMQP has room for
        return entry

    def take_away(self) -> None:
        self.broker.proxy.cut()

    def freeze(self) -> None:
        self.broker.proxy.freeze()

    def bring_back(self) -> None:
        self.broker.proxy.open()


class TestRabbitMQSender(RabbitMQContract):
    pass


class TestRabbitMQSenderToAQuorumQueue(RabbitMQContract):
    queue_arguments = {"x-queue-type": "quorum"}
    many = 600


class TestRabbitMQSenderWithStructuredEvents(RabbitMQContract):
    options = {"format": "structured", "max_in_flight": 7}
    many = 300

    def payload(self, message: amqp.Message) -> str:
        # The data is the last member, byte for byte as it was recorded.
        return bytes(message.body).decode().partition(',"data":')[2][:-1]


def test_an_event_that_no_queue_is_bound_for_is_refused_and_the_others_are_not(broker):
    broker.queue("contract.#")
    entries = contract.entries(300, streams=300)
    for number in (0, 150, 299):
        entries[number].type = "elsewhere.Happened"
    outcome = broker.sender().send(contract.batch(entries))
    assert (300, {1, 151, 300}) == (outcome.done, set(outcome.refused))
    assert "no queue is bound" in str(outcome.refused[151])
    assert "elsewhere.Happened" in str(outcome.refused[151])
    bound = [entry for entry in entries if entry.type.startswith("contract")]
    assert wanted(bound) == ids(broker.read(297))


def test_nothing_of_a_stream_arrives_before_what_was_refused_of_it(broker):
    """Returned by the broker: and what is behind it in its stream is not even sent."""
    queue = broker.queue("contract.#")
    entries = contract.entries(6, streams=2)
    entries[1].type = "elsewhere.Happened"
    outcome = broker.sender().send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert [str(entries[number].event_id) for number in (0, 2, 4)] == ids(broker.read(3, queue))


def test_large_events_that_are_returned_are_refused_and_do_not_clog_the_connection(broker):
    entries = contract.entries(40, streams=40)
    for entry in entries:
        entry.payload = '{"text":"%s"}' % ("x" * 1_000_000)
    outcome = broker.sender().send(contract.batch(entries))
    assert (40, 40) == (outcome.done, len(outcome.refused))


def test_without_mandatory_the_broker_drops_what_has_no_queue(broker):
    broker.queue("contract.#")
    entries = contract.entries(3)
    entries[1].type = "elsewhere.Happened"
    assert Outcome(done=3) == broker.sender(mandatory=False).send(contract.batch(entries))
    assert wanted([entries[0], entries[2]]) == ids(broker.read(2))


def test_exchange_and_routing_key_are_made_of_the_event(broker):
    broker.queue("orders.*.order-1")
    entries = contract.entries(2)
    entries[0].stream, entries[0].type, entries[0].version = "order-1", "orders.OrderPlaced", 3
    entries[1].stream = "order-2"
    exchange, key = broker.name.replace("test", "{type}"), "orders.v{version}.{stream}"
    for type_ in ("orders.OrderPlaced", "contract.Happened"):
        broker.channel.exchange_declare(broker.name.replace("test", type_), "topic", durable=True, auto_delete=True)
    broker.channel.queue_bind(broker.queues[0], broker.name.replace("test", "orders.OrderPlaced"), "orders.v3.order-1")
    outcome = broker.sender(exchange=exchange, routing_key=key).send(contract.batch(entries))
    assert (2, {2}) == (outcome.done, set(outcome.refused))
    assert wanted(entries[:1]) == ids(broker.read(1))
    broker.channel.exchange_delete(broker.name.replace("test", "contract.Happened"))


def test_the_message_says_what_it_is_and_the_sdk_reads_it(broker):
    broker.queue()
    entry = contract.entries(1)[0]
    entry.correlation_id, entry.stream = "request-1", "commande n° 1 \U0001f9fe"
    broker.sender(headers={"tenant": "north"}, source="https://shop.example/log").send(contract.batch([entry]))
    message = broker.read(1)[0]
    properties = message.properties
    assert {
        "content_type": "application/json",
        "delivery_mode": 2,
        "message_id": str(entry.event_id),
        "type": "contract.Happened",
        "timestamp": int(entry.timestamp.timestamp()),
        "correlation_id": "request-1",
    } == {name: value for name, value in properties.items() if name != "application_headers"}
    assert "north" == message.headers["tenant"]
    event = binding.from_rabbitmq_event(
        binding.RabbitMQMessage(message.headers, properties["content_type"], bytes(message.body))
    )
    assert (str(entry.event_id), "https://shop.example/log") == (event.get_id(), event.get_source())
    assert (entry.stream, {"n": 1}) == (event.get_subject(), event.get_data())
    assert "0000000000000000001" == event.get_extension("sequence")


def test_the_default_exchange_leads_to_a_queue_by_its_name(broker):
    queue = broker.queue()
    entries = contract.entries(3)
    assert Outcome(done=3) == broker.sender(exchange="", routing_key=queue).send(contract.batch(entries))
    assert wanted(entries) == ids(broker.read(3))


def test_an_exchange_that_is_missing_is_the_senders_trouble_and_is_named(broker):
    entries = contract.entries(3)
    sender = broker.sender(exchange="eventstore-test-missing")
    with pytest.raises(Unavailable, match="eventstore-test-missing"):
        sender.send(contract.batch(entries))
    with pytest.raises(Unavailable, match="eventstore-test-missing"):
        sender.send(contract.batch(entries[:1]))


def test_an_exchange_that_is_deleted_meanwhile_is_the_senders_trouble(broker):
    broker.queue()
    sender = broker.sender()
    entries = contract.entries(500)
    assert Outcome(done=10) == sender.send(contract.batch(entries[:10]))
    broker.channel.exchange_delete(broker.name)
    for _ in range(3):
        with pytest.raises(Unavailable):
            sender.send(contract.batch(entries[10:]))
    broker.channel.exchange_declare(broker.name, "topic", durable=True, auto_delete=False)
    broker.channel.queue_bind(broker.queues[0], broker.name, "#")
    assert Outcome(done=490) == sender.send(contract.batch(entries[10:]))


def test_an_exchange_of_another_kind_is_the_senders_trouble_and_blames_no_event(broker):
    broker.queue()
    sender = broker.sender(declare=True, exchange_type="fanout")
    for entries in (contract.entries(5), contract.entries(1)):
        with pytest.raises(Unavailable, match="RabbitMQ: exchange '"):
            sender.send(contract.batch(entries))


def test_the_event_that_is_on_its_way_is_not_blamed_for_the_exchange_of_the_next(broker):
    broker.queue()
    # The first is refused here, so that the second is still unanswered when the third's exchange is declared.
    entries = contract.entries(3)
    entries[0].payload = '{"text":"%s"}' % ("x" * 5_000)
    for entry, letter in zip(entries, "aab", strict=True):
        entry.type = f"{letter}.Happened"
    names = [f"{broker.name}-a.Happened", f"{broker.name}-b.Happened"]
    broker.channel.exchange_declare(names[0], "topic", durable=True, auto_delete=False)
    broker.channel.exchange_declare(names[1], "fanout", durable=True, auto_delete=False)
    broker.channel.queue_bind(broker.queues[0], names[0], "#")
    sender = broker.sender(exchange=f"{broker.name}-{{type}}", declare=True, max_bytes=5_000)
    outcome = sender.send(contract.batch(entries))
    assert {1} == set(outcome.refused)
    with pytest.raises(Unavailable, match="exchange"):
        sender.send(contract.batch(entries[2:]))
    for name in names:
        broker.channel.exchange_delete(name)


def test_an_exchange_is_declared_when_that_is_asked_for(broker):
    name = f"{broker.name}-declared"
    queue = broker.queue()
    entries = contract.entries(2)
    sender = broker.sender(exchange=name, declare=True, exchange_type="fanout", mandatory=False)
    assert Outcome(done=1) == sender.send(contract.batch(entries[:1]))
    broker.channel.queue_bind(queue, name, "")
    assert Outcome(done=1) == sender.send(contract.batch(entries[1:]))
    assert wanted(entries[1:]) == ids(broker.read(1))
    broker.channel.exchange_delete(name)


def test_wrong_credentials_are_the_senders_trouble_and_the_password_is_not_told(broker):
    sender = broker.sender(url=broker.url.replace("guest:guest", "guest:s3cret"))
    with pytest.raises(Unavailable) as caught:
        sender.send(contract.batch(contract.entries(1)))
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value.__cause__)


def test_a_virtual_host_that_is_missing_is_the_senders_trouble(broker):
    with pytest.raises(Unavailable):
        broker.sender(url=broker.url[:-1] + "missing").send(contract.batch(contract.entries(1)))


def test_a_queue_that_is_full_makes_the_consumer_wait_and_loses_nothing(broker):
    queue = broker.queue(**{"x-max-length": 5, "x-overflow": "reject-publish"})
    entries, sender, done, reasons = contract.entries(40), broker.sender(), 0, set()
    while done < 40:
        try:
            outcome = sender.send(contract.batch(entries[done:]))
        except Unavailable as error:
            reasons.add(str(error))
            broker.read(len(broker.got) + 1, queue)
        else:
            assert {} == outcome.refused
            done += outcome.done
    assert reasons
    assert {True} == {"is a queue full?" in reason for reason in reasons}
    received = ids(broker.read(40, queue))
    assert set(wanted(entries)) == set(received)
    assert wanted(entries) == list(dict.fromkeys(received))


def test_a_queue_that_is_full_refuses_its_events_alone_when_that_is_asked_for(broker):
    broker.queue("contract.#", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    other = broker.queue("elsewhere.#")
    entries = contract.entries(60, streams=60)
    for entry in entries[1::2]:
        entry.type = "elsewhere.Happened"
    outcome = broker.sender(nacked="refuse").send(contract.batch(entries))
    assert 60 == outcome.done
    assert set(outcome.refused) <= {entry.position for entry in entries[::2]}
    assert len(outcome.refused) > 10
    assert wanted(entries[1::2]) == ids(broker.read(30, other))


def test_after_a_trouble_one_event_is_tried_before_the_others(broker):
    """So that a queue which stays full costs one repeat with each try, and not a batch of them."""
    broker.queue("contract.#", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    other = broker.queue("elsewhere.#")
    entries = contract.entries(60)
    for entry in entries[30:]:
        entry.type = "elsewhere.Happened"
    sender = broker.sender()
    done = sender.send(contract.batch(entries)).done
    for _ in range(5):
        with pytest.raises(Unavailable):
            sender.send(contract.batch(entries[done:]))
    assert len(broker.read(0, other)) <= 30


def test_lost_answers_mean_repeats_and_nothing_is_claimed(broker):
    broker.queue()
    entries = contract.entries(50, streams=50)
    sender = broker.sender()
    sender.send(contract.batch(contract.entries(1, first=51)))
    broker.proxy.deafen()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="nothing was confirmed for 2 s, and 50 messages are open"):
        sender.send(contract.batch(entries))
    assert time.monotonic() - began < 20
    broker.proxy.open()
    assert Outcome(done=50) == sender.send(contract.batch(entries))
    received = ids(broker.read(101))[1:]
    assert [*wanted(entries), *wanted(entries)] == received


def test_a_slow_broker_is_waited_for(broker):
    broker.queue()
    broker.proxy.slow_down(0.05)
    entries = contract.entries(200)
    assert Outcome(done=200) == broker.sender(max_in_flight=20).send(contract.batch(entries))
    assert wanted(entries) == ids(broker.read(200))


def test_a_connection_that_ended_while_it_was_idle_is_not_noticed(broker):
    broker.queue()
    sender = broker.sender()
    assert Outcome(done=5) == sender.send(contract.batch(contract.entries(5)))
    broker.proxy.cut()
    broker.proxy.open()
    time.sleep(0.1)
    assert Outcome(done=5) == sender.send(contract.batch(contract.entries(5, first=6)))


def test_the_next_host_of_the_url_is_tried(broker):
    broker.queue()
    nobody = Proxy("127.0.0.1", 1)
    nobody.close()
    url = f"amqp://guest:guest@127.0.0.1:{nobody.port}//;{broker.url}"
    entries = contract.entries(5)
    assert Outcome(done=5) == broker.sender(url=url).send(contract.batch(entries))
    assert wanted(entries) == ids(broker.read(5))


def test_events_that_are_too_large_are_refused_before_they_are_sent(broker):
    broker.queue()
    entries = contract.entries(3)
    entries[1].payload = '{"text":"%s"}' % ("x" * 5_000)
    outcome = broker.sender(max_bytes=5_000).send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))
    assert isinstance(outcome.refused[2], PermanentError)
    assert wanted([entries[0], entries[2]]) == ids(broker.read(2))


def test_a_stream_that_is_no_attribute_refuses_its_event(broker):
    broker.queue()
    entries = contract.entries(3)
    entries[1].stream = "line\nbreak"
    outcome = broker.sender().send(contract.batch(entries))
    assert (3, {2}) == (outcome.done, set(outcome.refused))


def test_a_long_correlation_id_is_left_to_the_header(broker):
    broker.queue()
    entry = contract.entries(1)[0]
    entry.correlation_id = "é" * 200
    assert Outcome(done=1) == broker.sender().send(contract.batch([entry]))
    message = broker.read(1)[0]
    assert ("é" * 200, False) == (message.headers["ce-correlationid"], "correlation_id" in message.properties)


def test_plain_json_is_an_option(broker):
    broker.queue()
    entry = contract.entries(1)[0]
    broker.sender(format="json").send(contract.batch([entry]))
    message = broker.read(1)[0]
    body = json.loads(message.body)
    assert (str(LOG), 1, 1, {"n": 1}) == (body["log"], body["epoch"], body["position"], body["payload"])
    assert {} == (message.headers or {})


def test_threads_share_a_sender(broker):
    broker.queue()
    sender = broker.sender()
    batches = [contract.entries(100, first=1 + 100 * number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda entries: sender.send(contract.batch(entries)), batches))
    assert [Outcome(done=100)] * 6 == outcomes
    assert {name for entries in batches for name in wanted(entries)} == set(ids(broker.read(600)))


def test_the_broker_of_celery_is_used_when_no_other_is_named(broker, monkeypatch):
    broker.queue()
    app = celery.Celery("shop", broker=broker.url, set_as_current=False)
    monkeypatch.setattr(sender_module, "current_app", app)
    entries = contract.entries(5)
    sender = broker.sender(url=None)
    assert [] == sender.check()
    assert Outcome(done=5) == sender.send(contract.batch(entries))
    assert wanted(entries) == ids(broker.read(5))


@pytest.fixture
def node(server_directory) -> Iterator[RabbitMQNode]:
    node = RabbitMQNode(server_directory / "rabbitmq", settings={"max_message_size": 20_000})
    node.start()
    yield node
    node.delete()


class Ground:
    """An exchange and a quorum queue on a private node, and what was received from them."""

    def __init__(self, node: RabbitMQNode) -> None:
        self.node = node
        self.declare()
        self.sender = RabbitMQSender(
            exchange="orders", url=node.url, timeout=SHORT, connect_timeout=SHORT, routing_key="{stream}"
        )

    def declare(self) -> None:
        with connect(self.node.url) as connection:
            channel = connection.channel()
            channel.exchange_declare("orders", "topic", durable=True, auto_delete=False)
            channel.queue_declare("orders", durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
            channel.queue_bind("orders", "orders", "#")

    def received(self) -> list[str]:
        with connect(self.node.url) as connection:
            channel = connection.channel()
            return ids(list(iter(lambda: channel.basic_get("orders", no_ack=True), None)))

    def deliver(self, entries: list[ContractEntry], *, disturb=lambda: None, repair=lambda: None) -> None:
        """As the loop does it. Disturbs in the middle, and repairs after the first error."""
        asked, done, repaired, deadline = [], 0, False, time.monotonic() + 120

        def still_held() -> bool:
            asked.append(1)
            if len(asked) == 5:
                disturb()
            return True

        while done < len(entries) and time.monotonic() < deadline:
            try:
                outcome = self.sender.send(contract.batch(entries[done:], still_held=still_held))
            except Unavailable:
                if not repaired:
                    repair()
                repaired = True
                time.sleep(0.1)
            else:
                assert {} == outcome.refused
                done += outcome.done
        assert len(entries) == done


@pytest.mark.long
@pytest.mark.needs("rabbitmq-binaries")
def test_a_node_that_is_stopped_killed_frozen_and_emptied_gets_every_event(node):
    ground, sent = Ground(node), []

    def entries(first: int) -> list[ContractEntry]:
        sent.extend(contract.entries(2_000, first=first, streams=20))
        return sent[-2_000:]

    ground.deliver(entries(1), disturb=node.stop, repair=node.start)
    ground.deliver(entries(2_001), disturb=node.kill, repair=node.start)
    ground.deliver(entries(4_001), disturb=node.freeze, repair=node.thaw)
    received = ground.received()
    assert set(wanted(sent)) == set(received)
    contract.first_come_in_order(sent, [Arrival(name, "{}") for name in received])
    # One batch in flight at each of the three: what is repeated is bounded.
    assert len(received) - len(sent) <= 3 * 1_000

    # A message that the broker will never take is found, and it alone is refused.
    bad = contract.entries(9, first=6_001)
    bad[4].payload = '{"text":"%s"}' % ("x" * 30_000)
    outcomes, done = [], 0
    while done < 9:
        with suppress(Unavailable):
            outcomes.append(ground.sender.send(contract.batch(bad[done:])))
            done += outcomes[-1].done
    assert {6_005} == {position for outcome in outcomes for position in outcome.refused}
    assert {name for name in wanted(bad) if name != str(bad[4].event_id)} == set(ground.received())

    # Restarted with nothing in it: the exchange is gone, which is nobody's fault but the sender's.
    node.stop()
    node.forget()
    node.start()
    last = contract.entries(5, first=7_001)
    with pytest.raises(Unavailable, match="orders"):
        ground.sender.send(contract.batch(last))
    ground.declare()
    ground.deliver(last)
    assert wanted(last) == ground.received()
    ground.sender.close()


def test_the_snippets_of_the_guide_declare_send_and_read(broker):
    settings, declare, read = (block.text for block in blocks(DOCS / "guides" / "rabbitmq.md", language="python"))
    queue = f"{broker.name}-guide"
    broker.queues.append(queue)
    exec(
        declare.replace('"warehouse"', repr(queue)).replace('"orders"', repr(broker.name)), {"channel": broker.channel}
    )
    scope: dict[str, Any] = {}
    exec(settings, scope)
    exec(read, scope)
    [options] = [consumer["OPTIONS"] for consumer in scope["EVENTSTORE"]["CONSUMERS"].values()]
    entry = contract.entries(1)[0]
    entry.type = "orders.OrderPlaced"
    assert Outcome(done=1) == broker.sender(**{**options, "exchange": broker.name}).send(contract.batch([entry]))
    [message] = broker.read(1)
    assert (str(entry.event_id), "orders.OrderPlaced", entry.stream, {"n": 1}) == scope["read"](message)


@pytest.fixture
def encrypted(broker, certificates) -> Iterator[Callable[..., str]]:
    """``encrypted(certificate)`` is the URL of the broker behind TLS with it."""
    proxies: list[Proxy] = []

    def make(certificate: tuple[str, str]) -> str:
        proxies.append(Proxy("127.0.0.1", broker.proxy.port, tls=tls_of(certificate)))
        return f"amqps://guest:guest@127.0.0.1:{proxies[-1].port}//"

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.mark.needs("openssl")
def test_events_go_by_tls_when_the_certificate_is_right(broker, certificates, encrypted):
    broker.queue()
    entries = contract.entries(2_000, streams=2_000)
    entries[7].payload = '{"text":"%s"}' % ("x" * 1_000_000)
    sender = broker.sender(url=encrypted(certificates.here), tls={"ca_certs": certificates.here[0]})
    assert Outcome(done=2_000) == sender.send(contract.batch(entries))
    assert wanted(entries) == ids(broker.read(2_000))


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("trusted", ["here", None])
def test_a_certificate_that_is_not_trusted_is_the_senders_trouble(broker, certificates, encrypted, trusted):
    tls = {"ca_certs": certificates.here[0]} if trusted else None
    with pytest.raises(Unavailable, match=r"(?i)certificate.verify.failed"):
        broker.sender(url=encrypted(certificates.elsewhere), tls=tls).send(contract.batch(contract.entries(1)))


@pytest.mark.needs("openssl")
def test_a_certificate_of_another_name_is_the_senders_trouble(broker, certificates, encrypted):
    sender = broker.sender(url=encrypted(certificates.elsewhere), tls={"ca_certs": certificates.elsewhere[0]})
    with pytest.raises(Unavailable, match=r"mismatch|not valid for"):
        sender.send(contract.batch(contract.entries(1)))


@pytest.mark.needs("openssl")
def test_a_frozen_broker_behind_tls_is_found_as_well(broker, certificates, encrypted):
    broker.queue()
    url = encrypted(certificates.here)
    sender = broker.sender(url=url, tls={"ca_certs": certificates.here[0]})
    assert Outcome(done=5) == sender.send(contract.batch(contract.entries(5)))
    broker.proxy.freeze()
    for _ in range(2):  # by the connection there is, and by a new one
        began = time.monotonic()
        with pytest.raises(Unavailable):
            sender.send(contract.batch(contract.entries(5, first=6)))
        assert time.monotonic() - began < 20
    broker.proxy.open()
    contract.send_all(sender, contract.entries(5, first=6))
