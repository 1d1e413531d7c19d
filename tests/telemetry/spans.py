"""What the SDK of OpenTelemetry has seen, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from django_eventstore.telemetry.opentelemetry import OpenTelemetryTracer
from django_eventstore.tracing import set_tracer

__all__ = ["Spans", "Trace", "traced"]

Trace = tuple[str, str]
"""Ids of a trace and of a span in it, as ``traceparent`` writes them."""


class Spans:
    """The spans that have ended, by their name."""

    def __init__(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        self.provider = provider
        self._exporter = exporter

    def __getitem__(self, name: str) -> ReadableSpan:
        [span] = self.all(name)
        return span

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def names(self) -> list[str]:
        return [span.name for span in self._exporter.get_finished_spans()]


@contextmanager
def traced() -> Iterator[Spans]:
    """A tracer with an SDK of its own, in place of the one of the process."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer(OpenTelemetryTracer(provider))
    try:
        yield Spans(provider, exporter)
    finally:
        set_tracer(None)
        provider.shutdown()


def place(span: ReadableSpan) -> Trace:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def parent(span: ReadableSpan) -> Trace | None:
    return None if span.parent is None else (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}")


def links(span: ReadableSpan) -> list[Trace]:
    return [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links]


def named(traceparent: str) -> Trace:
    """The place that a ``traceparent`` names."""
    _, trace, span, _ = traceparent.split("-")
    return trace, span
