"""All rounds of the figures on one database: ``python -m tests.benchmarks.conductor [NAME ...] [--rounds N] [--quick]``.

The database is chosen by EVENTSTORE_TEST_DATABASE; this process makes a test database on it, empties and prepares it, and
starts a fresh process for each measurement, or for a quick one a fork of this. Prints lines of JSON: first the facts about
the server, then each row as it is known. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import django

from tests import databases
from tests.benchmarks.definition import Figure, Measurement, Scale
from tests.benchmarks.measure import measurement_of
from tests.benchmarks.report import Row, row_of
from tests.processes import ROOT, child_environment
from tests.servers import missing

LONGEST_MEASUREMENT = 1_800
"""Seconds after which a measurement is taken to hang."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.conductor")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    # As Ctrl-C does, so that the test database is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    django.setup()

    from django.db import connection

    from tests.benchmarks.figures import FIGURES
    from tests.benchmarks.server import server_facts
    from tests.permissions import without_permissions

    without_permissions()
    unknown = [name for name in arguments.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    vendor = databases.chosen_vendor()
    chosen = [FIGURES[name] for name in arguments.names or FIGURES if vendor in FIGURES[name].databases]
    scale = Scale(vendor=vendor, quick=arguments.quick)
    name = connection.settings_dict["NAME"]
    failed: list[str] = []
    try:
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        _say({"facts": server_facts()})
        for figure in chosen:
            if reasons := [reason for service in figure.needs if (reason := missing(service))]:
                _tell(f"{vendor} {figure.name}: SKIPPED, {'; '.join(reasons)}")
                continue
            rounds = arguments.rounds or (1 if scale.quick else figure.rounds)
            try:
                rows = _rows(figure, rounds=rounds, scale=scale)
            except Exception:
                # The others are still worth having after an hour.
                failed.append(figure.name)
                traceback.print_exc()
                continue
            for row in rows:
                _say({"row": dataclasses.asdict(row)})
    finally:
        if connection.settings_dict["NAME"] != name:  # never what is not the test database
            connection.creation.destroy_test_db(name, verbosity=0)
    if failed:
        sys.exit(f"{vendor}: {', '.join(failed)} failed")


def _rows(figure: Figure, *, rounds: int, scale: Scale) -> list[Row]:
    """Every variant once in each round, in turns."""
    began = time.monotonic()
    by_variant: dict[str, list[Measurement]] = {variant: [] for variant in figure.variants}
    for number in range(rounds):
        if number == 0 or figure.fresh == "round":
            _prepare(figure, scale)
        for variant, measurements in by_variant.items():
            measurements.append(_forked(figure.name, variant) if scale.quick else fresh(figure.name, variant))
            _tell(f"{scale.vendor} {figure.name} {variant} {number + 1}/{rounds}: {measurements[-1]}")
    _tell(f"{scale.vendor} {figure.name}: {time.monotonic() - began:.0f} s")
    return [
        row_of(comparison, by_variant, figure=figure.name, vendor=scale.vendor) for comparison in figure.comparisons
    ]


def _prepare(figure: Figure, scale: Scale) -> None:
    from django.core.management import call_command
    from django.db import connections

    call_command("flush", interactive=False, verbosity=0)
    figure.prepare(scale)
    # Nothing of this process is left open beside a measurement.
    connections.close_all()


def _forked(name: str, variant: str) -> Measurement:
    """A quick measurement without the start of a process, which takes longer than what is measured."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(measurement_of, name, variant, quick=True).result(LONGEST_MEASUREMENT)


def fresh(name: str, variant: str, *arguments: str) -> Measurement:
    """A measurement by a new process, on the database of this one; ``arguments`` are further ones of `measure`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.measure", name, variant, *arguments],
        env=child_environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=LONGEST_MEASUREMENT,
        check=True,
    )
    return Measurement(**json.loads(done.stdout))


def _say(line: object) -> None:
    print(json.dumps(line), flush=True)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
