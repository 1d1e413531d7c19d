"""Spans of record, forward, send and handle, and what links them across the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.db import transaction
from opentelemetry.trace import SpanKind, StatusCode

from django_eventstore import Batch, EventSender, Outcome, event_context, handles, record
from django_eventstore.exceptions import EventEncodingError
from django_eventstore.forwarding import forward_all
from django_eventstore.models import EventEntry
from django_eventstore.recording import drain_after_commit
from django_eventstore.recording.record import record_each
from django_eventstore.telemetry.opentelemetry import OpenTelemetryTracer
from django_eventstore.tracing import set_tracer
from tests.conftest import Spawn
from tests.delivery import clean_process, forwarder_of, retry_now
from tests.shop.events import OrderCancelled, OrderPlaced
from tests.telemetry.spans import Spans, links, named, parent, place, traced

__all__ = ["clean_process"]

pytestmark = pytest.mark.django_db(transaction=True)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Accepting(EventSender):
    def send(self, batch: Batch) -> Outcome:
        return Outcome(done=len(batch.entries))


class Gone(EventSender):
    def send(self, batch: Batch) -> Outcome:
        raise ConnectionError("gone")


@pytest.fixture
def spans() -> Iterator[Spans]:
    with traced() as spans:
        yield spans


def cancel(number: int = 1, *, stream: str = "order-1") -> None:
    with transaction.atomic():
        record(OrderCancelled(order_id=number, reason="test"), stream=stream)


def carried(type: str = "shop.OrderCancelled") -> list[dict[str, str]]:
    """The metadata of the recorded events of this type."""
    entries = EventEntry.objects.filter(type=type).order_by("id")
    return [json.loads(text) for text in entries.values_list("metadata", flat=True)]


def test_an_event_carries_the_span_of_its_record(spans: Spans) -> None:
    with spans.provider.get_tracer("test").start_as_current_span("request"):
        cancel()

    span = spans["record shop.OrderCancelled"]
    assert [place(span)] == [named(metadata["traceparent"]) for metadata in carried()]
    assert place(spans["request"]) == parent(span)
    assert SpanKind.PRODUCER is span.kind
    assert {
        "messaging.system": "django_eventstore",
        "messaging.operation.name": "record",
        "messaging.operation.type": "create",
        "messaging.destination.name": "shop.OrderCancelled",
        "messaging.message.id": str(EventEntry.objects.get().event_id),
    } == dict(span.attributes or {})


def test_where_no_span_is_open_the_trace_of_the_context_goes_on(spans: Spans) -> None:
    with event_context(traceparent=TRACE, actor="ada"):
        cancel()

    assert named(TRACE) == parent(spans["record shop.OrderCancelled"])
    [metadata] = carried()
    assert (place(spans["record shop.OrderCancelled"]), "ada") == (named(metadata["traceparent"]), metadata["actor"])


def test_the_open_span_counts_more_than_the_context(spans: Spans) -> None:
    with event_context(traceparent=TRACE), spans.provider.get_tracer("test").start_as_current_span("request"):
        cancel()

    assert place(spans["request"]) == parent(spans["record shop.OrderCancelled"])


def test_several_events_of_a_call_have_one_span(spans: Spans) -> None:
    with transaction.atomic():
        record(OrderCancelled(order_id=1, reason=""), OrderPlaced(order_id=2, total=Decimal(1)))
        record_each([(OrderCancelled(order_id=3, reason=""), "a"), (("shop.Else", {}), "b")], using="default")

    both = spans.all("record")
    assert [2, 2] == [(span.attributes or {})["messaging.batch.message_count"] for span in both]
    assert [place(span) for span in both] == [named(metadata["traceparent"]) for metadata in carried()]


def test_what_cannot_be_recorded_is_an_error_of_the_span(spans: Spans) -> None:
    with pytest.raises(EventEncodingError), transaction.atomic():
        record("shop.OrderPlaced", {"total": float("nan")})

    assert StatusCode.ERROR is spans["record"].status.status_code


def test_a_handler_is_linked_to_where_its_event_was_recorded(spans: Spans) -> None:
    @handles(OrderCancelled, name="refund", start="beginning")
    def refund(event: OrderCancelled) -> None:
        record("shop.Refunded", {"order_id": event.order_id})

    with event_context(traceparent=TRACE):
        cancel()
    forward_all()

    recorded, forwarded, handled = (
        spans[name] for name in ("record shop.OrderCancelled", "forward refund", "handle refund")
    )
    assert [place(recorded)] == links(forwarded) == links(handled)
    assert (None, place(forwarded)) == (parent(forwarded), parent(handled))
    assert place(recorded)[0] != place(handled)[0]
    assert place(handled) == parent(spans["record shop.Refunded"])
    assert (SpanKind.CONSUMER, SpanKind.CONSUMER) == (forwarded.kind, handled.kind)
    assert ("refund", 1) == tuple(
        (forwarded.attributes or {})[f"messaging.{name}"] for name in ("consumer.group.name", "batch.message_count")
    )
    assert not spans.all("send refund")


def test_a_handler_that_raises_is_an_error_of_its_span_each_time(spans: Spans) -> None:
    @handles(OrderCancelled, name="refund", start="beginning")
    def refund(event: OrderCancelled) -> None:
        raise ZeroDivisionError

    cancel()
    forward_all()
    retry_now("refund")
    forward_all()

    assert [StatusCode.ERROR] * 2 == [span.status.status_code for span in spans.all("handle refund")]
    assert 2 == len(spans.all("forward refund"))


def test_a_batch_is_linked_to_each_place_once(spans: Spans) -> None:
    with transaction.atomic():
        record(OrderCancelled(order_id=1, reason=""), OrderCancelled(order_id=2, reason=""))
    cancel(3)
    assert 3 == forwarder_of(Accepting(), events=["shop.*"]).get_and_send().delivered

    recorded = [place(span) for span in spans.all("record shop.OrderCancelled")]
    assert 2 == len(recorded)
    assert recorded == links(spans["send numbers"]) == links(spans["forward numbers"])
    assert place(spans["forward numbers"]) == parent(spans["send numbers"])
    assert SpanKind.PRODUCER is spans["send numbers"].kind


def test_a_sender_that_is_unavailable_is_an_error_of_its_span(spans: Spans) -> None:
    cancel()
    forwarder_of(Gone(), events=["shop.*"]).get_and_send()

    assert StatusCode.ERROR is spans["send numbers"].status.status_code


def test_a_sync_handler_is_a_part_of_the_record(spans: Spans) -> None:
    @handles(OrderCancelled, name="veto", mode="sync")
    def veto(event: OrderCancelled) -> None:
        pass

    cancel()

    handled = spans["handle veto"]
    assert (place(spans["record shop.OrderCancelled"]), []) == (parent(handled), links(handled))
    assert SpanKind.INTERNAL is handled.kind


def test_a_handler_after_the_commit_is_linked(spans: Spans) -> None:
    @handles(OrderCancelled, name="mail", mode="after_commit")
    def mail(event: OrderCancelled) -> None:
        pass

    cancel()
    drain_after_commit()

    assert [place(spans["record shop.OrderCancelled"])] == links(spans["handle mail"])


def test_what_is_no_trace_in_the_metadata_is_linked_to_nothing(spans: Spans) -> None:
    set_tracer(None)
    with transaction.atomic():
        record("shop.OrderCancelled", {"order_id": 1, "reason": ""}, metadata={"traceparent": "00-nonsense"})
        record("shop.OrderCancelled", {"order_id": 1, "reason": ""})
    set_tracer(OpenTelemetryTracer(spans.provider))
    assert 2 == forwarder_of(Accepting(), events=["shop.*"]).get_and_send().delivered

    assert [] == links(spans["send numbers"])


def test_without_an_sdk_the_trace_of_the_context_is_carried_as_it_is() -> None:
    set_tracer(OpenTelemetryTracer())
    try:
        with event_context(traceparent=TRACE):
            cancel()
        cancel(2)
    finally:
        set_tracer(None)

    first, second = carried()
    assert TRACE == first["traceparent"]
    assert "traceparent" not in second


STARTED = """
import sys
{before}
import django
from django.conf import settings
from tests import settings as ours
names = {{name: getattr(ours, name) for name in dir(ours) if name.isupper()}}
settings.configure(**{{**names, "EVENTSTORE": {eventstore}}})
django.setup()
from django_eventstore.tracing import get_tracer
print(type(get_tracer()).__name__, sys.modules.get("opentelemetry.trace") is not None)
"""


@pytest.mark.no_database
@pytest.mark.parametrize(
    "before, eventstore, expected",
    [
        ("", "{}", "OpenTelemetryTracer True"),
        ("", "{'TRACING': False}", "NoneType False"),
        ("sys.modules['opentelemetry'] = None", "{}", "NoneType False"),
        ("", "{'TRACIN': False}", "NoneType False"),
    ],
    ids=["installed", "switched off", "not installed", "wrong settings"],
)
def test_a_process_has_a_tracer_where_the_api_is_installed(
    before: str, eventstore: str, expected: str, spawn: Spawn
) -> None:
    process = spawn("-c", STARTED.format(before=before, eventstore=eventstore))
    assert 0 == process.wait(timeout=60)
    assert expected == process.output.strip().splitlines()[-1]
