"""Wrong designs, planted to see that the suite finds them.

A fault is planted in a process by `plant` (the test's own, or one whose environment names it), or in the database by
`installed`; the package reads no variable and knows of nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connections

from tests.concurrency.wrong_passes import HALT, ignore_shown_mark, pass_with, procedure_with, sequence_anywhere
from tests.concurrency.wrong_readers import BEHIND_XMIN, BY_ID, BY_RANK, read_head_after_select, reads_by

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
    try:
        _execute(change, using)
        yield
    finally:
        _execute(restore, using)


def _execute(statements: list[str], using: str) -> None:
    with connections[using].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


ABOVE_THE_HIGHEST = (
    "(SELECT id AS entry_id FROM eventstore_entry WHERE id > "
    "(SELECT COALESCE(MAX(entry_id), 0) FROM eventstore_position) ORDER BY id LIMIT {max_entries}) q"
)

FAULTS: dict[str, Fault] = {
    "naive id": Fault(patches=reads_by(BY_ID)),
    "position at insert": Fault(patches=reads_by(BY_RANK)),
    "xmin fence": Fault(patches=reads_by(BEHIND_XMIN)),
    "head after select": Fault(patches=read_head_after_select),
    "halted": Fault(statements=procedure_with(HALT)),
    "halted, snapshot after entries": Fault(
        statements=procedure_with(
            HALT,
            (
                "\n    head := head + numbered;\n",
                "\n    head := head + numbered; target := pg_current_snapshot();\n",
            ),
        )
    ),
    "in-progress list forgotten": Fault(
        statements=procedure_with(
            (
                "ended := ARRAY(SELECT pg_snapshot_xip(since) EXCEPT SELECT pg_snapshot_xip(target));",
                "ended := ARRAY[]::xid8[];",
            )
        )
    ),
    "no COMMIT guard": Fault(
        patches=sequence_anywhere,
        statements=procedure_with(
            ("BEGIN\n    COMMIT;", "BEGIN"), ("    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;\n", "")
        ),
    ),
    "asynchronous commit": Fault(
        statements=procedure_with(("PERFORM set_config('synchronous_commit', 'on', true);", "NULL;"))
    ),
    "sequence cache": Fault(
        statements=lambda: (
            ["ALTER SEQUENCE eventstore_entry_id_seq CACHE 20"],
            ["ALTER SEQUENCE eventstore_entry_id_seq CACHE 1"],
        )
    ),
    "id watermark": Fault(
        patches=pass_with(
            (
                "(SELECT entry_id FROM eventstore_pending ORDER BY entry_id LIMIT {max_entries}) q",
                ABOVE_THE_HIGHEST,
            )
        )
    ),
    "repeatable read": Fault(
        patches=pass_with(
            ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        )
    ),
    "no shown mark": Fault(patches=ignore_shown_mark),
    # Inside a compound statement COMMIT does not wait for the log when another session is writing it; only the answer to
    # the client does.
    "mark moved in the same statement": Fault(
        patches=pass_with(
            (
                "    COMMIT;\n",
                "    COMMIT;\n    UPDATE eventstore_shown SET position = v_head WHERE id = 1 AND position < v_head;\n",
            )
        )
    ),
}
