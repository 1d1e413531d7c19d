"""MariaDB shows a commit to others before its log is flushed: no reader is told what a crash then takes back."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from django.db import Error, connections

from django_eventstore import EventStore
from tests.concurrency.checker import Violation, violations
from tests.concurrency.faults import planted
from tests.concurrency.observation import Noted, stored_rows
from tests.concurrency.stage import Actor, Stage
from tests.conftest import MariaDBFactory, RegisterDatabase
from tests.servers import MariaDBServer, build_slow_log_flush
from tests.shop.models import Counter

pytestmark = [pytest.mark.mariadb, pytest.mark.needs("mariadb", "mariadb-binaries", "compiler")]

FLUSH_MS = 250
WRITERS = 2
OTHERS = 3
ROUNDS = 5


class _Play:
    """Rounds on one private server, with writers and a sequencing reader in threads and a second reader that watches.

    A pass that the crash takes back does harm when an event with a lower id has been flushed meanwhile: it gets the
    position that the watching reader knows as another's. So the writers hold their transactions open for a while.
    """

    def __init__(self, server: MariaDBServer, *, using: str, switch: Path) -> None:
        self._server = server
        self._switch = switch
        self.stage = Stage(using=using)
        self._watcher = self.stage.follower("watcher", in_transaction=True)
        self.rounds = 0
        self.taken_back: set[Noted] = set()
        """What the watcher had been given and the server did not have when it was back."""

    def round(self) -> None:
        """The log becomes slow; the crash comes as soon as the watching reader is given something."""
        self.rounds += 1
        noted = len(self._watcher.notes)
        works = [partial(self._write, number) for number in range(WRITERS)] + [self._keep_log_busy] * OTHERS
        threads = [threading.Thread(target=self._until_lost, args=(work,)) for work in (*works, self._sequence)]
        self._switch.touch()
        for thread in threads:
            thread.start()
        self._watch_for(FLUSH_MS / 1000)
        given = self._given()
        while self._given() == given:
            self._watch_for(0.001)
        self._server.kill()
        self._switch.unlink()
        for thread in threads:
            thread.join()
        self.stage.disconnect()
        self._server.restart()
        held = {(row.position, row.event_id) for row in stored_rows(self.stage.using)}
        self.taken_back |= {
            (p, event_id) for note in self._watcher.notes[noted:] for p, event_id in note["entries"]
        } - held
        connections[self.stage.using].close()

    def violations(self) -> list[Violation]:
        """Once the readers have read on to the end."""
        self.stage.follower()
        self.stage.read_all()
        while self._watcher.read().entries:
            pass
        # A crash delays what was committed before.
        return violations(self.stage.observe(), longest_delay=600)

    def _watch_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            self._watcher.read()
            if time.monotonic() > end:
                return
            time.sleep(0.001)

    def _given(self) -> int:
        return sum(len(note["entries"]) for note in self._watcher.notes)

    def _until_lost(self, work: Callable[[], None]) -> None:
        try:
            while True:
                work()
        except Error:
            connections[self.stage.using].close()  # this thread's; the crash ends every one of them

    def _write(self, number: int) -> None:
        name = f"writer-{number}"
        writer = self.stage.actors.setdefault(name, Actor(name=name, using=self.stage.using))
        try:
            writer.begin()
            writer.record()
            time.sleep(random.uniform(0, FLUSH_MS / 1000))
            writer.commit()
        except Error:
            writer.lose()
            raise

    def _keep_log_busy(self) -> None:
        """A commit of something else: COMMIT behaves differently when another session is writing the log."""
        Counter.objects.using(self.stage.using).create(name=str(uuid.uuid4()))

    def _sequence(self) -> None:
        EventStore(self.stage.using).get()


@pytest.fixture
def play(
    mariadb_server: MariaDBFactory, server_directory: Path, register_database: RegisterDatabase
) -> Iterator[_Play]:
    switch = server_directory / "slow"
    environment = {"SLOW_LOG_MS": str(FLUSH_MS), "SLOW_LOG_SWITCH": str(switch)}
    # What was written survives the end of a process without fsync; what was not written is what this is about.
    options = ["--innodb-flush-method=nosync"]
    library = build_slow_log_flush(server_directory)
    server = mariadb_server(ld_preload=library, environment=environment, options=options)
    server.create_database("shop")
    alias = register_database(server.django_settings("shop"))
    # What the migrations did is no part of the recovery after a crash.
    connections[alias].close()
    server.restart()
    play = _Play(server, using=alias, switch=switch)
    yield play
    play.stage.close()


def test_what_a_reader_was_given_is_still_there_after_a_crash(play: _Play) -> None:
    for _ in range(ROUNDS):
        play.round()

    assert set() == play.taken_back
    assert [] == play.violations()


def test_readers_that_are_given_what_is_not_flushed_are_found(play: _Play) -> None:
    for fault in ("no shown mark", "mark moved in the same statement"):
        play.taken_back.clear()
        last = play.rounds + 2 * ROUNDS
        with planted(fault):
            while not play.taken_back and play.rounds < last:
                play.round()

        assert play.taken_back, fault
