"""The whole play: writers, readers, a forwarder and two open transactions, each a process, and a killer."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from django_eventstore import EventStore
from tests.concurrency.journal import read_lines
from tests.concurrency.observation import Observation, Reading, Transaction, looks_of, observe, transactions_of
from tests.concurrency.writer import STREAMS
from tests.conftest import Spawn
from tests.processes import Process
from tests.shop.models import Counter

KILL_EVERY = 0.7
"""Seconds; a reader and a writer in turn."""
WRITERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A reader that is started again after each kill. ``arguments`` beside those that all have."""

    name: str
    module: str = "tests.concurrency.reader"
    arguments: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    stream: str | None = None
    repeats: bool = False


ROLES = (
    Role(name="everything"),
    Role(name="everything-too"),
    Role(name="in-transaction", arguments=("--in-transaction",)),
    Role(name="types", types=("load.Beta", "rare.*")),
    Role(name="stream", stream=STREAMS[0]),
    Role(name="forwarder", module="tests.concurrency.forwarder", repeats=True),
)


@dataclass(kw_only=True)
class Scenario:
    """One run on the test's database. ``environment``: of the readers, for a planted fault."""

    spawn: Spawn
    directory: Path
    seed: str
    seconds: float
    roles: tuple[Role, ...] = ROLES
    holders: tuple[str, ...] = ("unrelated", "own")
    environment: Mapping[str, str] = field(default_factory=dict)
    kills: int = 0

    def run(self) -> Observation:
        """Play it to its end; every process has ended in order, or the test fails with what it printed."""
        Counter.objects.bulk_create([Counter(name=name) for name in STREAMS], ignore_conflicts=True)
        self._random = random.Random(self.seed)
        self._writer_numbers = itertools.count(1)
        self._stop_writers, self._stop_holders, self._drain = (
            self.directory / name for name in ("stop-writers", "stop-holders", "drain")
        )
        holding = [self._start_holder(kind) for kind in self.holders]
        for process in holding:
            process.wait_for("ready")
        readers = {role.name: self._start_reader(role) for role in self.roles}
        writers = [self._start_writer() for _ in range(WRITERS)]
        for process in [*readers.values(), *writers]:
            process.wait_for("ready")
        self._kill_now_and_then(readers, writers)
        self._end(holding, readers, writers)
        return observe("default", transactions=self._transactions(), readings=map(self._reading, self.roles))

    def _kill_now_and_then(self, readers: dict[str, Process], writers: list[Process]) -> None:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end - KILL_EVERY:
            time.sleep(KILL_EVERY)
            self.kills += 1
            if self.kills % 2:
                role = self._random.choice(self.roles)
                readers[role.name].kill9()
                readers[role.name] = self._start_reader(role)
            else:
                number = self._random.randrange(WRITERS)
                writers[number].kill9()
                writers[number] = self._start_writer()
        time.sleep(max(0.0, end - time.monotonic()))

    def _end(self, holding: list[Process], readers: dict[str, Process], writers: list[Process]) -> None:
        """First the writers; the readers catch up while transactions are open; then those commit; then the readers end."""
        self._stop_writers.touch()
        for process in writers:
            process.wait()
        time.sleep(0.3)
        self._stop_holders.touch()
        for process in holding:
            process.wait()
        self._write_drain(_head())
        for process in readers.values():
            process.wait()

    def _write_drain(self, head: int) -> None:
        partial = self.directory / "drain-partial"
        partial.write_text(str(head))
        partial.rename(self._drain)

    def _start_holder(self, kind: str) -> Process:
        journal = self.directory / "held.journal"
        stop = str(self._stop_holders)
        return self.spawn("-m", "tests.concurrency.holder", kind, "--journal", str(journal), "--stop", stop)

    def _start_writer(self) -> Process:
        name = f"writer-{next(self._writer_numbers)}"
        journal, stop = str(self.directory / f"{name}.journal"), str(self._stop_writers)
        arguments = ("--name", name, "--seed", self.seed, "--journal", journal, "--stop", stop)
        return self.spawn("-m", "tests.concurrency.writer", *arguments)

    def _start_reader(self, role: Role) -> Process:
        arguments = ["--notes", str(self._notes(role)), "--drain", str(self._drain), *role.arguments]
        if role.module == "tests.concurrency.reader":
            arguments += ["--name", role.name, "--seed", self.seed]
        if role.types:
            arguments += ["--types", *role.types]
        if role.stream is not None:
            arguments += ["--stream", role.stream]
        return self.spawn("-m", role.module, *arguments, environment=self.environment)

    def _notes(self, role: Role) -> Path:
        return self.directory / f"{role.name}.notes"

    def _transactions(self) -> list[Transaction]:
        return transactions_of(sorted(self.directory.glob("*.journal")))

    def _reading(self, role: Role) -> Reading:
        looks = looks_of(read_lines(self._notes(role)))
        return Reading(name=role.name, looks=looks, types=role.types, stream=role.stream, repeats=role.repeats)


def _head() -> int:
    offset, page = 0, EventStore().get(0, 1000)
    while not page.complete:
        offset = page.next_offset
        page = EventStore().get(offset, 1000)
    assert page.head is not None
    return page.head
