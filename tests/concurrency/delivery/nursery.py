"""Workers that begin within milliseconds: a process that has Django set up forks one whenever a test asks for it.

``python -m tests.concurrency.delivery.nursery DIRECTORY``: a test writes a line into the pipe ``asks`` there, the number and
the options of a worker as JSON; the nursery answers with ``NUMBER.pid`` and, when that process has ended, with
``NUMBER.status``. What it prints is in ``NUMBER.log``. Workers are of the nursery's process group, and end with it.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.processes import Process, ProcessFailed, spawn
from tests.servers.supervision import die_with_parent

PATIENCE = 20.0
LOOK_EVERY = 0.004
ASKS = "asks"


class Worker:
    """A forked worker, as the test sees it."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self.number = number
        self.pid = int(self._wait_for("pid"))
        self._killed = False

    @property
    def output(self) -> str:
        return (self._directory / f"{self.number}.log").read_text(errors="replace")

    @property
    def running(self) -> bool:
        return not (self._directory / f"{self.number}.status").exists()

    def frozen(self) -> bool:
        """Wait until it has stopped itself, or ended: whether it is stopped."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if not self.running:
                return False
            if self._state() == "T":
                return True
            time.sleep(LOOK_EVERY)
        raise ProcessFailed(f"worker {self.number} did not stop itself:\n{self.output}")

    def kill9(self) -> None:
        """SIGKILL; it is gone on return."""
        self._killed = True
        self._signal(signal.SIGKILL)
        self._wait_for("status")

    def stop(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def wait(self, *, check: bool = True) -> int:
        """Its exit status. Raises ProcessFailed for one that is not 0, unless ``check`` is false."""
        status = int(self._wait_for("status"))
        if check and status and not self._killed:
            raise ProcessFailed(f"worker {self.number} ended with {status}:\n{self.output}")
        return status

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            self.wait()

    def _state(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    def _wait_for(self, answer: str) -> str:
        path, end = self._directory / f"{self.number}.{answer}", time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if path.exists():
                return path.read_text()
            time.sleep(LOOK_EVERY)
        log = self._directory / f"{self.number}.log"
        raise ProcessFailed(f"no {answer} of worker {self.number}:\n{log.read_text() if log.exists() else ''}")


class Nursery:
    """Forks workers on a database. ``using`` and ``environment``: as for ``spawn``."""

    def __init__(self, directory: Path, **given: Any) -> None:
        self._directory = directory / "workers"
        self._directory.mkdir(parents=True)
        self._numbers = itertools.count(1)
        self._workers: list[Worker] = []
        module = "tests.concurrency.delivery.nursery"
        arguments = ("-m", module, str(self._directory))
        self.process: Process = spawn(*arguments, directory=directory / "process", **given)
        self.process.wait_for("ready")

    def end_all(self) -> None:
        """Kill the workers that are left."""
        for worker in self._workers:
            if worker.running:
                worker.kill9()
        self._workers.clear()

    def fork(self, **options: Any) -> Worker:
        """A worker with these options; see ``worker.Options``."""
        number = next(self._numbers)
        ask = json.dumps([number, options]).encode() + b"\n"
        assert len(ask) <= select.PIPE_BUF, "it would not be written in one piece"
        # An error, and no wait, when the nursery has ended.
        asks = os.open(self._directory / ASKS, os.O_WRONLY | os.O_NONBLOCK)
        os.write(asks, ask)
        os.close(asks)
        self._workers.append(Worker(self._directory, number))
        return self._workers[-1]


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + "-partial")
    partial.write_text(text)
    partial.rename(path)


def _reap(directory: Path, children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        _write(directory / f"{children.pop(pid)}.status", str(os.waitstatus_to_exitcode(status)))


def _become_worker(directory: Path, number: int, options: Mapping[str, Any]) -> None:
    from tests.concurrency.delivery import worker

    if (ask_kernel := die_with_parent(signal.SIGKILL)) is not None:
        ask_kernel()
    log = os.open(directory / f"{number}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        worker.work(worker.Options(name=str(number), **options))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    directory = Path(sys.argv[1])
    from tests.concurrency import process

    process.begin()
    from tests.concurrency.delivery import worker

    assert worker  # imported before the forks, which then have it
    children: dict[int, int] = {}
    os.mkfifo(directory / ASKS)
    # Also for writing, so that it does not end with the first test that closes it.
    asks = os.open(directory / ASKS, os.O_RDWR)
    print("ready", flush=True)
    while True:
        # While no worker runs, which is most of the time, it sleeps.
        asked, _, _ = select.select([asks], [], [], LOOK_EVERY if children else None)
        for ask in os.read(asks, 2**16).splitlines() if asked else ():
            number, options = json.loads(ask)
            pid = os.fork()
            if not pid:
                _become_worker(directory, number, options)
            children[pid] = number
            _write(directory / f"{number}.pid", str(pid))
        _reap(directory, children)


if __name__ == "__main__":
    main()
