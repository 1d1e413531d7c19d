"""Writers and readers on a private server that is killed and started again: what a reader was told must stay true."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from django.db import connections

from tests.concurrency.journal import read_lines
from tests.concurrency.observation import Observation, Reading, looks_of, observe, transactions_of
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

    def play(self, *, seconds: float, before: Callable[[], None], after: Callable[[], None]) -> None:
        """One round: ``before`` when all processes run, the crash ``seconds`` later, ``after`` before the next start."""
        self.rounds += 1
        processes = [self._start_writer(number) for number in range(self.writers)]
        processes += [self._start_reader(name) for name in READERS]
        for process in processes:
            process.wait_for("ready")
        before()
        time.sleep(seconds)
        connections[self.alias].close()
        self.server.kill()
        after()
        for process in processes:
            process.wait()
        self.server.restart()

    def observe(self) -> Observation:
        """What the log holds now, against what was committed and what was read before the crashes."""
        readings = [
            Reading(name=name, looks=looks_of(read_lines(self._notes(name)))) for name in READERS
        ]
        return observe(
            self.alias, transactions=transactions_of(sorted(self.directory.glob("*.journal"))), readings=readings
        )

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
