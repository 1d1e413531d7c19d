"""Writers, readers and a forwarder as processes, killed all the time, beside transactions that stay open: P1 to P5 hold."""

from __future__ import annotations

from pathlib import Path

from django.db import connection

from tests.concurrency.checker import violations
from tests.concurrency.holder import KEYS
from tests.concurrency.marks import on_shared_log
from tests.concurrency.scenario import Scenario
from tests.conftest import Spawn

pytestmark = on_shared_log


def test_every_reader_gets_every_committed_event_once_and_in_order(
    log: str, spawn: Spawn, tmp_path: Path, seed: str, seconds: float
) -> None:
    # SQLite has one writer at a time: a transaction that has recorded and stays open would be the only one.
    holders = ("unrelated",) if connection.vendor == "sqlite" else ("unrelated", "own")
    scenario = Scenario(spawn=spawn, directory=tmp_path, seed=seed, seconds=seconds, holders=holders)

    seen = scenario.run()

    outcomes = [done.outcome for done in seen.transactions]
    print(f"{len(seen.rows)} events, {outcomes.count('committed')} transactions, {scenario.kills} kills")
    assert [] == violations(seen)
    # The run was one that could show something.
    assert len(seen.rows) > 20 * seconds
    assert scenario.kills >= seconds
    assert {"plain-0", "versioned-0", ""} <= {row.stream for row in seen.rows}
    if "own" in holders:
        assert set(KEYS) <= {row.key for row in sorted(seen.rows, key=lambda row: row.position or 0)[-2:]}
