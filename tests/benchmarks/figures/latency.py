"""From a commit to the call of a handler in follow mode, 200 events a second, against a bare LISTEN and NOTIFY."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection, transaction

from django_eventstore import record
from tests.benchmarks.definition import (
    MILLISECONDS,
    TAIL_MILLISECONDS,
    Comparison,
    Figure,
    Measurement,
    Quantity,
    Reading,
    Scale,
    Target,
)
from tests.benchmarks.entries import begin_log, counter_row, order_shipped, settle
from tests.benchmarks.follower import CHANNEL
from tests.benchmarks.stopwatch import Stopwatch
from tests.processes import ROOT, child_environment

A_SECOND = 200
LONGEST_START = 60


def prepare(scale: Scale) -> None:
    begin_log()
    settle(scale.vendor)


def followed(scale: Scale) -> Measurement:
    def change(number: int) -> None:
        record(order_shipped(number), stream="order-1")

    return _latency(scale, "follow", change, tell=lambda number: None)


def bare(scale: Scale) -> Measurement:
    """The transaction changes a row, and the process notifies after the commit, as a project would by itself."""
    counter = counter_row()

    def change(number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE shop_counter SET value = value + 1 WHERE id = %s", [counter.pk])

    def tell(number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(number)])

    return _latency(scale, "listen", change, tell=tell)


class _Writer:
    """One transaction after the other; ``committed`` is when each had."""

    def __init__(self, change: Callable[[int], None], tell: Callable[[int], None]) -> None:
        self._change, self._tell = change, tell
        self.committed: dict[int, float] = {}

    def write(self, number: int) -> None:
        def note() -> None:
            self.committed[number] = time.monotonic()

        with transaction.atomic():
            transaction.on_commit(note)  # before any hook that tells somebody
            self._change(number)
        self._tell(number)


def _latency(scale: Scale, kind: str, change: Callable[[int], None], *, tell: Callable[[int], None]) -> Measurement:
    # Numbers that no other round has used.
    first, count = int(time.monotonic() * 1_000), scale.of(2_000, quick=40)
    writer = _Writer(change, tell)
    with _follower(kind) as arrivals:
        numbers = itertools.count(first)
        deadline = time.monotonic() + LONGEST_START
        while not arrivals():
            if time.monotonic() > deadline:
                raise AssertionError("nothing arrived")
            writer.write(next(numbers))
            time.sleep(0.1)
        time.sleep(0.5)
        measured = [next(numbers) for _ in range(count)]
        began = time.monotonic()
        with Stopwatch() as watch:
            for turn, number in enumerate(measured):
                time.sleep(max(0.0, began + turn / A_SECOND - time.monotonic()))
                writer.write(number)
        while not arrivals().keys() >= set(measured):
            if time.monotonic() > deadline + LONGEST_START:
                raise AssertionError(f"{len(set(measured) - arrivals().keys())} of {count} did not arrive")
            time.sleep(0.1)
        arrived = arrivals()
    taken = sorted(arrived[number] - writer.committed[number] for number in measured)
    return Measurement(
        count=1,
        seconds=statistics.median(taken),
        cpu_seconds=watch.cpu_seconds / count,
        peak_bytes=watch.peak_bytes,
        tail_seconds=taken[int(len(taken) * 0.99)],
    )


@contextmanager
def _follower(kind: str) -> Iterator[Callable[[], dict[int, float]]]:
    """Start one; gives a function that tells when each number arrived first."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "arrivals"
        path.touch()

        def arrivals() -> dict[int, float]:
            lines = [line.split() for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            return {int(number): float(at) for number, at in reversed(lines)}

        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.follower", kind, str(path)],
            env=child_environment(),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield arrivals
        finally:
            process.terminate()
            process.wait(30)


def _target(ratio: float) -> dict[str, Target]:
    return {"postgresql": Target(of="ratio", bound="≤", number=ratio)}


def _comparison(title: str, quantity: Quantity, ratio: float) -> Comparison:
    return Comparison(
        title=title,
        measured=Reading(variant="follow", quantity=quantity),
        limit=Reading(variant="bare", quantity=quantity),
        limit_name="a bare LISTEN and NOTIFY",
        targets=_target(ratio),
    )


FIGURE = Figure(
    name="follow-latency",
    databases=("postgresql",),
    variants={"follow": followed, "bare": bare},
    prepare=prepare,
    fresh="figure",
    comparisons=(
        _comparison("from a commit to the call of its handler, 200 events a second, median", MILLISECONDS, 4),
        _comparison("the same: 99th percentile", TAIL_MILLISECONDS, 8),
    ),
)
