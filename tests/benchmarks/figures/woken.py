"""From a commit to the call of the handler in a Celery worker that the commit wakes, beside a bare task."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from django.db import transaction

from django_eventstore import record
from tests.benchmarks.definition import (
    COMPARED_MILLISECONDS,
    MILLISECONDS,
    Comparison,
    Figure,
    Measurement,
    Reading,
    Scale,
    Target,
)
from tests.benchmarks.entries import begin_log, counter_row
from tests.benchmarks.stopwatch import Stopwatch
from tests.processes import ROOT, child_environment

EVERYWHERE = ("postgresql", "mariadb", "sqlite")
BROKER_URL = "EVENTSTORE_TEST_BROKER_URL"
DIRECTORY = "EVENTSTORE_BENCHMARK_DIRECTORY"
REUSE = "EVENTSTORE_BENCHMARK_DB_REUSE_MAX"
BROKERS = {"redis": "Redis", "amqp": "RabbitMQ"}
# Longer than WAKE_UP_INTERVAL, so that each commit wakes.
PAUSE = 0.15
LONGEST = 60.0


def prepare(scale: Scale) -> None:
    begin_log()


def connected(scale: Scale) -> Measurement:
    """The worker keeps its database connection from one task to the next."""
    return _woken(scale, reuse=1_000_000)


def reconnecting(scale: Scale) -> Measurement:
    """Celery closes it around each task."""
    return _woken(scale, reuse=0)


def _woken(scale: Scale, *, reuse: int) -> Measurement:
    """An event and a task in turns, one at a time."""
    count = scale.of(100, quick=3)
    with _worker(reuse) as (arrive, arrivals):
        sent: dict[int, float] = {}

        def committed(number: int, act: Callable[[], object]) -> float:
            """Change a row, and ``act``; what follows the commit starts the clock."""
            with transaction.atomic():
                transaction.on_commit(lambda: sent.update({number: time.monotonic()}))
                counter_row().save()
                act()
            return _wait(number, arrivals) - sent[number]

        def event(number: int) -> float:
            return committed(number, lambda: record("benchmarks.Woken", {"n": number}))

        def task(number: int) -> float:
            return committed(number, lambda: transaction.on_commit(lambda: arrive(number)))

        for number in range(1, 7):  # warm
            (event if number % 2 else task)(number)
            time.sleep(PAUSE)
        ours, theirs = [], []
        with Stopwatch() as watch:
            for number in range(1_000, 1_000 + 2 * count, 2):
                ours.append(event(number))
                time.sleep(PAUSE)
                theirs.append(task(number + 1))
    return Measurement(
        count=1,
        seconds=statistics.median(ours),
        compared_seconds=statistics.median(theirs),
        cpu_seconds=watch.cpu_seconds / count,
        peak_bytes=watch.peak_bytes,
    )


def _wait(number: int, arrivals: Callable[[], dict[int, float]]) -> float:
    """When it arrived."""
    deadline = time.monotonic() + LONGEST
    while True:
        time.sleep(0.01)
        found = arrivals().get(number)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{number} has not arrived within {LONGEST:.0f} s")


@contextmanager
def _worker(reuse: int) -> Iterator[tuple[Callable[[int], object], Callable[[], dict[int, float]]]]:
    """A worker with one process; gives what sends it a task, and when each number arrived."""
    with tempfile.TemporaryDirectory(prefix="eventstore-woken-") as directory:
        os.environ[DIRECTORY] = directory
        path = Path(directory) / "arrivals"
        path.touch()
        app = importlib.import_module("tests.benchmarks.woken")

        def arrivals() -> dict[int, float]:
            lines = [line.split() for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            return {int(number): float(at) for number, at in lines}

        arguments = ["-m", "celery", "-A", "tests.benchmarks.woken", "worker", "--pool", "solo", "--loglevel", "ERROR"]
        process = subprocess.Popen(
            [sys.executable, *arguments, "--without-gossip", "--without-mingle"],
            env={**child_environment(), REUSE: str(reuse)},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            # Celery warns of whoever is root.
            stderr=subprocess.DEVNULL,
        )
        try:
            yield app.arrive.delay, arrivals
        finally:
            process.terminate()
            process.wait(30)


def broker_name() -> str:
    """The broker that the environment names."""
    return BROKERS.get(urlsplit(os.environ.get(BROKER_URL, "")).scheme, "files")


def _targets() -> dict[str, Target] | None:
    """Files are polled for: that is nobody's broker."""
    if broker_name() == "files":
        return None
    return dict.fromkeys(EVERYWHERE, Target(of="measured", bound="≤", number=25))


def _comparison(variant: str, what: str, targets: dict[str, Target] | None) -> Comparison:
    return Comparison(
        title=f"from a commit to the handler in a Celery worker that it wakes, median, {broker_name()}, {what}",
        measured=Reading(variant=variant, quantity=MILLISECONDS),
        limit=Reading(variant=variant, quantity=COMPARED_MILLISECONDS),
        limit_name="a bare task",
        targets=targets,
    )


FIGURE = Figure(
    name="woken",
    databases=EVERYWHERE,
    variants={"connected": connected, "reconnecting": reconnecting},
    prepare=prepare,
    fresh="figure",
    comparisons=(
        _comparison("connected", "connection kept", _targets()),
        _comparison("reconnecting", "a connection per task", None),
    ),
    rounds=3,
)
