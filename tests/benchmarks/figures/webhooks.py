"""Webhooks to a receiver on the same machine: many events to 50 endpoints, one to 1,000, and some beside a dead one."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.db import transaction

from django_eventstore import EventForwarder, record
from django_eventstore.consumers import Consumer
from django_eventstore.models import Endpoint
from django_eventstore.webhooks import WebhookSender
from django_eventstore.webhooks.signing import new_secret
from django_eventstore.webhooks.vault import encrypt
from tests.benchmarks.definition import (
    MILLISECONDS,
    RATE,
    TAIL_MILLISECONDS,
    Comparison,
    Figure,
    Measurement,
    Reading,
    Scale,
    Target,
)
from tests.benchmarks.entries import begin_log, catch_up, load, order_shipped, payload_of, settle
from tests.benchmarks.stopwatch import Stopwatch
from tests.processes import ROOT

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
ENDPOINTS = 50
THREADS = 32
A_SECOND = 10
WARM_UP = 10


def _events(scale: Scale) -> int:
    return scale.of(200, quick=4)


def prepare(scale: Scale) -> None:
    begin_log()
    settle(scale.vendor)


def fifty(scale: Scale) -> Measurement:
    """The whole way: read from the log, written, signed for each endpoint, posted, answered, the offset saved."""
    with _receiver() as receiver:
        forwarder = _forwarder("fifty", receiver, [f"/{number}" for number in range(ENDPOINTS)])
        load(_events(scale))
        return _drained(forwarder, receiver, _events(scale) * ENDPOINTS, ENDPOINTS)


def thousand(scale: Scale) -> Measurement:
    count = scale.of(1_000, quick=20)
    with _receiver() as receiver:
        forwarder = _forwarder("thousand", receiver, [f"/{number}" for number in range(count)])
        load(1)
        return _drained(forwarder, receiver, count, count)


def _drained(forwarder: EventForwarder, receiver: _Receiver, deliveries: int, endpoints: int) -> Measurement:
    catch_up()
    Endpoint.objects.first()
    with Stopwatch() as watch:
        while len(receiver.arrivals()) < deliveries:
            forwarder.get_and_send(most_events=10**9, longest=timedelta(hours=1))
    forwarder.sender.close()
    found = receiver.arrivals()
    if len(found) != deliveries or len({path for path, _, _ in found}) != endpoints:
        raise AssertionError(f"{len(found)} of {deliveries} deliveries arrived")
    return watch.measurement(deliveries)


def bare(scale: Scale) -> Measurement:
    """The same number of posts by http.client from as many threads: no log, no signature, no endpoint."""
    body, count = payload_of(order_shipped(0)).encode(), _events(scale) * ENDPOINTS

    def post(numbers: Iterable[int]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port)
        for _ in numbers:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
        connection.close()

    with _receiver() as receiver, ThreadPoolExecutor(THREADS) as pool, Stopwatch() as watch:
        list(pool.map(post, [range(first, count, THREADS) for first in range(THREADS)]))
    return watch.measurement(count)


def beside_dead(scale: Scale) -> Measurement:
    return _lateness(scale, "beside-dead", ["/dead"])


def all_well(scale: Scale) -> Measurement:
    return _lateness(scale, "all-well", [])


def _lateness(scale: Scale, name: str, dead: list[str]) -> Measurement:
    """From when an event was due to be recorded to its arrival at each endpoint that is well.

    The dead one is known to be dead before: when it dies, the batch in hand waits for it once, for ``patience``.
    """
    count, paths = scale.of(300, quick=10), [f"/{number}" for number in range(10)]
    pause, timeout = scale.of(15, quick=2), timedelta(milliseconds=scale.of(2_000, quick=300))
    with _receiver() as receiver:
        forwarder = _forwarder(name, receiver, [*dead, *paths], timeout=timeout)
        due: dict[int, float] = {}
        began = time.monotonic() + 0.1
        with Stopwatch() as watch:
            for turn in range(WARM_UP + count):
                due[turn] = began + (turn + (pause if turn >= WARM_UP else 0)) / A_SECOND
                time.sleep(max(0.0, due[turn] - time.monotonic()))
                with transaction.atomic():
                    record(order_shipped(turn), stream="order-1")
                forwarder.get_and_send()
        forwarder.sender.close()
        first = order_shipped(0).order_id
        late = [at - due[number - first] for path, number, at in receiver.arrivals() if path != "/dead"]
    if len(late) != (WARM_UP + count) * len(paths):
        raise AssertionError(f"{len(late)} arrived")
    late = sorted(late[WARM_UP * len(paths) :])
    return Measurement(
        count=1,
        seconds=statistics.median(late),
        cpu_seconds=watch.cpu_seconds / count,
        peak_bytes=watch.peak_bytes,
        tail_seconds=late[int(len(late) * 0.99)],
    )


def _forwarder(name: str, receiver: _Receiver, paths: list[str], **options: object) -> EventForwarder:
    sender = WebhookSender(
        allow_http=True,
        allow_private=True,
        ports=[receiver.port],
        max_in_flight=THREADS,
        retry_base=timedelta(milliseconds=100),
        retry_cap=timedelta(milliseconds=100),
        **options,  # type: ignore[arg-type]
    )
    forwarder = EventForwarder(Consumer(name=name, events=("*",), sender="none"), sender=sender)
    forwarder.get_and_send()  # from now on
    secret = encrypt(new_secret())
    Endpoint.objects.bulk_create(
        Endpoint(consumer=name, url=f"http://127.0.0.1:{receiver.port}{path}", secret=secret) for path in paths
    )
    return forwarder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receiver:
    port: int
    file: Path

    def arrivals(self) -> list[tuple[str, int, float]]:
        """Path, number and time of everything that arrived."""
        lines = [line.split() for line in self.file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [(path, int(number), float(at)) for path, number, at in lines]


@contextmanager
def _receiver() -> Iterator[_Receiver]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "arrivals"
        file.touch()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.receiver", str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            if process.stdout is None:
                raise AssertionError("it tells no port")
            yield _Receiver(port=int(process.stdout.readline()), file=file)
        finally:
            process.terminate()
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()


FIGURE = Figure(
    name="webhooks",
    databases=EVERYWHERE,
    variants={
        "fifty": fifty,
        "bare": bare,
        "thousand": thousand,
        "beside-dead": beside_dead,
        "all-well": all_well,
    },
    prepare=prepare,
    fresh="round",
    comparisons=(
        Comparison(
            title="200 events to each of 50 webhook endpoints, deliveries",
            measured=Reading(variant="fifty", quantity=RATE),
            limit=Reading(variant="bare", quantity=RATE),
            limit_name="bare posts by http.client, not signed, as many threads",
            targets=dict.fromkeys(EVERYWHERE, Target(of="measured", bound="≥", number=300)),
        ),
        Comparison(
            title="one event to 1,000 endpoints, deliveries",
            measured=Reading(variant="thousand", quantity=RATE),
            targets=dict.fromkeys(EVERYWHERE, Target(of="measured", bound="≥", number=100)),
        ),
        Comparison(
            title="10 events a second to 10 endpoints beside a dead one, median",
            measured=Reading(variant="beside-dead", quantity=MILLISECONDS),
            limit=Reading(variant="all-well", quantity=MILLISECONDS),
            limit_name="without it",
        ),
        Comparison(
            title="the same: 99th percentile",
            measured=Reading(variant="beside-dead", quantity=TAIL_MILLISECONDS),
            limit=Reading(variant="all-well", quantity=TAIL_MILLISECONDS),
            limit_name="without it",
            targets=dict.fromkeys(EVERYWHERE, Target(of="ratio", bound="≤", number=1.5)),
        ),
    ),
)
