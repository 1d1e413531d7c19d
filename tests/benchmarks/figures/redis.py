"""20,000 entries of the log forwarded to a stream of Redis, every one answered."""

from __future__ import annotations

import uuid

from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale
from tests.benchmarks.entries import order_shipped, payload_of
from tests.benchmarks.forwarding import entries, forwarded, prepare
from tests.benchmarks.stopwatch import Stopwatch
from tests.servers.redis import connect, redis_url

AT_A_TIME = 500


def in_large_batches(scale: Scale) -> Measurement:
    with _Stream() as stream:
        options = {"key": stream.key, "url": redis_url()}
        measured = forwarded(sender="django_eventstore.senders.redis.RedisStreamSender", options=options, limit=5_000)
        stream.require(measured.count, entries(scale))
    return measured


def bare_publisher(scale: Scale) -> Measurement:
    """One payload again and again by redis-py, as many in a pipeline: no log, no envelope, one field."""
    count, body = entries(scale), payload_of(order_shipped(0)).encode()
    with _Stream() as stream:
        with Stopwatch() as watch:
            for first in range(0, count, AT_A_TIME):
                pipeline = stream.client.pipeline(transaction=True)
                for _ in range(first, min(first + AT_A_TIME, count)):
                    pipeline.xadd(stream.key, {"data": body})
                pipeline.execute()
        stream.require(count, count)
    return watch.measurement(count)


class _Stream:
    """A stream for one measurement."""

    def __enter__(self) -> _Stream:
        self.key = f"eventstore-benchmarks-{uuid.uuid4().hex}"
        self.client = connect(redis_url())
        return self

    def __exit__(self, *error: object) -> None:
        self.client.delete(self.key)
        self.client.close()

    def require(self, claimed: int, expected: int) -> None:
        """As many are claimed as there are, and as many are there."""
        found = self.client.xlen(self.key)
        if (claimed, found) != (expected, expected):
            raise AssertionError(f"{claimed} of {expected} were claimed, and {found} are in the stream")


FIGURE = Figure(
    name="redis",
    databases=("postgresql", "mariadb", "sqlite"),
    variants={"large": in_large_batches, "bare": bare_publisher},
    prepare=prepare,
    fresh="round",
    needs=("redis",),
    comparisons=(
        Comparison(
            title="20,000 entries to a stream of Redis, `LIMIT` 5,000",
            measured=Reading(variant="large", quantity=RATE),
            limit=Reading(variant="bare", quantity=RATE),
            limit_name="a bare publisher, pipelined",
        ),
    ),
)
