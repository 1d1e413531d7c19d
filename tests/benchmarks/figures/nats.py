"""20,000 entries of the log forwarded to a stream of NATS JetStream in a file, every one acknowledged."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale
from tests.benchmarks.entries import order_shipped, payload_of
from tests.benchmarks.forwarding import entries, forwarded, prepare
from tests.benchmarks.stopwatch import Stopwatch
from tests.servers.nats import NATSClient, nats_url

WINDOW = 1_000


def in_large_batches(scale: Scale) -> Measurement:
    with _Stream() as stream:
        options = {"stream": stream.name, "subject": f"{stream.name}.{{type}}", "url": nats_url()}
        measured = forwarded(sender="django_eventstore.senders.nats.NATSSender", options=options, limit=5_000)
        stream.require(measured.count, entries(scale))
    return measured


def bare_publisher(scale: Scale) -> Measurement:
    """One payload again and again by nats-py, as many in flight: no log, no envelope, no headers, no thread."""
    count, body = entries(scale), payload_of(order_shipped(0)).encode()
    with _Stream() as stream:
        js = stream.client.jetstream(publish_async_max_pending=WINDOW)
        with Stopwatch() as watch:
            stream.client.call(_publish(js, f"{stream.name}.bare", body, count), timeout=600)
        stream.require(count, count)
    return watch.measurement(count)


async def _publish(js: Any, subject: str, body: bytes, count: int) -> None:
    await asyncio.gather(*[await js.publish_async(subject, body) for _ in range(count)])


class _Stream:
    """A stream in a file for one measurement."""

    def __enter__(self) -> _Stream:
        self.name = f"eventstore-benchmarks-{uuid.uuid4().hex}"
        self.client = NATSClient(nats_url())
        self.client.make_stream(self.name, subjects=[f"{self.name}.>"], storage="file")
        return self

    def __exit__(self, *error: object) -> None:
        self.client.delete_stream(self.name)
        self.client.close()

    def require(self, claimed: int, expected: int) -> None:
        """As many are claimed as there are, and as many are there."""
        found = self.client.messages(self.name)
        if (claimed, found) != (expected, expected):
            raise AssertionError(f"{claimed} of {expected} were claimed, and {found} are in the stream")


FIGURE = Figure(
    name="nats",
    databases=("postgresql", "mariadb", "sqlite"),
    variants={"large": in_large_batches, "bare": bare_publisher},
    prepare=prepare,
    fresh="round",
    needs=("nats",),
    comparisons=(
        Comparison(
            title="20,000 entries to NATS JetStream, `LIMIT` 5,000",
            measured=Reading(variant="large", quantity=RATE),
            limit=Reading(variant="bare", quantity=RATE),
            limit_name="a bare publisher with acknowledgements",
        ),
    ),
)
