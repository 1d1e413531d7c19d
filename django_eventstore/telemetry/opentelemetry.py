"""Spans of OpenTelemetry. Only the API is used: which spans go where is the project's SDK's business.

An event is delivered long after it was recorded, by another process, in batches with others. So what delivers it is linked to
where it was recorded, and not a child of it. Names and attributes are those of the semantic conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from ..context import EventContext, entered
from ..events.cloudevents import trace_of
from ..tracing import Traced

__all__ = ["OpenTelemetryTracer"]

SYSTEM = "django_eventstore"
MOST_LINKS = 128
"""As many as the SDK keeps by default."""

# In the form of W3C, whatever the project propagates by: it is what events carry.
_propagator = TraceContextTextMapPropagator()


class _Recording:
    def __init__(self, span: Span) -> None:
        self._span = span

    def of(self, types: Sequence[str], *, event_id: object = None) -> None:
        kinds = set(types)
        if len(kinds) == 1:
            self._span.update_name(f"record {types[0]}")
            self._span.set_attribute("messaging.destination.name", types[0])
        if len(types) > 1:
            self._span.set_attribute("messaging.batch.message_count", len(types))
        elif event_id is not None:
            self._span.set_attribute("messaging.message.id", str(event_id))


class OpenTelemetryTracer:
    """Makes spans by a provider, by default the one that is set for the process."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("django_eventstore", tracer_provider=provider)

    @contextmanager
    def recording(self, context: EventContext | None) -> Iterator[_Recording]:
        context = context or EventContext()
        with self._tracer.start_as_current_span(
            "record",
            context=_goes_on_from(context),
            kind=SpanKind.PRODUCER,
            attributes=_attributes("record", "create"),
        ) as span:
            carried: dict[str, str] = {}
            _propagator.inject(carried)
            if "traceparent" not in carried:  # nobody has set a provider
                yield _Recording(span)
                return
            state = {"tracestate": carried["tracestate"]} if "tracestate" in carried else {}
            with entered(replace(context, traceparent=carried["traceparent"], metadata={**context.metadata, **state})):
                yield _Recording(span)

    @contextmanager
    def forwarding(self, consumer: str, entries: Sequence[Traced]) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            f"forward {consumer}",
            kind=SpanKind.CONSUMER,
            links=_links(entries),
            attributes=_of_batch("forward", "receive", consumer, entries),
        ):
            yield

    @contextmanager
    def sending(self, consumer: str, entries: Sequence[Traced]) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            f"send {consumer}",
            kind=SpanKind.PRODUCER,
            links=_links(entries),
            attributes=_of_batch("send", "send", consumer, entries),
        ):
            yield

    @contextmanager
    def handling(self, handler: str, entry: Traced, *, linked: bool) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            f"handle {handler}",
            kind=SpanKind.CONSUMER if linked else SpanKind.INTERNAL,
            links=_links([entry]) if linked else (),
            attributes={
                **_attributes("handle", "process"),
                "messaging.destination.name": entry.type,
                "messaging.consumer.group.name": handler,
                "messaging.message.id": str(entry.event_id),
            },
        ):
            yield


def _goes_on_from(context: EventContext) -> Context | None:
    """Where no span is open: the trace that the request or the handled event named."""
    if trace.get_current_span().get_span_context().is_valid or context.traceparent is None:
        return None
    return _propagator.extract({"traceparent": context.traceparent})


def _attributes(name: str, kind: str) -> dict[str, AttributeValue]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }


def _of_batch(name: str, kind: str, consumer: str, entries: Sequence[Traced]) -> dict[str, AttributeValue]:
    return {
        **_attributes(name, kind),
        "messaging.consumer.group.name": consumer,
        "messaging.batch.message_count": len(entries),
    }


def _links(entries: Iterable[Traced]) -> list[Link]:
    """To where they were recorded, each place once."""
    found: dict[str, Link] = {}
    for entry in entries:
        carried = trace_of(entry.metadata)
        if not carried or carried["traceparent"] in found:
            continue
        place = trace.get_current_span(_propagator.extract(carried, context=Context())).get_span_context()
        if place.is_valid:
            found[carried["traceparent"]] = Link(place)
            if len(found) == MOST_LINKS:
                break
    return list(found.values())
