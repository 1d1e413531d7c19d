"""One trace from end to end: request, event, handler, the handler's event, a message of RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from django_eventstore import handles, record
from django_eventstore.forwarding import forward_all, forwarder
from tests.services.broker import SHORT, Broker
from tests.shop.events import OrderCancelled
from tests.telemetry.spans import Spans, links, named, parent, place, traced

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.needs("rabbitmq")]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def cancel(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        record(OrderCancelled(order_id=1, reason="test"), stream="order-1")
    return HttpResponse("cancelled")


urlpatterns = [path("cancel", cancel)]


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    accounting = {
        "SENDER": "django_eventstore.senders.rabbitmq.RabbitMQSender",
        "OPTIONS": {"exchange": broker.name, "url": broker.url, "timeout": SHORT, "connect_timeout": SHORT},
        "EVENTS": ["shop.Refunded"],
        "START": "beginning",
    }
    with override_settings(
        EVENTSTORE={"CONSUMERS": {"accounting": accounting}},
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[*settings.MIDDLEWARE, "django_eventstore.recording.EventContextMiddleware"],
    ):
        yield broker
    for each in forwarder._forwarders.values():
        each.sender.close()
    broker.close()


@pytest.fixture
def spans() -> Iterator[Spans]:
    with traced() as spans:
        yield spans


def forward_everything() -> None:
    @handles(OrderCancelled, name="refund", start="beginning")
    def refund(event: OrderCancelled) -> None:
        record("shop.Refunded", {"order_id": event.order_id}, stream="order-1")

    response = Client().get("/cancel", headers={"traceparent": TRACE, "X-Correlation-ID": "c-1"})
    assert 200 == response.status_code
    while forward_all().delivered:
        pass


def test_request_event_handler_child_event_and_message_are_linked(broker: Broker, spans: Spans) -> None:
    broker.queue("shop.#")

    forward_everything()

    cancelled, handled = spans["record shop.OrderCancelled"], spans["handle refund"]
    refunded, sent = spans["record shop.Refunded"], spans["send accounting"]
    assert named(TRACE) == parent(cancelled)
    assert [place(cancelled)] == links(handled)
    assert place(handled) == parent(refunded)
    assert [place(refunded)] == links(sent)
    [message] = broker.read(1)
    headers = message.properties["application_headers"]
    assert place(refunded) == named(headers["ce-traceparent"])
    assert "c-1" == headers["ce-correlationid"]
    # The handler's work is a trace of its own: it comes whenever the forwarder does.
    assert place(refunded)[0] == place(handled)[0] != place(cancelled)[0]


def test_without_a_tracer_the_trace_of_the_request_arrives_as_it_was(broker: Broker) -> None:
    broker.queue("shop.#")

    forward_everything()

    [message] = broker.read(1)
    headers = message.properties["application_headers"]
    assert (TRACE, "c-1") == (headers["ce-traceparent"], headers["ce-correlationid"])
