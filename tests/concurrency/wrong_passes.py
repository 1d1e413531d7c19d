"""Passes of the sequencer with one thing wrong, made from the package's own text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from django_eventstore.sql import sql_text
from django_eventstore.store import pages
from django_eventstore.store.sequencing import mysql, sequencer


def procedure() -> str:
    """The package's own text of the pass."""
    text = sql_text("0001_log", "postgresql")
    start = text.index("CREATE PROCEDURE eventstore_sequence(")
    return "CREATE OR REPLACE " + text[start + len("CREATE ") : text.index("\n$$;", start) + 4]


def _replaced(text: str, *changes: tuple[str, str]) -> str:
    """Every change must find its place once: a fault that is not planted would be found by nobody."""
    for old, new in changes:
        assert text.count(old) == 1, f"{text.count(old)} places hold {old!r}"
        text = text.replace(old, new)
    return text


def procedure_with(*changes: tuple[str, str]) -> Callable[[], tuple[list[str], list[str]]]:
    return lambda: ([_replaced(procedure(), *changes)], [procedure()])


HALT = (
    "INTO numbered, cuts;",
    "INTO numbered, cuts; PERFORM set_config('lock_timeout', '0', true); PERFORM pg_advisory_xact_lock(7003, 1);",
)


def sequence_anywhere() -> list[Any]:
    def sequence(using: str) -> Any:
        return sequencer(using).run()

    return [mock.patch.object(pages, "sequence", sequence)]


def pass_with(*changes: tuple[str, str]) -> Callable[[], list[Any]]:
    return lambda: [mock.patch.object(mysql, "SEQUENCE", _replaced(mysql.SEQUENCE, *changes))]


def ignore_shown_mark() -> list[Any]:
    highest = "SELECT COALESCE(MAX(position), 0) FROM eventstore_position"
    return [mock.patch.object(mysql.MariaDBSequencer, "head_sql", highest)]
