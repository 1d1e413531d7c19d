"""The benchmarks run and compute what they say. What they measure is nobody's assertion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from django_eventstore.models import EventEntry
from tests import databases
from tests.benchmarks.conductor import fresh
from tests.benchmarks.definition import (
    MILLISECONDS,
    RATE,
    Comparison,
    Figure,
    Measurement,
    Reading,
    Scale,
    Target,
)
from tests.benchmarks.figures import FIGURES
from tests.benchmarks.report import BEGIN, END, Row, row_of, table, write
from tests.benchmarks.stopwatch import Stopwatch
from tests.processes import ROOT
from tests.servers import missing
from tests.servers.nats import NATS_URL
from tests.servers.rabbitmq import RABBITMQ_URL
from tests.servers.redis import REDIS_URL


def measurement(*, count: int = 1_000, seconds: float) -> Measurement:
    return Measurement(count=count, seconds=seconds, cpu_seconds=0.5, peak_bytes=0)


def comparison(target: Target | None = None, **keywords: Any) -> Comparison:
    return Comparison(
        **{
            "title": "a page",
            "measured": Reading(variant="ours", quantity=MILLISECONDS),
            "limit": Reading(variant="theirs", quantity=MILLISECONDS),
            "limit_name": "bare",
            "targets": {"sqlite": target} if target else None,
            **keywords,
        }
    )


ROUNDS = {
    "ours": [measurement(seconds=seconds) for seconds in (2.0, 30.0, 4.0)],
    "theirs": [measurement(seconds=seconds) for seconds in (1.0, 10.0, 4.0)],
}


@pytest.mark.long
@pytest.mark.no_database
def test_a_quick_run_prints_a_row_for_every_comparison_of_every_figure_of_the_database() -> None:
    addresses = (NATS_URL, RABBITMQ_URL, REDIS_URL)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EVENTSTORE_TEST_") or name in addresses
    }

    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--quick", "--database", "sqlite"],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert (run.returncode, run.stderr if run.returncode else "") == (0, "")
    printed = [line.split(" | ")[0].removeprefix("| ") for line in run.stdout.splitlines() if " | SQLite | " in line]
    expected = [
        f"{comparison.title} ({figure.name})"
        for figure in FIGURES.values()
        if "sqlite" in figure.databases and not any(missing(service) for service in figure.needs)
        for comparison in figure.comparisons
    ]
    assert expected == printed


@pytest.mark.postgresql
def test_a_quick_run_beside_an_open_transaction_prints_its_row() -> None:
    """SQLite has one writer at a time."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "beside-open-transaction", "--quick", "--database", "postgresql"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (run.returncode, run.stderr if run.returncode else "") == (0, "")
    assert run.stdout.count(" (beside-open-transaction) | PostgreSQL | ") == 1


@pytest.mark.no_database
@pytest.mark.django_db(transaction=True)
def test_a_measurement_by_a_new_process_gives_what_the_figure_says() -> None:
    """As all rounds of a run that is not quick."""
    FIGURES["bulk-20k"].prepare(Scale(vendor="sqlite", quick=True))

    assert 200 == fresh("bulk-20k", "record", "--quick").count
    # And those that came before, untimed.
    assert 300 == EventEntry.objects.count()


@pytest.mark.no_database
def test_every_database_has_its_figures_and_every_target_is_for_a_database_of_its_figure() -> None:
    for figure in FIGURES.values():
        assert set(figure.databases) <= set(databases.VENDORS)
        for comparison_ in figure.comparisons:
            assert set(comparison_.targets or {}) <= set(figure.databases)
    assert "sqlite" not in FIGURES["writers-16"].databases


@pytest.mark.no_database
def test_a_row_gives_medians_and_the_median_of_the_ratios_of_each_round() -> None:
    row = row_of(comparison(), ROUNDS, figure="page", vendor="sqlite")

    assert (row.measured, row.limit, row.ratio, row.spread, row.target, row.met) == (
        "4.00 ms",
        "4.00 ms, bare",
        "2.00",
        "1.00 to 3.00",
        "–",
        "–",
    )


