"""Writers and readers on a private server that is killed and started again: what a reader was told must stay true."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from django.db import connections

from tests.concurrency.journal import Journal, read_lines
from tests.concurrency.observation import Observation, Reading, looks_of, observe, transactions_of
from tests.concurrency.reader import Follower
from tests.concurrency.writer import STREAMS
from tests.conftest import Spawn
from tests.processes import Process
from tests.shop.models import Counter

READERS = {"reader": (), "reader-in-transaction": ("--in-transaction",)}


class Server(Protocol):
    """What both kinds of private servers can do."""

    def kill(self) -> None: ...

    def restart(self) -> None: ...


@dataclass(kw_only=True)
class Crashes:
    """``alias``: the server's database in this process, ``settings``: the same for the processes."""

    server: Server
    alias: str
    settings: Mapping[str, Any]
    spawn: Spawn
    directory: Path
    seed: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the readers, for a planted fault."""
    writers: int = 3
    rounds: int = 0

    def __post_init__(self) -> None:
        Counter.objects.using(self.alias).bulk_create(Counter(name=name) for name in STREAMS)
        connections[self.alias].close()

    def play(self, *, before: Callable[[], None], after: Callable[[], None]) -> None:
        """One round: ``before`` when all processes run, the crash as soon as every reader has been given a further event,
        ``after`` before the next start."""
        self.rounds += 1
        processes = [self._start_writer(number) for number in range(self.writers)]
        processes += [self._start_reader(name) for name in READERS]
        for process in processes:
            process.wait_for("ready")
        before()
        self._wait_for_notes()
        self.server.kill()
        after()
        for process in processes:
            process.wait()
        self.server.restart()

    def observe(self) -> Observation:
        """What the log holds now, against what was committed and what was read; the readers go on to its end."""
        for name in READERS:
            self._read_on(name)
        readings = [Reading(name=name, looks=looks_of(read_lines(self._notes(name)))) for name in READERS]
        transactions = transactions_of(sorted(self.directory.glob("*.journal")))
        seen = observe(self.alias, transactions=transactions, readings=readings)
        connections[self.alias].close()  # the server may be killed next
        return seen

    def noted(self, name: str) -> int:
        """How many events the reader has been given."""
        return sum(len(line["entries"]) for line in read_lines(self._notes(name)))

    def _wait_for_notes(self) -> None:
        before = {name: self.noted(name) for name in READERS}
        end = time.monotonic() + 30
        while any(self.noted(name) == count for name, count in before.items()):
            assert time.monotonic() < end, "a reader was given nothing for 30 s"
            time.sleep(0.001)

    def _read_on(self, name: str) -> None:
        notes = self._notes(name)
        known = read_lines(notes)
        follower = Follower(using=self.alias, offset=known[-1]["next"] if known else 0, journal=Journal(notes))
        while not follower.read(1000).complete:
            pass

    def _start_writer(self, number: int) -> Process:
        name = f"writer-{self.rounds}-{number}"
        arguments = ["--name", name, "--seed", self.seed, "--journal", str(self.directory / f"{name}.journal")]
        never = str(self.directory / "never")
        return self.spawn(
            "-m", "tests.concurrency.writer", *arguments, "--stop", never, "--until-lost", using=self.settings
        )

    def _start_reader(self, name: str) -> Process:
        arguments = ["--name", name, "--seed", self.seed, "--notes", str(self._notes(name)), *READERS[name]]
        never = str(self.directory / "never")
        return self.spawn(
            "-m",
            "tests.concurrency.reader",
            *arguments,
            "--drain",
            never,
            "--until-lost",
            using=self.settings,
            environment=self.environment,
        )

    def _notes(self, name: str) -> Path:
        return self.directory / f"{name}.notes"
