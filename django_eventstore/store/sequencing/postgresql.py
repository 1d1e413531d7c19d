"""PostgreSQL: the entries of transactions that ended between two snapshots.

The pass is the procedure ``eventstore_sequence``; the argument why it is exact stands above it in
``sql/0001_log.postgresql.sql``. The technique is that of PgQ's ticks, made incremental.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from django.db import OperationalError
from django.db.backends.utils import CursorWrapper

from .base import Pass, Sequencer

__all__ = ["PostgreSQLSequencer"]

MAX_ENTRIES = 50_000
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"

SINCE_THE_LAST_TICK = """
    SELECT coalesce((SELECT snapshot FROM eventstore_tick ORDER BY id DESC LIMIT 1), '1:1:'),
           pg_current_snapshot()::text, pg_current_xact_id_if_assigned()::text
"""
# Looked up entry by entry, whatever the statistics say: a join would read all positions to count a few entries.
UNSEQUENCED = """(SELECT count(*) FROM (
    SELECT FROM unnest(%s::text[]::xid8[], %s::text[]::xid8[]) r(lo, hi)
    CROSS JOIN LATERAL (SELECT i.id FROM eventstore_entry i WHERE i.xid > r.lo AND i.xid < r.hi OFFSET 0) e
    LEFT JOIN LATERAL (SELECT p.position FROM eventstore_position p WHERE p.entry_id = e.id OFFSET 0) p ON true
    WHERE p.position IS NULL LIMIT %s
) q)"""


def _sqlstate(error: OperationalError) -> str | None:
    """The SQLSTATE of psycopg 3 (``sqlstate``) and psycopg 2 (``pgcode``)."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


class PostgreSQLSequencer(Sequencer):
    """One ``CALL`` in autocommit, one round trip."""

    head_sql = (
        "SELECT greatest((SELECT head FROM eventstore_tick ORDER BY id DESC LIMIT 1), "
        "(SELECT max(position) FROM eventstore_position), 0)"
    )

    def run(self, *, max_entries: int | None = None) -> Pass:
        return self._pass(max_entries or MAX_ENTRIES, forced=False)

    def rebase(self) -> Pass:
        return self._pass(MAX_ENTRIES, forced=True)

    def _pass(self, max_entries: int, *, forced: bool) -> Pass:
        with self.connection.cursor() as cursor:
            try:
                return self._call(cursor, max_entries, forced=forced)
            except OperationalError as error:
                if _sqlstate(error) != QUERY_CANCELED:
                    raise
            # A pass is all or nothing: under a statement_timeout shorter than one, the backlog would only grow. Setting the
            # time-out inside the call is too late.
            cursor.execute("SELECT current_setting('statement_timeout')")
            timeout = cursor.fetchone()[0]
            cursor.execute("SELECT set_config('statement_timeout', '0', false)")
            try:
                return self._call(cursor, max_entries, forced=forced)
            finally:
                cursor.execute("SELECT set_config('statement_timeout', %s, false)", [timeout])

    def _call(self, cursor: CursorWrapper, max_entries: int, *, forced: bool) -> Pass:
        try:
            cursor.execute("CALL eventstore_sequence(%s, %s, NULL, NULL, NULL)", [max_entries, forced])
        except OperationalError as error:
            if _sqlstate(error) == LOCK_NOT_AVAILABLE:
                return Pass(reached=False)
            raise
        row: Any = cursor.fetchone()
        outcome, numbered, _head = row
        return Pass(
            reached=outcome == "done", numbered=numbered, more=outcome == "more", refused=outcome == "read-only"
        )

    def place_in_test(self) -> Pass:
        # The transaction's own entries are invisible to a snapshot difference, so everything without a position is taken,
        # as in a rebase. The lock keeps a real pass of another connection out until the test rolls back.
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(7002, 'eventstore_tick'::regclass::oid::int)")
            cursor.execute(
                "INSERT INTO eventstore_type (name) SELECT DISTINCT e.type FROM eventstore_entry e "
                "WHERE NOT EXISTS (SELECT FROM eventstore_type t WHERE t.name = e.type)"
            )
            cursor.execute(
                "INSERT INTO eventstore_position (position, entry_id, type_id, slot) "
                "SELECT %s + row_number() OVER (ORDER BY e.id), e.id, t.id, (hashtextextended(e.stream, 0) & 63)::smallint "
                "FROM eventstore_entry e JOIN eventstore_type t ON t.name = e.type "
                "WHERE NOT EXISTS (SELECT FROM eventstore_position p WHERE p.entry_id = e.id)",
                [self.head()],
            )
            return Pass(reached=True, numbered=cursor.rowcount)

    def unsequenced(self, *, limit: int) -> int:
        return self._count(UNSEQUENCED, limit)

    def end(self, *, limit: int) -> int:
        # In one statement: one that gets its position meanwhile is in the one number or in the other.
        return self._count(f"{UNSEQUENCED} + ({self.head_sql})", limit)

    def _count(self, counted: str, limit: int) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(SINCE_THE_LAST_TICK)
            intervals = _open_intervals(*cursor.fetchone())
            bounds = [[str(low) for low, _ in intervals], [str(high) for _, high in intervals]]
            cursor.execute(f"SELECT {counted}", [*bounds, limit])
            return int(cursor.fetchone()[0])


def _open_intervals(since: str, until: str, own: str | None) -> list[tuple[int, int]]:
    """The open intervals of transaction ids that hold what ended between two snapshots, and the caller's ``own``.

    Those that are running lie between them: their entries are not walked over, of which an open bulk load has a million.
    """
    _, first, then = since.split(":")
    _, end, now = until.split(":")
    running = {int(xid) for xid in now.split(",") if xid}
    last = int(end)
    if own is not None:  # a snapshot never lists its own transaction as running, nor need it end above it
        last = max(last, int(own) + 1)
    ended = {int(xid) for xid in then.split(",") if xid} - running
    bounds = [int(first) - 1, *sorted(xid for xid in running if xid >= int(first)), last]
    between = [(low, high) for low, high in pairwise(bounds) if high - low > 1]
    return [*((xid - 1, xid + 1) for xid in sorted(ended)), *between]
