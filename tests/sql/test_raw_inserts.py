"""What another language or a shell inserts with a type and a payload alone is a whole entry of the log."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction

from django_eventstore import EventEntry, EventStore
from django_eventstore.models import EventType, LogPosition
from tests import databases
from tests.store.log import execute, log_numbers, placed, save

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = "INSERT INTO eventstore_entry (type, payload) VALUES ('raw.Thing', '{\"n\": 1}')"


@pytest.fixture
def outside() -> Iterator[Any]:
    """A fresh connection of the bare driver; the caller commits."""
    entry = connections["default"].settings_dict
    vendor = connections["default"].vendor
    if vendor == "sqlite":
        connection: Any = sqlite3.connect(entry["NAME"])
    elif vendor == "postgresql":
        import psycopg

        connection = psycopg.connect(
            host=entry["HOST"], port=entry["PORT"], user=entry["USER"], password=entry["PASSWORD"], dbname=entry["NAME"]
        )
    else:
        import MySQLdb

        connection = MySQLdb.connect(**databases.mariadb_arguments(entry))
    yield connection
    connection.close()


def _run(connection: Any, *statements: str) -> None:
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    connection.commit()
    cursor.close()


def _require_whole(entry: EventEntry) -> None:
    now = datetime.now(timezone.utc)
    assert (7, "specified in RFC 4122") == (entry.event_id.version, entry.event_id.variant)
    made = datetime.fromtimestamp((entry.event_id.int >> 80) / 1000, timezone.utc)
    assert abs(now - made) < timedelta(minutes=1)
    assert abs(now - entry.timestamp) < timedelta(minutes=1)
    assert (1, "application/json", "", None) == (entry.version, entry.content_type, entry.stream, entry.stream_version)
    assert ("{}", None, None, None) == (entry.metadata, entry.correlation_id, entry.causation_id, entry.subject)
    assert "raw.Thing" == entry.type


def test_an_insert_of_type_and_payload_is_a_whole_entry(outside: Any) -> None:
    _run(outside, INSERT)

    [entry] = EventStore().get().entries
    _require_whole(entry)
    assert ('{"n": 1}', 1) == (entry.payload, entry.position)
    assert [entry.id] == [entry.id for entry in EventStore().get(types=["raw.*"]).entries]


ZONES = {
    "postgresql": [
        "SET TIME ZONE 'Pacific/Kiritimati'",
        "SET TIME ZONE 'America/St_Johns'",
        "SET TIME ZONE INTERVAL '-12:34' HOUR TO MINUTE",
    ],
    "mysql": ["SET time_zone = '+13:00'", "SET time_zone = '-03:30'", "SET time_zone = '-12:00'"],
    "sqlite": ["SELECT 1"],
}


@pytest.mark.parametrize("number", range(3))
def test_its_times_are_utc_whatever_the_zone_of_the_session(outside: Any, number: int) -> None:
    zones = ZONES[connections["default"].vendor]

    _run(outside, zones[number % len(zones)], INSERT)

    _require_whole(EventStore().get().entries[0])


@pytest.mark.mariadb
def test_an_insert_under_other_session_modes_is_whole(outside: Any) -> None:
    _run(outside, "SET sql_mode = ''", INSERT, "SET sql_mode = 'ANSI,STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'", INSERT)
    _run(outside, "SET NAMES latin1", INSERT)
    _run(outside, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", INSERT)

    entries = EventStore().get().entries
    assert 4 == len(entries)
    for entry in entries:
        _require_whole(entry)


def test_ids_of_one_statement_are_different_and_the_bits_are_random(outside: Any) -> None:
    _run(outside, f"{INSERT}{', ' + INSERT.split('VALUES ')[1]}" + ", ('raw.Thing', '{}')" * 500)

    ids = [entry.event_id for entry in EventEntry.objects.all()]
    assert 502 == len(set(ids))
    assert {7} == {id_.version for id_ in ids}
    assert {"specified in RFC 4122"} == {id_.variant for id_ in ids}
    ones, zeros = 0, 0
    for id_ in ids:
        ones, zeros = ones | id_.int, zeros | ~id_.int
    assert (1 << 80) - 1 & ~(0x8 << 76 | 0x1 << 62) == ones & (1 << 80) - 1
    assert (1 << 80) - 1 & ~(0x7 << 76 | 0x2 << 62) == zeros & (1 << 80) - 1


def test_raw_and_recorded_entries_of_a_stream_share_their_slot(outside: Any) -> None:
    streams = ["order-1", "order-42", "é", "🦆🦆🦆", "", "x" * 200, "a ", "ord'er"]
    rows = ", ".join("('raw.Thing', '{{}}', '{}')".format(stream.replace("'", "''")) for stream in streams)
    for stream in streams:
        save(1, stream=stream)
    _run(outside, f"INSERT INTO eventstore_entry (type, payload, stream) VALUES {rows}")
    assert 16 == len(EventStore().get().entries)

    slots = execute("SELECT e.stream, p.slot FROM eventstore_position p JOIN eventstore_entry e ON e.id = p.entry_id")
    assert set(streams) == {stream for stream, _ in slots}
    assert len(streams) == len(set(slots))
    assert all(0 <= slot < 64 for _, slot in slots)


def test_streams_spread_over_the_slots() -> None:
    for number in range(400):
        execute(
            "INSERT INTO eventstore_entry (type, payload, stream) VALUES ('raw.Thing', '{\"n\":1}', %s)",
            [f"order-{number}"],
        )
    assert 400 == len(log_numbers())

    counts = execute("SELECT slot, count(*) FROM eventstore_position GROUP BY slot")
    assert len(counts) > 48
    assert max(count for _, count in counts) <= 24  # 6.25 on average


@pytest.mark.parametrize("payload", ["", "{", "nonsense", "{'n': 1}", "{} {}", '{"n": NaN}'])
def test_a_payload_that_is_no_json_is_refused(payload: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        execute("INSERT INTO eventstore_entry (type, payload) VALUES ('raw.Thing', %s)", [payload])

    assert 0 == EventEntry.objects.count()


@pytest.mark.parametrize("metadata", ["", "[]", "3", "null", "{"])
def test_metadata_that_is_no_json_object_is_refused(metadata: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        execute("INSERT INTO eventstore_entry (type, payload, metadata) VALUES ('raw.Thing', '{}', %s)", [metadata])

    assert 0 == EventEntry.objects.count()


@pytest.mark.parametrize("columns", ["type", "payload"])
def test_a_row_without_type_or_payload_is_refused(columns: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        execute(f"INSERT INTO eventstore_entry ({columns}) VALUES ('{{}}')")

    assert 0 == EventEntry.objects.count()


def test_a_raw_insert_that_is_rolled_back_leaves_nothing(outside: Any) -> None:
    cursor = outside.cursor()
    cursor.execute("BEGIN")
    cursor.execute(INSERT)
    outside.rollback()
    save(2)

    assert [2] == log_numbers()


def test_a_raw_insert_keeps_its_place_between_recorded_events(outside: Any) -> None:
    save(0)
    _run(outside, INSERT)
    save(2)

    assert [0, 1, 2] == log_numbers()
    assert {"raw.Thing", "test.Counted"} == set(EventType.objects.values_list("name", flat=True))
    assert [1, 2, 3] == [position for position, _ in placed()]


@pytest.mark.postgresql
def test_copy_in_text_and_in_binary_is_whole(outside: Any) -> None:
    for form in ("", " WITH (FORMAT csv)", " WITH (FORMAT binary)"):
        with outside.cursor().copy(f"COPY eventstore_entry (type, payload) FROM STDIN{form}") as copy:
            if "csv" in form:
                copy.write('raw.Thing,"{""n"": 1}"\n')
            elif "binary" in form:
                copy.set_types(["varchar", "text"])
                copy.write_row(("raw.Thing", '{"n": 1}'))
            else:
                copy.write_row(("raw.Thing", '{"n": 1}'))
        outside.commit()

    page = EventStore().get()
    assert (3, True) == (len(page.entries), page.complete)
    for entry in page.entries:
        _require_whole(entry)


@pytest.mark.postgresql
@pytest.mark.parametrize("xid", [3, 2**62])
def test_a_transaction_id_given_by_copy_or_insert_is_overridden(outside: Any, xid: int) -> None:
    save(0)
    log_numbers()
    with outside.cursor().copy("COPY eventstore_entry (type, payload, xid) FROM STDIN") as copy:
        copy.write_row(("raw.Thing", '{"n": 1}', xid))
    _run(outside, f"INSERT INTO eventstore_entry (type, payload, xid) VALUES ('raw.Thing', '{{\"n\": 2}}', '{xid}')")

    assert [0, 1, 2] == log_numbers()
    assert 0 == execute("SELECT count(*) FROM eventstore_entry WHERE xid = %s::text::xid8", [xid])[0][0]


@pytest.mark.postgresql
def test_a_replica_role_cannot_switch_the_stamp_off(outside: Any) -> None:
    save(0)
    log_numbers()

    _run(
        outside,
        "SET session_replication_role = replica",
        "INSERT INTO eventstore_entry (type, payload, xid) VALUES ('raw.Thing', '{\"n\": 1}', '3')",
    )

    assert [0, 1] == log_numbers()


@pytest.mark.postgresql
@pytest.mark.parametrize("text", [r'"\u0000"', r'{"a": "\ud800"}'])
def test_json_that_nobody_could_read_is_refused(text: str) -> None:
    with pytest.raises(DatabaseError):
        execute("INSERT INTO eventstore_entry (type, payload) VALUES ('raw.Thing', %s)", [text])


def test_the_types_of_raw_inserts_are_told_apart_byte_by_byte(outside: Any) -> None:
    names = ["raw.Thing", "raw.thing", "raw.Thing ", "raw.Thíng"]
    for name in names:
        _run(outside, f"INSERT INTO eventstore_entry (type, payload) VALUES ('{name}', '{json.dumps({'n': 1})}')")

    assert 4 == len(log_numbers())
    assert sorted(names) == sorted(EventType.objects.values_list("name", flat=True))
    assert ["raw.Thing"] == [entry.type for entry in EventStore().get(types=["raw.Thing"]).entries]
    assert 4 == LogPosition.objects.values("type_id").distinct().count()
    assert re.fullmatch(r"\[\d+(, \d+)*\]", str([position for position, _ in placed()]))
