"""verify() finds what is wrong with a log, and nothing in one that is right."""

from __future__ import annotations

import sys

import pytest
from django.db import IntegrityError, connection, connections, transaction

from django_eventstore import EventStore
from django_eventstore.exceptions import EventStoreError, SequencingRefused
from django_eventstore.inspection import Report, positions, streams, verify
from django_eventstore.models import Epoch
from django_eventstore.store.sequencing import Pass
from tests.inspection.planting import ENTRY, change, insert_unseen, remove_positions
from tests.store.log import execute, placed, save

# The function has the name of its module, and hides it.
VERIFY = sys.modules[verify.__module__]

pytestmark = pytest.mark.django_db(transaction=True)


def found(report: Report) -> dict[str, int]:
    return {finding.kind: finding.count for finding in report.findings}


@pytest.fixture(params=[50_000, 3])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Ranges larger than the log, and ranges so small that everything lies across their borders."""
    monkeypatch.setattr(positions, "CHUNK", request.param)
    monkeypatch.setattr(streams, "CHUNK", request.param)
    return request.param


def test_an_empty_log_is_sound() -> None:
    report = verify()

    assert report.is_sound
    assert (0, 0, None) == (report.head, report.pruned_through, report.repaired)


def test_a_used_log_is_sound(chunk: int) -> None:
    save(*range(10), stream="plain")
    for version in range(5):
        EventStore().save("test.Counted", {"n": version}, stream="versioned", expected_version=version)
        EventStore().save("test.Other", {"n": version}, stream=f"versioned-{version}", expected_version=0)
    save(*range(10))

    report = verify()

    assert {} == found(report)
    assert (30, 0) == (report.head, report.pruned_through)
    assert report.log == Epoch.objects.get().log


def test_entries_that_nobody_has_sequenced_yet_are_no_finding() -> None:
    save(*range(10))

    assert verify().is_sound
    assert 10 == len(placed())


def test_entries_of_an_open_transaction_are_no_finding() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("an open writer keeps every other one out")
    save(1)
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(ENTRY)
        assert verify().is_sound
        other.commit()
    finally:
        other.close()
    assert verify().is_sound
    assert 2 == len(placed())


def test_what_lies_below_the_lowest_position_was_pruned(chunk: int) -> None:
    save(*range(10))
    verify()
    remove_positions(1, 4)

    report = verify()

    assert {} == found(report)
    assert (10, 4) == (report.head, report.pruned_through)


def test_an_emptied_log_was_pruned_through_its_head(chunk: int) -> None:
    save(*range(5))
    verify()
    remove_positions(1, 5)

    report = verify()

    assert {} == found(report)
    assert (5, 5) == (report.head, report.pruned_through)


def test_holes_between_positions_are_counted_with_their_ranges(chunk: int) -> None:
    save(*range(20))
    verify()
    remove_positions(1, 2)
    remove_positions(4, 4)
    remove_positions(7, 15)

    report = verify()

    assert {"hole": 10} == found(report)
    assert ("positions 4 to 4", "positions 7 to 15") == report.findings[0].examples
    assert 2 == report.pruned_through


def test_a_hole_at_the_upper_end_is_found(chunk: int) -> None:
    save(*range(10))
    verify()
    remove_positions(8, 10)

    report = verify()

    assert {"hole": 3} == found(report)
    assert ("positions 8 to 10",) == report.findings[0].examples


def test_retention_that_goes_on_meanwhile_leaves_no_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    save(*range(10))
    verify()
    monkeypatch.setattr(positions, "CHUNK", 4)
    rows, original = positions._rows, positions.HOLES
    removed = []

    def rows_after_pruning(sql: str, *arguments: object, **keywords: object) -> object:
        if sql == original and not removed:
            removed.append(True)
            remove_positions(1, 6)
        return rows(sql, *arguments, **keywords)

    monkeypatch.setattr(positions, "_rows", rows_after_pruning)
    remove_positions(2, 2)  # gives the scan a reason to look at the first range

    _, findings = positions.holes(head=10, using="default")

    assert [True] == removed
    assert [] == findings


def test_an_entry_that_no_pass_finds_is_found_and_repaired(chunk: int) -> None:
    save(*range(5))
    verify()
    insert_unseen(4)
    save(*range(5, 8))

    report = verify()

    assert {"unsequenced": 4} == found(report)
    before = placed()
    epochs = Epoch.objects.count()

    repaired = verify(repair=True)

    assert {} == found(repaired)
    assert (4, 12) == (repaired.repaired, repaired.head)
    assert before == placed()[:8]
    assert epochs == Epoch.objects.count()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_an_entry_is_blamed_only_after_another_pass() -> None:
    save(1, 2)

    sequenced = positions.entries_without_one_position(catch_up=lambda: EventStore().get(), using="default")
    save(3)
    (finding,) = positions.entries_without_one_position(catch_up=lambda: None, using="default")

    assert [] == sequenced
    assert ("unsequenced", 1) == (finding.kind, finding.count)


def test_an_entry_that_comes_after_the_pass_is_not_blamed() -> None:
    insert_unseen(2, ids=[100_000, 100_002])

    (finding,) = positions.entries_without_one_position(
        catch_up=lambda: insert_unseen(1, ids=[100_001]), using="default"
    )

    assert ("entry 100000", "entry 100002") == finding.examples


def test_a_repair_of_a_sound_log_does_nothing() -> None:
    save(*range(5))

    report = verify(repair=True)

    assert report.is_sound
    assert report.repaired is None


def test_positions_without_their_entry_are_found(chunk: int) -> None:
    save(*range(8))
    verify()
    change(
        "DELETE FROM eventstore_entry WHERE id IN (SELECT entry_id FROM eventstore_position WHERE position IN (3, 5))"
    )

    report = verify()

    assert {"orphan": 2} == found(report)
    assert ("position 3", "position 5") == report.findings[0].examples


def test_a_position_filed_under_another_type_is_found(chunk: int) -> None:
    save(*range(5))
    save(5, type="test.Other")
    verify()
    change(
        "UPDATE eventstore_position SET type_id = (SELECT id FROM eventstore_type WHERE name = 'test.Other') "
        "WHERE position = 2"
    )

    report = verify()

    assert {"type": 1} == found(report)
    assert ("position 2: 'test.Other' for an entry of type 'test.Counted'",) == report.findings[0].examples


def test_versions_that_do_not_rise_are_found(chunk: int) -> None:
    for stream in ("a", "b", "c"):
        for version in range(4):
            EventStore().save("test.Counted", {"n": version}, stream=stream, expected_version=version)
    verify()
    change("UPDATE eventstore_entry SET stream_version = 9 WHERE stream = 'b' AND stream_version = 2")

    report = verify()

    assert {"stream_version": 1} == found(report)
    assert ("stream 'b': version 3 at position 7 follows version 9",) == report.findings[0].examples


def test_a_version_that_occurs_twice_is_found() -> None:
    for version in range(3):
        EventStore().save("test.Counted", {"n": version}, stream="a", expected_version=version)
    verify()
    change("UPDATE eventstore_entry SET stream_version = 1 WHERE stream = 'a' AND stream_version = 2")

    assert {"stream_version": 1} == found(verify())


def test_a_stream_that_mixes_versioned_and_plain_events_is_found(chunk: int) -> None:
    for stream in ("a", "b", "c"):
        for version in range(2):
            EventStore().save("test.Counted", {"n": version}, stream=stream, expected_version=version)
    save(1, 2, 3, stream="plain")
    execute("INSERT INTO eventstore_entry (type, payload, stream) VALUES ('test.Raw', '{}', 'b')")

    report = verify()

    assert {"mixed_stream": 1} == found(report)
    assert ("stream 'b'",) == report.findings[0].examples


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=False)
def test_an_entry_with_two_positions_is_found_where_nothing_forbids_it() -> None:
    save(1, 2)
    assert verify().is_sound
    ((constraint,),) = execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'eventstore_position'::regclass AND contype = 'u'"
    )
    execute(f"ALTER TABLE eventstore_position DROP CONSTRAINT {constraint}")
    execute(
        "INSERT INTO eventstore_position (position, entry_id, type_id, slot) "
        "SELECT 3, entry_id, type_id, slot FROM eventstore_position WHERE position = 1"
    )

    report = verify()

    assert 1 == found(report)["double_position"]


@pytest.mark.mariadb
def test_a_pending_row_with_a_position_is_found_although_no_pass_succeeds() -> None:
    save(1, 2)
    verify()
    execute("INSERT INTO eventstore_pending (entry_id) SELECT entry_id FROM eventstore_position WHERE position = 1")

    report = verify()

    assert {"pending": 1, "pass": 1} == found(report)


@pytest.mark.mariadb
def test_a_pending_row_without_its_entry_is_found() -> None:
    save(1)
    verify()
    execute("INSERT INTO eventstore_pending (entry_id) VALUES (987654321)")

    report = verify()

    assert {"pending": 1} == found(report)
    assert ("entry 987654321",) == report.findings[0].examples


@pytest.mark.mariadb
def test_a_shown_mark_above_the_head_is_found() -> None:
    save(1, 2)
    verify()
    execute("UPDATE eventstore_shown SET position = 5")

    assert {"head": 3, "hole": 3} == found(verify())


def test_a_head_below_the_highest_position_is_found() -> None:
    save(*range(5))
    verify()
    execute(
        {
            "postgresql": "UPDATE eventstore_tick SET head = 3",
            "mysql": "UPDATE eventstore_head SET head = 3",
            "sqlite": "UPDATE sqlite_sequence SET seq = 3 WHERE name = 'eventstore_position'",
        }[connection.vendor]
    )

    assert "head" in found(verify())


def test_inside_a_transaction_it_refuses() -> None:
    with transaction.atomic(), pytest.raises(SequencingRefused):
        verify()


@pytest.mark.django_db(transaction=False)
def test_in_a_test_case_it_works() -> None:
    save(1, 2, 3)

    assert (True, 3) == (verify().is_sound, verify().head)


def test_it_runs_passes_until_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Pass(reached=False, more=True), Pass(reached=False), Pass(reached=True)]
    monkeypatch.setattr(VERIFY, "sequence", lambda using: answers.pop(0))

    assert verify().is_sound
    assert [] == answers


def test_a_lock_that_nobody_lets_go_of_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VERIFY, "sequence", lambda using: Pass(reached=False))

    with pytest.raises(EventStoreError, match="lock"):
        verify()


def test_examples_are_few_and_the_count_is_whole() -> None:
    save(*range(30))
    verify()
    for position in range(2, 30, 2):
        remove_positions(position, position)

    (finding,) = verify().findings

    assert (14, 10) == (finding.count, len(finding.examples))


def test_the_database_refuses_an_entry_with_two_positions() -> None:
    save(1, 2)
    verify()
    with pytest.raises(IntegrityError):
        execute(
            "INSERT INTO eventstore_position (position, entry_id, type_id, slot) "
            "SELECT 3, entry_id, type_id, slot FROM eventstore_position WHERE position = 1"
        )
