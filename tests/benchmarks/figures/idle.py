"""Passes that find nothing new: on a quiet log, and beside a bulk load that is open or has long been read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from django.db import connections, transaction

from django_eventstore.store.sequencing import sequence
from tests.benchmarks.connections import commit_something, connect
from tests.benchmarks.definition import MILLISECONDS, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import begin_log, catch_up, insert, load, settle
from tests.benchmarks.stopwatch import Stopwatch


def prepare_small(scale: Scale) -> None:
    _prepare(scale, 1_000)


def prepare_large(scale: Scale) -> None:
    """Large and analysed: a plan that walks over the whole log shows."""
    _prepare(scale, scale.of(200_000, quick=1_000))


def _prepare(scale: Scale, entries: int) -> None:
    begin_log()
    load(entries, transactions=5)
    catch_up()
    settle(scale.vendor)


def nothing_at_all(scale: Scale) -> Measurement:
    return _medians(scale, _idle_pass)


def something_else(scale: Scale) -> Measurement:
    return _beside_others(scale)


def round_trip(scale: Scale) -> Measurement:
    def ask() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    return _medians(scale, ask)


def beside_uncommitted(scale: Scale) -> Measurement:
    """The bulk transaction commits in the end: the next variant of the round finds it."""
    alias = connect("loader")
    with transaction.atomic(using=alias):
        insert(1, _bulk(scale), using=alias)
        return _beside_others(scale)


def behind_committed(scale: Scale) -> Measurement:
    if catch_up() != _bulk(scale):
        raise AssertionError("the bulk transaction of this round is not there")
    settle(scale.vendor)
    return _beside_others(scale)


def _bulk(scale: Scale) -> int:
    return scale.of(1_000_000 if scale.vendor == "postgresql" else 200_000, quick=1_000)


def _beside_others(scale: Scale) -> Measurement:
    alias = connect("others")
    return _medians(scale, _idle_pass, between=lambda: commit_something(alias))


def _idle_pass() -> None:
    done = sequence("default")
    if not done.reached or done.numbered:
        raise AssertionError(f"the pass was to find nothing: {done}")


def _medians(scale: Scale, act: Callable[[], None], *, between: Callable[[], None] = lambda: None) -> Measurement:
    """The median of many, one at a time."""
    taken = []
    with Stopwatch() as watch:
        for _ in range(scale.of(20, quick=2)):
            between()
            act()
        cpu = time.process_time()
        for _ in range(scale.of(300, quick=10)):
            between()
            began = time.perf_counter()
            act()
            taken.append(time.perf_counter() - began)
        cpu = time.process_time() - cpu
    return Measurement(
        count=1, seconds=statistics.median(taken), cpu_seconds=cpu / len(taken), peak_bytes=watch.peak_bytes
    )


AT_MOST_A_MILLISECOND = dict.fromkeys(("postgresql", "mariadb"), Target(of="measured", bound="≤", number=1.0))

IDLE = Figure(
    name="idle-pass",
    databases=("postgresql", "mariadb"),
    variants={"nothing": nothing_at_all, "something-else": something_else, "round-trip": round_trip},
    prepare=prepare_large,
    fresh="figure",
    comparisons=(
        Comparison(
            title="a pass when nothing has happened",
            measured=Reading(variant="nothing", quantity=MILLISECONDS),
            limit=Reading(variant="round-trip", quantity=MILLISECONDS),
            limit_name="`SELECT 1`",
            targets=AT_MOST_A_MILLISECOND,
        ),
        Comparison(
            title="a pass when something else has committed",
            measured=Reading(variant="something-else", quantity=MILLISECONDS),
            limit=Reading(variant="round-trip", quantity=MILLISECONDS),
            limit_name="`SELECT 1`",
            targets=AT_MOST_A_MILLISECOND,
        ),
    ),
)

BESIDE = Figure(
    name="beside-open-bulk",
    databases=("postgresql", "mariadb"),
    variants={"idle": something_else, "uncommitted": beside_uncommitted, "committed": behind_committed},
    prepare=prepare_small,
    fresh="round",
    comparisons=(
        Comparison(
            title="a pass beside 1,000,000 uncommitted entries (MariaDB: 200,000)",
            measured=Reading(variant="uncommitted", quantity=MILLISECONDS),
            limit=Reading(variant="idle", quantity=MILLISECONDS),
            limit_name="an idle pass",
            # MariaDB walks over the open rows: its pending table shows no more than that they are there.
            targets={"postgresql": Target(of="ratio", bound="≤", number=4)},
        ),
        Comparison(
            title="an idle pass after they were committed and read",
            measured=Reading(variant="committed", quantity=MILLISECONDS),
            limit=Reading(variant="idle", quantity=MILLISECONDS),
            limit_name="an idle pass before",
        ),
    ),
)
