"""Raw SQL can store only what every reader can read."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

pytestmark = pytest.mark.django_db

READABLE = [
    "{}",
    "[0, -1, 10.05, 1e5, 1E-5, 10.5e+07, 0.0]",
    '{"a": "-] 1. 1e 01 \\" NaN"}',
    '"\\\\u0000 is a backslash and five characters"',
    '"\\ud83d\\ude00"',
    '["' + '\\"' * 50_000 + '"]',
]
UNREADABLE = ["", "{", "nul", "[NaN]", "[1,]", "[-]", "[1.]", "[1e]", "[1e+]", "[01]", "[-01]", "[.5]", "[+1]"]


def insert(payload: str, metadata: str = "{}") -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventstore_entry (type, payload, metadata) VALUES ('raw.Row', %s, %s)", [payload, metadata]
        )


@pytest.mark.parametrize("payload", READABLE, ids=lambda text: text[:20])
def test_json_that_readers_can_read_is_stored_byte_for_byte(payload: str) -> None:
    insert(payload)

    with connection.cursor() as cursor:
        cursor.execute("SELECT payload FROM eventstore_entry")
        assert [(payload,)] == list(cursor.fetchall())


@pytest.mark.parametrize("payload", UNREADABLE)
def test_what_no_json_reader_takes_is_refused(payload: str) -> None:
    with pytest.raises(DatabaseError):
        insert(payload)


@pytest.mark.parametrize("metadata", ["[]", "1", "null", '"a"', '{"a": [-]}'])
def test_metadata_is_a_json_object(metadata: str) -> None:
    with pytest.raises(DatabaseError):
        insert("{}", metadata)


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize("payload", ['"\\u0000"', '"\\\\\\u0000"', '{"\\u0000": 1}'])
def test_an_escaped_nul_is_refused_on_the_servers(payload: str) -> None:
    with pytest.raises(DatabaseError):
        insert(payload)
