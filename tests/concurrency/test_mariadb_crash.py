"""MariaDB shows a commit to others before its log is flushed: no reader is told what a crash then takes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.concurrency.checker import Violation, broken_promises, violations
from tests.concurrency.crash import Crashes
from tests.concurrency.faults import VARIABLE
from tests.conftest import MariaDBFactory, RegisterDatabase, Spawn
from tests.servers import build_slow_log_flush

pytestmark = [pytest.mark.mariadb, pytest.mark.needs("mariadb", "mariadb-binaries", "compiler")]

FLUSH_MS = 300
ROUNDS = 4


class _Play:
    """Rounds on one private server, whose log is slow while the processes run."""

    def __init__(
        self, server: MariaDBFactory, directory: Path, register: RegisterDatabase, spawn: Spawn, notes: Path, seed: str
    ) -> None:
        self._switch = directory / "slow"
        environment = {"SLOW_LOG_MS": str(FLUSH_MS), "SLOW_LOG_SWITCH": str(self._switch)}
        private = server(ld_preload=build_slow_log_flush(directory), environment=environment)
        private.create_database("shop")
        settings = private.django_settings("shop")
        self.crashes = Crashes(
            server=private, alias=register(settings), settings=settings, spawn=spawn, directory=notes, seed=seed
        )

    def round(self) -> None:
        self.crashes.play(before=self._switch.touch, after=self._switch.unlink)

    def violations(self) -> list[Violation]:
        # A crash delays what was committed before it.
        return violations(self.crashes.observe(), longest_delay=600)


@pytest.fixture
def play(
    mariadb_server: MariaDBFactory,
    server_directory: Path,
    register_database: RegisterDatabase,
    spawn: Spawn,
    tmp_path: Path,
    seed: str,
) -> _Play:
    return _Play(mariadb_server, server_directory, register_database, spawn, tmp_path, seed)


def test_what_readers_were_given_is_still_there_after_a_crash(play: _Play) -> None:
    for _ in range(ROUNDS):
        play.round()

    assert [] == play.violations()


@pytest.mark.parametrize("fault", ["no shown mark", "mark moved in the same statement"])
def test_readers_that_are_given_what_is_not_flushed_are_found(play: _Play, fault: str) -> None:
    play.crashes.environment = {VARIABLE: fault}
    found: list[Violation] = []
    while not found and play.crashes.rounds < 3 * ROUNDS:
        play.round()
        found = play.violations()

    print(f"{play.crashes.rounds} crashes", *found, sep="\n")
    assert {"P2", "P3"} <= broken_promises(found)