@pytest.mark.no_database
@pytest.mark.parametrize(
    "target,met",
    [
        (Target(of="ratio", bound="≤", number=2.0), "yes"),
        (Target(of="ratio", bound="<", number=2.0), "**no**"),
        (Target(of="ratio", bound="≥", number=2.1), "**no**"),
        (Target(of="measured", bound="≤", number=4.0), "yes"),
        (Target(of="measured", bound="≤", number=3.9), "**no**"),
    ],
)
def test_a_target_is_met_by_the_medians(target: Target, met: str) -> None:
    assert met == row_of(comparison(target), ROUNDS, figure="page", vendor="sqlite").met


@pytest.mark.no_database
def test_a_target_for_another_database_judges_nothing() -> None:
    target = Target(of="ratio", bound="≥", number=100)

    assert row_of(comparison(target), ROUNDS, figure="page", vendor="mariadb").met == "–"


@pytest.mark.no_database
def test_the_spread_of_an_absolute_target_is_that_of_the_measured_values() -> None:
    target = Target(of="measured", bound="≤", number=4.0)

    assert row_of(comparison(target), ROUNDS, figure="page", vendor="sqlite").spread == "2.00 to 30.0"


@pytest.mark.no_database
def test_a_rate_is_items_a_second() -> None:
    rates = comparison(measured=Reading(variant="ours", quantity=RATE), limit=Reading(variant="theirs", quantity=RATE))

    row = row_of(rates, ROUNDS, figure="page", vendor="sqlite")

    assert (row.measured, row.limit, row.ratio) == ("250 /s", "250 /s, bare", "0.50")


@pytest.mark.no_database
def test_the_page_keeps_all_but_what_is_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    row = Row(
        figure="page",
        title="a | b",
        database="SQLite",
        measured="1",
        limit="1",
        ratio="1",
        spread="1",
        target="–",
        met="–",
    )

    write(page, table(["a fact"], [row]))

    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n- a fact\n")
    assert text.endswith(f"| a \\| b (page) | SQLite | 1 | 1 | 1 | 1 | – | – |\n{END}\nafter\n")
    assert "old" not in text


@pytest.mark.no_database
@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_its_marks_is_not_written(tmp_path: Path, text: str) -> None:
    page = tmp_path / "performance.md"
    page.write_text(text)

    with pytest.raises(ValueError, match="needs the lines"):
        write(page, "table")

    assert text == page.read_text()


@pytest.mark.no_database
def test_the_page_of_the_documentation_has_its_marks(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text((ROOT / "docs" / "performance.md").read_text())

    write(copy, "a table")

    assert f"{BEGIN}\na table\n{END}" in copy.read_text()


@pytest.mark.no_database
def test_peak_memory_counts_what_was_needed_for_a_moment_only() -> None:
    with Stopwatch() as watch:
        block = bytearray(64 * 2**20)
        del block

    assert watch.measurement(1).peak_bytes >= 60 * 2**20


@pytest.mark.no_database
def test_a_comparison_names_variants_that_the_figure_has() -> None:
    with pytest.raises(ValueError, match="no variant 'theirs'"):
        Figure(
            name="page",
            databases=("sqlite",),
            variants={"ours": lambda scale: measurement(seconds=1)},
            prepare=lambda scale: None,
            fresh="figure",
            comparisons=(comparison(),),
        )


@pytest.mark.no_database
def test_a_target_for_a_ratio_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="needs a limit"):
        comparison(Target(of="ratio", bound="≤", number=1), limit=None)


@pytest.mark.no_database
def test_nothing_measured_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        measurement(count=0, seconds=1)


@pytest.mark.no_database
def test_a_quick_run_uses_the_small_numbers() -> None:
    assert Scale(vendor="sqlite", quick=True).of(9, quick=1) == 1
    assert Scale(vendor="sqlite", quick=False).of(9, quick=1) == 9
