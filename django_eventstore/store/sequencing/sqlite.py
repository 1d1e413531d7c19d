"""SQLite: a trigger draws the position in the writer's own transaction.

There is one writer at a time, so the order of commits is the order of positions. No pass, no lock, nothing to wait for; reads
never write. ``AUTOINCREMENT`` keeps the head when the log is emptied, and a rolled-back insert gives its position back.
"""

from __future__ import annotations

from contextlib import closing
from typing import cast

from django.db.backends.sqlite3.base import DatabaseWrapper

from .base import Pass, Sequencer

__all__ = ["SQLiteSequencer"]


# As in the trigger of sql/0001_log.sqlite.sql.
SLOT = (
    "((coalesce(unicode(substr(e.stream, -1, 1)), 0) + 10 * coalesce(unicode(substr(e.stream, -2, 1)), 0) "
    "+ 37 * coalesce(unicode(substr(e.stream, -3, 1)), 0) + 17 * coalesce(unicode(substr(e.stream, -4, 1)), 0) "
    "+ 29 * coalesce(unicode(substr(e.stream, -5, 1)), 0) + length(e.stream)) * 40503 >> 8) & 63"
)


class SQLiteSequencer(Sequencer):
    """Everything is in the log as soon as it is committed."""

    head_sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'eventstore_position'), 0)"

    def run(self, *, max_entries: int | None = None) -> Pass:
        return Pass(reached=True)

    def place_in_test(self) -> Pass:
        return Pass(reached=True)

    def rebase(self) -> Pass:
        # Entries without a position exist only if they were inserted while the trigger was missing.
        with self.connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO eventstore_type (name) SELECT DISTINCT type FROM eventstore_entry "
                "WHERE type NOT IN (SELECT name FROM eventstore_type)"
            )
            cursor.execute(
                f"INSERT INTO eventstore_position (entry_id, type_id, slot) SELECT e.id, t.id, {SLOT} "
                "FROM eventstore_entry e JOIN eventstore_type t ON t.name = e.type "
                "WHERE NOT EXISTS (SELECT 1 FROM eventstore_position p WHERE p.entry_id = e.id) ORDER BY e.id"
            )
            return Pass(reached=True, numbered=cursor.rowcount)

    def committed_head(self) -> int | None:
        # What the open transaction has recorded has positions already, which a rollback gives to other events. Another
        # connection sees what is committed; an in-memory database has none to ask, and then nothing is certain.
        if cast(DatabaseWrapper, self.connection).is_in_memory_db():
            return 0
        with closing(self.connection.copy()) as other, other.cursor() as cursor:
            cursor.execute(self.head_sql)
            return int(cursor.fetchone()[0])

    def unsequenced(self, *, limit: int) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(
                # Positions follow ids here: what has none lies above the last that has one. verify looks everywhere.
                "SELECT count(*) FROM (SELECT 1 FROM eventstore_entry WHERE id > coalesce("
                "(SELECT entry_id FROM eventstore_position ORDER BY position DESC LIMIT 1), 0) LIMIT %s)",
                [limit],
            )
            return int(cursor.fetchone()[0])
