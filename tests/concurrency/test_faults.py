"""The suite fails on wrong designs: each fault below breaks the promise that is named beside it, and is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.concurrency import faults, interleavings
from tests.concurrency.checker import Promise, broken_promises, violations
from tests.concurrency.marks import on_shared_log
from tests.concurrency.scenario import Role, Scenario
from tests.concurrency.stage import Stage
from tests.conftest import Spawn

pytestmark = on_shared_log


def _found(stage: Stage, fault: str, play: interleavings.Play) -> set[Promise]:
    """The promises that the play shows broken. The last look at the log is an honest one."""
    with faults.installed(fault), faults.planted(fault):
        play(stage)
    found = violations(stage.observe())
    print(*found, sep="\n")
    return broken_promises(found)


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize(
    "fault, play, promise",
    [
        ("naive id", interleavings.late_at_the_front, "P2"),
        ("naive id", interleavings.late_in_the_middle, "P2"),
        ("position at insert", interleavings.late_at_the_front, "P2"),
        ("position at insert", interleavings.late_in_the_middle, "P3"),
    ],
)
def test_a_wrong_reader_is_found(stage: Stage, fault: str, play: interleavings.Play, promise: Promise) -> None:
    assert promise in _found(stage, fault, play)


def test_a_head_read_after_the_filtered_select_is_found(stage: Stage) -> None:
    assert _found(stage, "head after select", interleavings.match_between_select_and_head) == {"P2"}


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "fault, play, promises",
    [
        ("in-progress list forgotten", interleavings.late_at_the_front, {"P2"}),
        ("in-progress list forgotten", interleavings.late_in_the_middle, {"P2"}),
        ("halted, snapshot after entries", interleavings.commit_during_a_pass, {"P2"}),
        ("sequence cache", interleavings.one_stream_two_sessions, {"P4"}),
    ],
)
def test_a_wrong_pass_on_postgresql_is_found(
    stage: Stage, fault: str, play: interleavings.Play, promises: set[Promise]
) -> None:
    assert promises == _found(stage, fault, play)


@pytest.mark.postgresql
def test_an_xmin_fence_is_found(stage: Stage) -> None:
    assert "P2" in _found(stage, "xmin fence", interleavings.xids_against_ids)


@pytest.mark.postgresql
def test_a_pass_inside_a_transaction_that_has_written_is_found(stage: Stage) -> None:
    assert "P2" in _found(stage, "no COMMIT guard", interleavings.caller_that_has_written)


@pytest.mark.mariadb
@pytest.mark.parametrize(
    "fault, play, promises",
    [
        ("id watermark", interleavings.late_at_the_front, {"P2"}),
        ("repeatable read", interleavings.beside_an_open_transaction, {"P5"}),
    ],
)
def test_a_wrong_pass_on_mariadb_is_found(
    stage: Stage, fault: str, play: interleavings.Play, promises: set[Promise]
) -> None:
    assert promises == _found(stage, fault, play)


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_a_naive_reader_among_processes_is_found(log: str, spawn: Spawn, tmp_path: Path, seed: str) -> None:
    scenario = Scenario(
        spawn=spawn,
        directory=tmp_path,
        seed=seed,
        seconds=2,
        roles=(Role(name="everything"),),
        environment={faults.VARIABLE: "naive id"},
    )

    found = violations(scenario.run())

    print(*found, sep="\n")
    assert any(str(violation).startswith("P2") and "missed by everything" in violation.fact for violation in found)
