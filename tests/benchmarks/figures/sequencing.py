"""Passes over a million committed entries: of several transactions, and of a single one, which takes many windows."""

from __future__ import annotations

from django.db import connections

from django_eventstore.models import EventEntry, LogPosition
from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import begin_log, catch_up, load
from tests.benchmarks.stopwatch import Stopwatch

HASH = {"postgresql": "(hashtextextended(e.stream, 0) & 63)::smallint", "mariadb": "CRC32(e.stream) & 63"}


def _entries(scale: Scale) -> int:
    return scale.of(1_000_000 if scale.vendor == "postgresql" else 200_000, quick=1_000)


def prepare_transactions(scale: Scale) -> None:
    _prepare(scale, transactions=10)


def prepare_bulk(scale: Scale) -> None:
    _prepare(scale, transactions=1)


def _prepare(scale: Scale, *, transactions: int) -> None:
    """Not vacuumed afterwards: a pass meets entries that have just been written."""
    begin_log()
    load(_entries(scale), transactions=transactions, mixed=True)
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bare_position")
        if scale.vendor == "postgresql":
            cursor.execute("CREATE TABLE bare_position (LIKE eventstore_position INCLUDING ALL)")
            cursor.execute("CHECKPOINT")
        else:
            cursor.execute("CREATE TABLE bare_position LIKE eventstore_position")


def passes(scale: Scale) -> Measurement:
    LogPosition.objects.count()
    with Stopwatch() as watch:
        numbered = catch_up()
    if numbered != _entries(scale) or LogPosition.objects.count() != numbered:
        raise AssertionError(f"{numbered} entries were numbered instead of {_entries(scale)}")
    return watch.measurement(numbered)


def bare_insert(scale: Scale) -> Measurement:
    """The same rows into a table of the same form, in one statement that has nothing to find out."""
    LogPosition.objects.count()
    with Stopwatch() as watch, connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO bare_position (position, entry_id, type_id, slot) "
            f"SELECT row_number() OVER (ORDER BY e.id), e.id, 1, {HASH[scale.vendor]} FROM eventstore_entry e"
        )
    return watch.measurement(EventEntry.objects.count())


def _comparison(title: str) -> Comparison:
    return Comparison(
        title=title,
        measured=Reading(variant="passes", quantity=RATE),
        limit=Reading(variant="insert", quantity=RATE),
        limit_name="one INSERT of the same rows, nothing looked for",
        targets={"postgresql": Target(of="measured", bound="≥", number=150_000)},
    )


SEVERAL = Figure(
    name="sequencing-bulk",
    databases=("postgresql", "mariadb"),
    variants={"passes": passes, "insert": bare_insert},
    prepare=prepare_transactions,
    fresh="round",
    comparisons=(_comparison("sequencing 1,000,000 entries of 10 transactions (MariaDB: 200,000)"),),
)

SINGLE = Figure(
    name="sequencing-windows",
    databases=("postgresql", "mariadb"),
    variants={"passes": passes, "insert": bare_insert},
    prepare=prepare_bulk,
    fresh="round",
    comparisons=(_comparison("sequencing 1,000,000 entries of one transaction (MariaDB: 200,000)"),),
)
