"""MariaDB shows a commit to others before its log is flushed: no reader is told what a crash then takes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.concurrency.checker import Violation, violations
from tests.concurrency.crash import Crashes
from tests.concurrency.faults import VARIABLE
from tests.conftest import MariaDBFactory, RegisterDatabase, Spawn
from tests.servers import build_slow_log_flush

pytestmark = [pytest.mark.mariadb, pytest.mark.needs("mariadb", "mariadb-binaries", "compiler")]

FLUSH_MS = 60
ROUNDS = 3


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

    def round(self, number: int) -> list[Violation]:
        """Run, crash, start again, and say what is broken. A crash delays whatever was committed meanwhile."""
        self.crashes.play(
            seconds=1.0 + 0.013 * number, before=self._switch.touch, after=lambda: self._switch.unlink()
        )
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
    for number in range(ROUNDS):
        broken = [violation for violation in play.round(number) if "missed by" not in violation.fact]

        assert [] == broken
    given = [len(reading.noted) for reading in play.crashes.observe().readings]
    print(f"{given} events given to readers over {ROUNDS} crashes")
    assert min(given) > 0


def test_readers_that_do_not_stop_at_the_shown_mark_are_found(play: _Play) -> None:
    play.crashes.environment = {VARIABLE: "no shown mark"}
    found: list[Violation] = []
    for number in range(6):
        found = [violation for violation in play.round(number) if violation.promise == "P3"]
        if found:
            break

    print(*found, sep="\n")
    assert found
