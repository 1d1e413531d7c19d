"""MariaDB: the rows of a narrow pending table, written by a trigger with each entry."""

from __future__ import annotations

from typing import Any

from django.db import OperationalError, transaction
from django.db.backends.utils import CursorWrapper

from .base import Pass, Sequencer

__all__ = ["MariaDBSequencer"]

MAX_ENTRIES = 10_000
LOCK_WAIT_TIMEOUT = 1205
DEADLOCK = 1213
MOST_TRIES = 5
READ_ONLY = -1

# One compound statement, one round trip: a client that is frozen or killed in the middle holds nothing, because the server
# goes on without it. Why it is exact and waits for nobody:
#  * READ COMMITTED: INSERT ... SELECT then reads pending rows without locks; at REPEATABLE READ it waits for open writers.
#    One statement takes the batch, so one snapshot decides what is new, and id order within it is the order of inserts.
#  * The delete is driven from the position table (STRAIGHT_JOIN), so that it touches the rows just numbered and no others;
#    nearly every other way to write it waits for writers or makes them wait.
#  * InnoDB shows a commit to others before its log is flushed. A reader that saw a position then and told it on would, after
#    a crash, find it given to another event. Readers therefore stop at the shown mark, which moves only after the COMMIT
#    has been answered (with innodb_flush_log_at_trx_commit=1). That is a statement of its own: inside the block COMMIT
#    returns before the flush when another session is writing the log, and only the answer to the client waits for it.
#    A run that died between the two is finished by the next: its barrier update makes that COMMIT wait for the log as well.
#  * The head row is the lock; who waits for it longer than a second gets error 1205. The same bound holds for the shown row,
#    which a reader at SERIALIZABLE locks until its transaction ends.
#  * SELECT ... INTO and then IF: a query inside an IF locks what it reads, and would wait for an open removal of old rows.
#  * A type seen for the first time gets id 0 in the insert and its own afterwards: a second statement that looked for
#    types first could see entries the first did not.
SEQUENCE = """
SET STATEMENT innodb_lock_wait_timeout = 1 FOR BEGIN NOT ATOMIC
main: BEGIN
    DECLARE v_head, v_shown, v_count, v_new BIGINT DEFAULT NULL;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;
    IF @@global.read_only OR @@session.tx_read_only THEN
        SELECT -1, 0, FALSE;
        LEAVE main;
    END IF;
    IF @@in_transaction THEN
        SIGNAL SQLSTATE '25001' SET MESSAGE_TEXT = 'the sequencer does not run inside a transaction';
    END IF;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    SELECT MAX(head) INTO v_head FROM eventstore_head WHERE id = 1 FOR UPDATE;
    IF v_head IS NULL THEN
        INSERT IGNORE INTO eventstore_head (id, head, barrier)
            SELECT 1, COALESCE(MAX(position), 0), 0 FROM eventstore_position;
        INSERT IGNORE INTO eventstore_shown (id, position) VALUES (1, 0);
        SELECT head INTO v_head FROM eventstore_head WHERE id = 1 FOR UPDATE;
    END IF;
    INSERT INTO eventstore_position (position, entry_id, type_id, slot)
        SELECT v_head + ROW_NUMBER() OVER (ORDER BY q.entry_id), q.entry_id, COALESCE(t.id, 0), CRC32(e.stream) & 63
        FROM (SELECT entry_id FROM eventstore_pending ORDER BY entry_id LIMIT {max_entries}) q
        JOIN eventstore_entry e ON e.id = q.entry_id
        LEFT JOIN eventstore_type t ON t.name = e.type;
    SET v_count = ROW_COUNT();
    IF v_count > 0 THEN
        SELECT EXISTS (SELECT 1 FROM eventstore_position WHERE position > v_head AND type_id = 0) INTO v_new;
        IF v_new THEN
            INSERT INTO eventstore_type (name)
                SELECT DISTINCT e.type FROM eventstore_position p JOIN eventstore_entry e ON e.id = p.entry_id
                WHERE p.position > v_head AND p.type_id = 0;
            UPDATE eventstore_position SET type_id =
                (SELECT t.id FROM eventstore_type t JOIN eventstore_entry e ON e.type = t.name
                 WHERE e.id = eventstore_position.entry_id)
                WHERE position > v_head AND type_id = 0;
        END IF;
        DELETE p FROM eventstore_position b STRAIGHT_JOIN eventstore_pending p ON p.entry_id = b.entry_id
            WHERE b.position > v_head AND b.position <= v_head + v_count;
        IF ROW_COUNT() <> v_count THEN
            SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'eventstore: pending rows and positions disagree';
        END IF;
        SET v_head = v_head + v_count;
        UPDATE eventstore_head SET head = v_head WHERE id = 1;
    ELSE
        SELECT position INTO v_shown FROM eventstore_shown WHERE id = 1;
        IF v_shown < v_head THEN
            UPDATE eventstore_head SET barrier = barrier + 1 WHERE id = 1;
        END IF;
    END IF;
    COMMIT;
    SELECT v_count, v_head, v_count > 0 OR COALESCE(v_shown < v_head, FALSE);
END;
END
"""

