"""``python -m tests.benchmarks [NAME ...] [--database …] [--rounds N] [--quick] [--write docs/performance.md]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import django

import django_eventstore
from tests import databases
from tests.benchmarks.report import Row, table, write
from tests.processes import ROOT
from tests.servers import missing
from tests.servers.supervision import die_with_parent


def main() -> int:
    arguments = _arguments()
    facts, failed = _machine(arguments), False
    rows: list[Row] = []
    for vendor in ("postgresql", "mariadb", "sqlite"):
        if arguments.database and vendor not in arguments.database:
            continue
        reason = missing(vendor) if vendor != "sqlite" else None
        if reason is not None:
            facts.append(f"{vendor} was not measured: {reason}")
            failed = failed or bool(arguments.database)
            continue
        failed = not _measure(vendor, arguments, facts, rows) or failed
    facts.append(f"load average at the end: {_load()}")
    text = table(facts, rows)
    print(text)
    if arguments.write and not failed:
        write(arguments.write, text)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="The figures of docs/performance.md."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures, by default all; a wrong name lists them")
    parser.add_argument(
        "--database", action="append", choices=databases.VENDORS, help="by default all that can be reached"
    )
    parser.add_argument("--rounds", type=int, help="by default 9 or 5, as the figure says")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, one round: shows that the benchmarks work")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the table into this page, unless something failed"
    )
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--quick measures nothing that is worth writing down")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds takes a number from 1 up")
    return arguments


def _machine(arguments: argparse.Namespace) -> list[str]:
    now = datetime.now(timezone.utc)
    rounds = str(arguments.rounds or (1 if arguments.quick else "9 or 5"))
    if arguments.quick:
        rounds += ", tiny numbers: these are no figures"
    return [
        (
            f"{now:%Y-%m-%d}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, "
            f"{platform.system()} {platform.machine()}, load average at the start: {_load()}"
        ),
        (
            f"django_eventstore {django_eventstore.__version__}, Python {platform.python_version()}, "
            f"Django {django.get_version()}; rounds: {rounds}"
        ),
    ]


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _measure(vendor: str, arguments: argparse.Namespace, facts: list[str], rows: list[Row]) -> bool:
    """Whether all went well; what was measured before something failed is kept."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = [
        *(["--rounds", str(arguments.rounds)] if arguments.rounds else []),
        *(["--quick"] if arguments.quick else []),
    ]
    conductor = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.conductor", *arguments.names, *options],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": path,
            databases.DATABASE: vendor,
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        # It then stops its measurement and removes its test database.
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    assert conductor.stdout is not None
    for line in conductor.stdout:
        said = json.loads(line)
        if "facts" in said:
            facts.append(said["facts"])
        else:
            rows.append(Row(**said["row"]))
    if conductor.wait() != 0:
        facts.append(f"{vendor}: a figure FAILED; what was measured is below")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
