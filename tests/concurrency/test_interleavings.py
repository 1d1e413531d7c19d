"""Late commits and other turns that a wrong sequencer gets wrong: the package gets them right."""

from __future__ import annotations

import pytest
from django.db import connections

from django_eventstore.store.door import open_door
from tests.concurrency import interleavings
from tests.concurrency.checker import violations
from tests.concurrency.faults import installed
from tests.concurrency.marks import on_shared_log
from tests.concurrency.stage import Stage

pytestmark = on_shared_log

several_writers = pytest.mark.parametrize(
    "play",
    [
        interleavings.late_at_the_front,
        interleavings.late_in_the_middle,
        interleavings.late_at_the_end,
        interleavings.beside_an_open_transaction,
        interleavings.xids_against_ids,
    ],
)


@pytest.mark.postgresql
@pytest.mark.mariadb
@several_writers
def test_no_event_is_missed_that_commits_late(stage: Stage, play: interleavings.Play) -> None:
    play(stage)

    assert [] == violations(stage.observe())


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_a_caller_that_has_written_sequences_nothing_and_loses_nothing(stage: Stage) -> None:
    interleavings.caller_that_has_written(stage)

    inside = stage.followers["caller"].notes[0]
    assert (None, []) == (inside["head"], inside["entries"])
    assert [] == violations(stage.observe())


@pytest.mark.parametrize("play", [interleavings.match_between_select_and_head, interleavings.one_stream_two_sessions])
def test_no_event_is_missed_or_out_of_order(stage: Stage, play: interleavings.Play) -> None:
    play(stage)

    assert [] == violations(stage.observe())


@pytest.mark.postgresql
def test_what_commits_while_a_pass_is_under_way_comes_with_the_next(stage: Stage) -> None:
    with installed("halted"):
        interleavings.commit_during_a_pass(stage)

    assert [] == violations(stage.observe())


def test_positions_go_on_after_the_log_was_emptied(stage: Stage) -> None:
    a = stage.actor("a")
    reader = stage.follower()
    for _ in range(3):
        a.record_alone()
    stage.read_all()
    with open_door("default"), connections["default"].cursor() as cursor:
        cursor.execute("DELETE FROM eventstore_position")
        cursor.execute("DELETE FROM eventstore_entry")

    (emptied,) = stage.read_all()
    a.record_alone()
    (after,) = stage.read_all()

    assert (emptied.head, reader.offset) == (3, 4)
    assert [entry.position for entry in after.entries] == [4]
