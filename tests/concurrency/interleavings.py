"""Small plays in which two or three connections take turns. Each is right with the package and wrong with some design."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from django.db import connections

from django_eventstore.store import pages
from django_eventstore.store.reading import Extract
from tests.concurrency.events import Alpha, Beta, Gamma
from tests.concurrency.reader import Follower
from tests.concurrency.stage import Stage

Play = Callable[[Stage], None]


def late_at_the_front(stage: Stage) -> None:
    """A inserts first and commits last; B's and C's events are read in between."""
    a, b, c = stage.actor("a"), stage.actor("b"), stage.actor("c")
    _follow(stage)
    a.begin()
    a.record(stream="late", kind=Beta)
    b.record_alone()
    c.record_alone(stream="late", kind=Beta)
    _all_read(stage)
    a.commit()
    _all_read(stage)


def late_in_the_middle(stage: Stage) -> None:
    """A inserts between B and C and commits after both were read, one by one."""
    a, b, c = stage.actor("a"), stage.actor("b"), stage.actor("c")
    _follow(stage)
    b.record_alone(stream="late", kind=Beta)
    a.begin()
    a.record(stream="late", kind=Beta)
    a.record(stream="late", kind=Gamma)
    c.record_alone()
    _all_read(stage, limit=1)
    c.record_alone(stream="late")
    a.commit()
    b.record_alone()
    _all_read(stage, limit=1)


def late_at_the_end(stage: Stage) -> None:
    """A inserts last, B and C are read, A commits."""
    a, b, c = stage.actor("a"), stage.actor("b"), stage.actor("c")
    _follow(stage)
    b.record_alone(stream="late")
    c.record_alone(kind=Beta)
    a.begin()
    a.record(stream="late", kind=Beta)
    _all_read(stage)
    a.commit()
    _all_read(stage)


def _follow(stage: Stage) -> None:
    stage.follower("reader")
    stage.follower("reader-of-types", types=("load.Beta", "rare.*"))
    stage.follower("reader-of-stream", stream="late")


def _all_read(stage: Stage, *, limit: int = 100) -> None:
    for name in stage.followers:
        stage.read_all(name, limit=limit)


def beside_an_open_transaction(stage: Stage) -> None:
    """A has recorded and does nothing more; B's events are read all the same."""
    a, b = stage.actor("a"), stage.actor("b")
    stage.follower()
    a.begin()
    a.record()
    b.record_alone()
    stage.read_all()
    a.commit()
    stage.read_all()


def xids_against_ids(stage: Stage) -> None:
    """A's transaction is older than B's, its event younger; A commits first and is read, then B."""
    a, b = stage.actor("a"), stage.actor("b")
    stage.follower()
    a.begin()
    if connections[a.using].vendor == "postgresql":
        with connections[a.using].cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
    b.begin()
    b.record()
    a.record()
    a.commit()
    # With an xmin fence this page does not wait for B.
    stage.followers["reader"].read()
    b.commit()
    stage.read_all()


def caller_that_has_written(stage: Stage) -> None:
    """A records, B commits, A reads inside its transaction and records again."""
    a, b = stage.actor("a"), stage.actor("b")
    stage.follower()
    caller = stage.follower("caller")
    caller.using = a.using
    b.record_alone()
    a.begin()
    a.record()
    b.record_alone()
    caller.read()
    a.record()
    a.commit()
    stage.read_all()
    stage.read_all("caller")


def match_between_select_and_head(stage: Stage) -> None:
    """While a filtered reader has selected and not answered, a match is committed and given its position by another."""
    a = stage.actor("a")
    stage.follower()
    stage.follower("reader-of-types", types=("rare.*",))
    a.record_alone(kind=Gamma)
    a.record_alone(kind=Alpha)
    stage.read_all()

    def meanwhile() -> None:
        a.record_alone(kind=Gamma)
        stage.read_all()

    with _after_select(meanwhile):
        stage.followers["reader-of-types"].read()
    stage.read_all("reader-of-types")


@contextmanager
def _after_select(meanwhile: Callable[[], None]) -> Iterator[None]:
    selecting = pages.read
    waiting = [meanwhile]

    def read(**arguments: object) -> Extract:
        extract = selecting(**arguments)  # type: ignore[arg-type]
        while waiting:
            waiting.pop()()
        return extract

    with mock.patch.object(pages, "read", read):
        yield


def one_stream_two_sessions(stage: Stage) -> None:
    """A has drawn an id before; B and then A record on one stream whose row they lock, and both are read at once."""
    a, b = stage.actor("a"), stage.actor("b")
    stage.follower()
    a.record_alone()
    b.record_alone(stream="locked", counted=True)
    a.record_alone(stream="locked", counted=True)
    stage.read_all()


PAUSE = (7003, 1)
"""The advisory lock at which a pass halts between reading the entries and its tick, when faults.py has put that in."""


def commit_during_a_pass(stage: Stage) -> None:
    """PostgreSQL: A commits while a pass has read the entries and has not written its tick."""
    a, b = stage.actor("a"), stage.actor("b")
    reader = stage.follower()
    stage.read_all()
    a.begin()
    a.record()
    b.record_alone()
    with connections[stage.connect("gate")].cursor() as gate:
        gate.execute("SELECT pg_advisory_lock(%s, %s)", PAUSE)
        passing = _Background(lambda: _read_elsewhere(reader, using=stage.using))
        _wait_until_halted(gate)
        a.commit()
        gate.execute("SELECT pg_advisory_unlock(%s, %s)", PAUSE)
        passing.finish()
    stage.read_all()


def _read_elsewhere(reader: Follower, *, using: str) -> None:
    """The reader's next page, in a thread, which has connections of its own."""
    elsewhere = replace(reader, using=using)
    elsewhere.read()
    reader.offset = elsewhere.offset
    connections.close_all()


class _Background:
    """A callable in a thread; what it raises, `finish` raises."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


def _wait_until_halted(gate: object) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        gate.execute(  # type: ignore[attr-defined]
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND NOT granted",
            PAUSE,
        )
        if gate.fetchone()[0]:  # type: ignore[attr-defined]
            return
        time.sleep(0.01)
    raise AssertionError("no pass came to the gate")
