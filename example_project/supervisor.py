"""The processes of the demonstration: started together, watched, and never left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["DemoFailed", "Process", "Supervisor"]

PR_SET_PDEATHSIG = 1
TAIL_LINES = 25
GRACE = 6.0
"""Seconds between SIGTERM and SIGKILL, for all processes together."""


class DemoFailed(Exception):
    """Something did not happen that should have; the text says what, and shows the end of the log that may say why."""


class Process:
    """A Python process with a process group and a log file of its own."""

    def __init__(self, name: str, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=Path(__file__).resolve().parent,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C in the terminal reaches only us, and we stop them in order; and whatever a
                # process starts can be stopped with it.
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def wait(self, *, timeout: float) -> int:
        """Its exit status. Raises DemoFailed when it takes longer than ``timeout`` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failure(f"did not end within {timeout:g} s") from None

    def require_running(self) -> None:
        """Raises DemoFailed when it has ended."""
        status = self._popen.poll()
        if status is not None:
            raise self.failure(f"ended with status {status}")

    def failure(self, fact: str) -> DemoFailed:
        """The error to raise about this process, with the end of its log."""
        lines = "\n".join(f"    {line}" for line in self.text.splitlines()[-TAIL_LINES:])
        return DemoFailed(f"{self.name} {fact}\nThe end of the log of {self.name}:\n{lines or '    (empty)'}")

    def signal_group(self, number: signal.Signals) -> None:
        """Signal it and what it started, unless it has ended."""
        if self._popen.poll() is None:
            os.killpg(self.pid, number)

    def ended_by(self, deadline: float) -> bool:
        """Wait for its end until ``deadline`` of the monotonic clock."""
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True


class Supervisor:
    """Starts processes and, when its ``with`` block is left for whatever reason, stops all of them."""

    def __init__(self, *, environment: Mapping[str, str], logs: Path) -> None:
        self.environment = dict(environment)
        self.logs = logs
        self.processes: list[Process] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()

    def run(self, name: str, *arguments: str, timeout: float = 60.0) -> str:
        """Run a command to its end and return what it wrote. Raises DemoFailed when it fails or takes too long."""
        process = self._launch(name, arguments, {})
        if status := process.wait(timeout=timeout):
            raise process.failure(f"ended with status {status}")
        self.processes.remove(process)
        return process.text

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a process that is to run until the end."""
        return self._launch(name, arguments, environment or {})

    def require_running(self) -> None:
        """Raises DemoFailed when one of the processes has ended."""
        for process in self.processes:
            process.require_running()

    def wait_until(self, fact: str, ready: Callable[[], bool], *, process: Process, timeout: float) -> None:
        """Wait until ``ready``. Raises DemoFailed when a process ends, or after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            is_ready = ready()
            # After it: a stranger who holds our port may have answered for a process that is not there any more.
            self.require_running()
            if is_ready:
                return
            if time.monotonic() > deadline:
                raise process.failure(f"was not ready: {fact} within {timeout:g} s")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM to all, and SIGKILL to those that are still there after the grace. Returns when all have ended."""
        # A second Ctrl-C would leave the rest of them behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in self.processes:
            process.signal_group(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for process in self.processes:
            if not process.ended_by(deadline):
                process.signal_group(signal.SIGKILL)
                process.wait(timeout=10)
        self.processes.clear()

    def _launch(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        log = self.logs / f"{name}.log"
        process = Process(name, arguments, environment={**self.environment, **environment}, log=log)
        self.processes.append(process)
        return process


def _die_with_parent() -> Callable[[], None] | None:
    """A ``preexec_fn`` by which Linux kills the process when we are killed and cannot do it; elsewhere None."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    return ask_kernel
