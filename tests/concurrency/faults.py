"""Wrong designs, planted to see that the suite finds them.

A fault is planted in a process by `plant` (the test's own, or one whose environment names it), or in the database by
`installed`; the package reads no variable and knows of nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from django.db import connections

from django_eventstore import EventStore
from django_eventstore.models import EventEntry
from django_eventstore.sql import sql_text
from django_eventstore.store import Page, event_store, log_state
from django_eventstore.store.reading import COLUMNS, Extract
from django_eventstore.store.sequencing import mysql, sequencer

VARIABLE = "EVENTSTORE_TEST_FAULT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``patches``: replacements in a process. ``statements``: what changes the database, and what changes it back."""

    patches: Callable[[], list[Any]] = list
    statements: Callable[[], tuple[list[str], list[str]]] = lambda: ([], [])


def plant(name: str) -> None:
    """For the rest of this process."""
    for patch in FAULTS[name].patches():
        patch.start()


@contextmanager
def planted(name: str) -> Iterator[None]:
    """In this process, for a while."""
    with ExitStack() as stack:
        for patch in FAULTS[name].patches():
            stack.enter_context(patch)
        yield


@contextmanager
def installed(name: str, *, using: str = "default") -> Iterator[None]:
    """In the database, for a while."""
    change, restore = FAULTS[name].statements()
    with connections[using].cursor() as cursor:
        try:
            for statement in change:
                cursor.execute(statement)
            yield
        finally:
            for statement in restore:
                cursor.execute(statement)


# --- readers


def _reads_by(source: str) -> Callable[[], list[Any]]:
    """``get`` reads rows of (id columns, place) from this statement in place of the log."""

    def get(
        self: EventStore, offset: int = 0, limit: int = 100, *, types: Any = (), stream: Any = None, epoch: Any = None
    ) -> Page:
        event_store.sequence(self.using)  # so that the log exists and only the reader is wrong
        state = log_state(self.using)
        rows = EventEntry.objects.using(self.using).raw(
            f"SELECT {COLUMNS}, q.place AS position FROM ({source}) q JOIN eventstore_entry e ON e.id = q.id "
            "WHERE q.place > %s ORDER BY q.place LIMIT %s",
            [offset, limit],
        )
        entries = tuple(rows)
        wanted = tuple(
            entry
            for entry in entries
            if (stream is None or entry.stream == stream)
            and (not types or any(entry.type == t or entry.type.startswith(t.rstrip("*")) for t in types))
        )
        complete = len(entries) < limit
        return Page(
            log=state.log,
            epoch=state.epoch,
            entries=wanted,
            next_offset=entries[-1].position if entries else offset,
            complete=complete,
            head=state.head if complete else None,
        )

    return lambda: [mock.patch.object(EventStore, "get", get)]


def _head_after_select() -> list[Any]:
    reading = event_store.read
    using: list[str] = []

    def read(**arguments: Any) -> Extract:
        extract = reading(**arguments)
        using[:] = [arguments["using"]]
        return extract

    getting = EventStore.get

    def get(self: EventStore, *arguments: Any, **keywords: Any) -> Page:
        page = getting(self, *arguments, **keywords)
        if not page.complete:
            return page
        head = log_state(self.using).head
        return Page(
            log=page.log, epoch=page.epoch, entries=page.entries, next_offset=head, complete=True, head=head
        )

    return [mock.patch.object(event_store, "read", read), mock.patch.object(EventStore, "get", get)]


# --- PostgreSQL


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


def _procedure_with(*changes: tuple[str, str]) -> Callable[[], tuple[list[str], list[str]]]:
    return lambda: ([_replaced(procedure(), *changes)], [procedure()])


HALT = (
    "INTO numbered, cuts;",
    "INTO numbered, cuts; PERFORM set_config('lock_timeout', '0', true); PERFORM pg_advisory_xact_lock(7003, 1);",
)


def _unguarded() -> list[Any]:
    def sequence(using: str) -> Any:
        return sequencer(using).run()

    return [mock.patch.object(event_store, "sequence", sequence)]


# --- MariaDB


def _pass_with(*changes: tuple[str, str]) -> Callable[[], list[Any]]:
    return lambda: [mock.patch.object(mysql, "SEQUENCE", _replaced(mysql.SEQUENCE, *changes))]


def _unmarked() -> list[Any]:
    highest = "SELECT COALESCE(MAX(position), 0) FROM eventstore_position"
    return [mock.patch.object(mysql.MariaDBSequencer, "head_sql", highest)]


FENCED = (
    "SELECT i.id, i.id AS place FROM eventstore_entry i WHERE i.xid < pg_snapshot_xmin(pg_current_snapshot())"
)

FAULTS: dict[str, Fault] = {
    "naive id": Fault(patches=_reads_by("SELECT i.id, i.id AS place FROM eventstore_entry i")),
    "position at insert": Fault(
        patches=_reads_by("SELECT i.id, ROW_NUMBER() OVER (ORDER BY i.id) AS place FROM eventstore_entry i")
    ),
    "xmin fence": Fault(patches=_reads_by(FENCED)),
    "head after select": Fault(patches=_head_after_select),
    "halted": Fault(statements=_procedure_with(HALT)),
    "halted, snapshot after entries": Fault(
        statements=_procedure_with(HALT, ("\n    head := head + numbered;\n\n", "\n    head := head + numbered; target := pg_current_snapshot();\n\n"))
    ),
    "in-progress list forgotten": Fault(
        statements=_procedure_with(
            (
                "ended := ARRAY(SELECT pg_snapshot_xip(tick.snapshot::pg_snapshot) EXCEPT SELECT pg_snapshot_xip(target));",
                "ended := ARRAY[]::xid8[];",
            )
        )
    ),
    "no COMMIT guard": Fault(
        patches=_unguarded,
        statements=_procedure_with(
            ("BEGIN\n    COMMIT;", "BEGIN"), ("    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;\n", "")
        ),
    ),
    "asynchronous commit": Fault(
        statements=_procedure_with(("PERFORM set_config('synchronous_commit', 'on', true);", "NULL;"))
    ),
    "sequence cache": Fault(
        statements=lambda: (
            ["ALTER SEQUENCE eventstore_entry_id_seq CACHE 20"],
            ["ALTER SEQUENCE eventstore_entry_id_seq CACHE 1"],
        )
    ),
    "id watermark": Fault(
        patches=_pass_with(
            (
                "(SELECT entry_id FROM eventstore_pending ORDER BY entry_id LIMIT {max_entries}) q",
                "(SELECT id AS entry_id FROM eventstore_entry WHERE id > (SELECT COALESCE(MAX(entry_id), 0) FROM "
                "eventstore_position) ORDER BY id LIMIT {max_entries}) q",
            )
        )
    ),
    "repeatable read": Fault(
        patches=_pass_with(("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    ),
    "no shown mark": Fault(patches=_unmarked),
    # Inside a compound statement COMMIT does not wait for the log when another session is writing it; only the answer to
    # the client does.
    "mark moved in the same statement": Fault(
        patches=_pass_with(
            (
                "    COMMIT;\n",
                "    COMMIT;\n    UPDATE eventstore_shown SET position = v_head WHERE id = 1 AND position < v_head;\n",
            )
        )
    ),
}