SHOW = "UPDATE eventstore_shown SET position = %s WHERE id = 1 AND position < %s"


def _errno(error: OperationalError) -> int | None:
    return error.args[0] if error.args else None


class MariaDBSequencer(Sequencer):
    """One compound statement in autocommit, and one more to show what it did."""

    head_sql = "SELECT COALESCE(MAX(position), 0) FROM eventstore_shown"

    def run(self, *, max_entries: int | None = None) -> Pass:
        limit = max_entries or MAX_ENTRIES
        for _ in range(MOST_TRIES):
            try:
                numbered = self._sequence_and_show(limit)
            except OperationalError as error:
                # A deadlock takes the whole pass back: several that begin at once on an emptied log make the lock's row.
                if _errno(error) == DEADLOCK:
                    continue
                if _errno(error) == LOCK_WAIT_TIMEOUT:
                    break
                raise
            if numbered == READ_ONLY:
                return Pass(reached=False, refused=True)
            return Pass(reached=numbered < limit, numbered=numbered, more=numbered >= limit)
        return Pass(reached=False)

    def _sequence_and_show(self, limit: int) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(SEQUENCE.format(max_entries=int(limit)))
            numbered, head, unshown = self._only_row(cursor)
            if unshown:
                cursor.execute(SHOW, [head, head])
        return numbered

    def _only_row(self, cursor: CursorWrapper) -> tuple[int, int, bool]:
        numbered, head, unshown = cursor.fetchone()
        while cursor.nextset():  # the block's own end marker; left unread, the next statement would fail
            pass
        return int(numbered), int(head), bool(unshown)

    def rebase(self) -> Pass:
        # Under the sequencer's lock, or a pass that numbers an entry meanwhile would find its row put back.
        with transaction.atomic(using=self.connection.alias), self.connection.cursor() as cursor:
            cursor.execute("SELECT head FROM eventstore_head WHERE id = 1 FOR UPDATE")
            cursor.execute(
                "INSERT IGNORE INTO eventstore_pending (entry_id) SELECT e.id FROM eventstore_entry e "
                "LEFT JOIN eventstore_position p ON p.entry_id = e.id WHERE p.position IS NULL"
            )
        numbered = 0
        while True:
            done = self.run()
            numbered += done.numbered
            if not done.more:
                return Pass(reached=done.reached, numbered=numbered, refused=done.refused)

    def place_in_test(self) -> Pass:
        with self.connection.cursor() as cursor:
            cursor.execute("INSERT IGNORE INTO eventstore_head (id, head, barrier) VALUES (1, 0, 0)")
            cursor.execute("INSERT IGNORE INTO eventstore_shown (id, position) VALUES (1, 0)")
            cursor.execute("SELECT head FROM eventstore_head WHERE id = 1 FOR UPDATE")
            head = int(cursor.fetchone()[0])
            # Read without locks first: at REPEATABLE READ an INSERT ... SELECT also sees entries that this transaction's
            # own reads do not, and a page with a hole would follow.
            cursor.execute(
                "SELECT e.id FROM eventstore_entry e LEFT JOIN eventstore_position p ON p.entry_id = e.id "
                "WHERE p.position IS NULL ORDER BY e.id"
            )
            ids: list[Any] = [row[0] for row in cursor.fetchall()]
            if not ids:
                return Pass(reached=True)
            cursor.execute(
                "INSERT IGNORE INTO eventstore_type (name) SELECT DISTINCT type FROM eventstore_entry WHERE id IN %s",
                [ids],
            )
            cursor.execute(
                "INSERT INTO eventstore_position (position, entry_id, type_id, slot) "
                "SELECT %s + ROW_NUMBER() OVER (ORDER BY e.id), e.id, t.id, CRC32(e.stream) & 63 "
                "FROM eventstore_entry e JOIN eventstore_type t ON t.name = e.type WHERE e.id IN %s "
                # A pass of another connection may have come first, invisible to this transaction's own reads.
                "AND NOT EXISTS (SELECT 1 FROM eventstore_position p WHERE p.entry_id = e.id)",
                [head, ids],
            )
            numbered = cursor.rowcount
            cursor.execute("DELETE FROM eventstore_pending WHERE entry_id IN %s", [ids])
            cursor.execute("UPDATE eventstore_head SET head = %s WHERE id = 1", [head + numbered])
            cursor.execute("UPDATE eventstore_shown SET position = %s WHERE id = 1", [head + numbered])
            return Pass(reached=True, numbered=numbered)

    def unsequenced(self, *, limit: int) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM (SELECT 1 FROM eventstore_pending LIMIT %s) q", [limit])
            return int(cursor.fetchone()[0])
