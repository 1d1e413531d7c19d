"""One running server program: started, waited for, signalled, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.servers.accounts import Account, clean_environment, identity
from tests.servers.errors import ServerFailed

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A ``preexec_fn`` by which Linux signals the program when the process that starts it ends, however it ends.

    None where that is not to be had: on other systems, and outside the main thread, because the kernel means the
    *thread* that started the program and would stop it when that thread is done.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return ask_kernel


class Supervised:
    """A server program of this process, and the log it writes to."""

    def __init__(self, *, account: Account | None, directory: Path, log: Path) -> None:
        self._account = account
        self._directory = directory
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the program. Raises ServerFailed when it was not started or has been stopped."""
        if self._process is None:
            raise ServerFailed("the server is not running")
        return self._process.pid

    def launch(
        self,
        arguments: Sequence[str | Path],
        *,
        ready: Callable[[], bool],
        timeout: float,
        environment: Mapping[str, str],
        last_wish: signal.Signals,
    ) -> None:
        """Start the program and return when ``ready()`` says so; ``last_wish`` is sent to it should this process die.

        Raises ServerFailed, with the end of the log, when it is running already, when it ends first, or after
        ``timeout`` seconds; in the last case it is killed.
        """
        if self.running:
            raise ServerFailed("the server is running already")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(argument) for argument in arguments],
                cwd=self._directory,
                env=clean_environment(self._directory, environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal is for the tests, which then stop the server in their own order.
                start_new_session=True,
                preexec_fn=die_with_parent(last_wish),
                **identity(self._account),
            )
        try:
            self._await(ready, timeout)
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    def _await(self, ready: Callable[[], bool], timeout: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while not ready():
            if self._process.poll() is not None:
                raise ServerFailed(f"the server ended with {self._process.returncode} at its start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server was not ready within {timeout:g} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def end(self, number: signal.Signals, *, timeout: float = 60.0) -> None:
        """Send the signal and return when the program is gone; a program that has ended already is fine.

        Raises ServerFailed when it is still there after ``timeout`` seconds, and kills it.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            process.kill()
            process.wait(10)
            raise ServerFailed(f"no end within {timeout:g} s of {number.name}; killed:\n{self.log_tail()}") from exc
        finally:
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP; returns when every thread of the program has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def freeze_all(self, *, timeout: float = 30.0) -> None:
        """SIGSTOP to the program and to those it has started; returns when every thread of them has stopped."""
        os.killpg(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + timeout
        while self._states() - {"T", "Z"}:  # a thread on another core runs on until it looks
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server did not stop within {timeout:g} s")
            time.sleep(0.005)

    def thaw_all(self) -> None:
        """SIGCONT to all that was frozen."""
        os.killpg(self.pid, signal.SIGCONT)

    def _states(self) -> set[str]:
        """What Linux says of the threads of the program's process group, which it leads."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/task/*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                # Behind the name, which may have spaces and parentheses too: state, parent, process group.
                state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
                if int(group) == self.pid:
                    found.add(state)
        return found

    def log_tail(self, characters: int = 4000) -> str:
        """The end of what the server wrote to its log."""
        return self._log.read_text(errors="replace")[-characters:] if self._log.exists() else ""
