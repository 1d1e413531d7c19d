"""CelerySender by way of a real RabbitMQ: what a worker would get."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import amqp
import celery
import kombu
import pytest

from django_eventstore import Outcome
from django_eventstore.exceptions import Unavailable
from django_eventstore.senders import celery as sender_module
from django_eventstore.senders.celery import CelerySender
from django_eventstore.testing.contracts import LOG, Arrival, SenderContract
from tests.services.broker import Broker

pytestmark = [pytest.mark.no_database, pytest.mark.needs("rabbitmq")]

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
contract = SenderContract()


@pytest.fixture
def broker(monkeypatch):
    broker = Broker()
    app = celery.Celery("shop", broker=broker.url, set_as_current=False)
    app.conf.task_default_queue = broker.queue()
    monkeypatch.setattr(sender_module, "current_app", app)
    yield broker
    app.close()
    broker.close()


def sender_of(broker: Broker, **options: object) -> CelerySender:
    sender = CelerySender(**{"task": "shop.refund", "timeout": timedelta(seconds=2), **options})
    broker.senders.append(sender)  # type: ignore[arg-type]
    return sender


def arguments(message: amqp.Message) -> list[object]:
    return json.loads(message.body)[0]


class TestCelerySender(SenderContract):
    patience = timedelta(seconds=12)
    many = 300
    # Tasks run side by side: no order is promised.
    test_each_stream_arrives_in_its_order = None

    @pytest.fixture(autouse=True)
    def _broker(self, broker):
        self.broker = broker

    def make_sender(self):
        return sender_of(self.broker, max_bytes=3_000_000)

    def arrivals(self, atleast):
        return [
            Arrival(event["event_id"], json.dumps(event["payload"], separators=(",", ":"), ensure_ascii=False))
            for event in (arguments(message)[0] for message in self.broker.read(atleast))
        ]

    def refusable(self, entry):
        entry.payload = '{"text":"%s"}' % ("x" * 3_000_000)
        return entry

    def take_away(self):
        self.broker.proxy.cut()

    def freeze(self):
        self.broker.proxy.freeze()

    def bring_back(self):
        self.broker.proxy.open()

    def test_any_text_arrives_as_it_is(self):
        """As values, that is: Celery's serializer writes a text of its own."""
        entry = self.entries(1)[0]
        entry.payload = '{"text":"ñ 漢字 \U0001f9fe \\u00e9\\n","number":1.10,"big":12345678901234567890123}'
        assert Outcome(done=1) == self.make_sender().send(self.batch([entry]))
        [message] = self.broker.read(1)
        assert json.loads(entry.payload) == arguments(message)[0]["payload"]


def test_a_task_gets_what_the_api_shows_of_its_event(broker):
    entry = contract.entries(1)[0]
    sender_of(broker).send(contract.batch([entry]))
    [message] = broker.read(1)
    [event] = arguments(message)
    assert "shop.refund" == message.headers["task"]
    assert (str(LOG), 1, 1, "contract.Happened", {"n": 1}) == (
        event["log"],
        event["epoch"],
        event["position"],
        event["type"],
        event["payload"],
    )


def test_trace_and_cause_are_in_headers(broker):
    entry = contract.entries(1)[0]
    entry.metadata, entry.correlation_id = f'{{"traceparent":"{TRACE}"}}', "request-1"
    sender_of(broker).send(contract.batch([entry]))
    headers = broker.read(1)[0].headers
    assert TRACE == headers["traceparent"]
    assert {
        "correlation_id": "request-1",
        "causation_id": str(entry.event_id),
        "traceparent": TRACE,
    } == json.loads(headers["eventstore_context"])


def test_an_event_has_the_same_task_id_each_time_and_another_one_for_another_task(broker):
    entry = contract.entries(1)[0]
    for task in ("shop.refund", "shop.refund", "shop.mail"):
        sender_of(broker, task=task).send(contract.batch([entry]))
    first, again, other = (message.headers["id"] for message in broker.read(3))
    assert (True, False) == (first == again, first == other)
    assert UUID(first)


def test_the_name_of_the_task_may_be_made_of_the_type(broker):
    sender_of(broker, task="handle.{type}").send(contract.batch(contract.entries(1)))
    assert "handle.contract.Happened" == broker.read(1)[0].headers["task"]


def test_a_batch_can_be_one_task_without_what_is_refused(broker):
    entries = contract.entries(5)
    entries[2].payload = '{"text":"%s"}' % ("x" * 5_000)
    outcome = sender_of(broker, batch=True, max_bytes=5_000).send(contract.batch(entries))
    assert (5, {3}) == (outcome.done, set(outcome.refused))
    [message] = broker.read(1)
    assert [1, 2, 4, 5] == [event["position"] for event in arguments(message)[0]]


def test_priority_and_expiry_are_the_messages(broker):
    sender_of(broker, priority=7, expires=timedelta(hours=1)).send(contract.batch(contract.entries(1)))
    [message] = broker.read(1)
    assert 7 == message.properties["priority"]
    assert message.headers["expires"] is not None


def test_a_queue_that_is_full_makes_the_consumer_wait(broker):
    full = broker.queue(**FULL)
    queues = [kombu.Queue(full, kombu.Exchange(full), full, queue_arguments=FULL)]
    sender_module.current_app.conf.task_queues = queues
    sender = sender_of(broker, queue=full)
    outcome = sender.send(contract.batch(contract.entries(5)))
    assert (True, {}) == (1 <= outcome.done < 5, outcome.refused)
    with pytest.raises(Unavailable, match="Nacked"):
        sender.send(contract.batch(contract.entries(1)))


@pytest.mark.parametrize(
    "options",
    [{"task": ""}, {"task": "{stream}"}, {"task": "a.{type}", "batch": True}, {"timeout": 3}, {"max_bytes": 0}],
)
def test_a_wrong_option_is_an_error(options):
    with pytest.raises(ValueError, match=next(iter(options.keys()))):
        CelerySender(**{"task": "shop.refund", **options})
