"""Processes that a test starts on its own database: writers, readers, workers, stopped and killed at will."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import connections

from tests import databases
from tests.servers.supervision import die_with_parent

ROOT = Path(__file__).resolve().parent.parent


class ProcessFailed(Exception):
    """A process ended with an error that nobody asked for, or did not do in time what was waited for."""


def child_environment(using: str | Mapping[str, Any] = "default") -> dict[str, str]:
    """The environment of a process whose ``default`` is this process's database ``using``, in a test its test database.

    ``using`` is an alias, or an entry of ``DATABASES`` such as ``PostgresCluster.django_settings()`` gives. The child's
    ``other`` is this process's, unless ``using`` is of another server.
    """
    settings = connections[using].settings_dict if isinstance(using, str) else using
    variables = databases.environment_for(settings)
    other = connections["other"].settings_dict
    same_server = [settings.get(key) for key in ("ENGINE", "HOST", "PORT")] == [
        other.get(key) for key in ("ENGINE", "HOST", "PORT")
    ]
    if same_server or variables[databases.DATABASE] == "sqlite":
        variables[databases.OTHER_NAME] = str(other["NAME"])
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    django = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **django, **variables}


class Process:
    """A running Python process; what it prints goes to two files, so that it never waits for a reader."""

    def __init__(
        self, arguments: tuple[str, ...], *, environment: Mapping[str, str], directory: Path, cwd: Path = ROOT
    ) -> None:
        self.arguments = arguments
        self.output_path = directory / "stdout"
        self.errors_path = directory / "stderr"
        self._answered_for = False
        with self.output_path.open("wb") as output, self.errors_path.open("wb") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                # A group of its own, so that a worker's own children go with it.
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended; a process that is stopped by `stop` is running."""
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far. The last line may be half a line."""
        return self.output_path.read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self.errors_path.read_text(errors="replace")

    def wait_for(self, text: str, *, timeout: float = 30.0) -> None:
        """Return when ``text`` is in the output.

        Raises ProcessFailed when the process ends before, or after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while text not in self.output:
            # Asked in this order, so that the last words of a process that has just ended count.
            if not self.running and text not in self.output:
                raise ProcessFailed(self._report(f"ended with {self._popen.returncode} before it printed {text!r}"))
            if time.monotonic() > deadline:
                raise ProcessFailed(self._report(f"did not print {text!r} within {timeout:g} s"))
            time.sleep(0.01)

    def wait(self, *, timeout: float = 60.0, check: bool = True) -> int:
        """Wait for its end and return the exit status, negative for a signal.

        Raises ProcessFailed after ``timeout`` seconds, and, unless ``check`` is false, for a status that is not 0.
        """
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            raise ProcessFailed(self._report(f"did not end within {timeout:g} s")) from exc
        self._answered_for = True
        if check and status != 0:
            raise ProcessFailed(self._report(f"ended with {status}"))
        return status

    def kill9(self) -> None:
        """SIGKILL to it and to what it started; it is gone on return, also when it was stopped.

        Raises ProcessFailed when it had ended before with an error that no `wait` has reported: a test that means to
        kill a live process would otherwise prove nothing.
        """
        if not self.running and not self._answered_for and self._popen.returncode != 0:
            self._answered_for = True
            raise ProcessFailed(self._report(f"had ended with {self._popen.returncode} before it was killed"))
        self._signal(signal.SIGKILL)
        self._popen.wait(30)
        self._answered_for = True

    def terminate(self, *, timeout: float = 30.0) -> int:
        """SIGTERM, and wait for its end; returns the exit status. Raises ProcessFailed after ``timeout`` seconds."""
        self._signal(signal.SIGTERM)
        return self.wait(timeout=timeout, check=False)

    def stop(self) -> None:
        """SIGSTOP: it is frozen on return, whatever it was doing. Raises ProcessFailed when it has ended."""
        self._signal(signal.SIGSTOP)
        try:
            state = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            # It had ended, and its end was noted before.
            state = None
        if state is None or state.si_code != os.CLD_STOPPED:
            raise ProcessFailed(self._report("ended before it could be stopped"))

    def cont(self) -> None:
        """SIGCONT: go on after `stop`."""
        self._signal(signal.SIGCONT)

    def release(self) -> None:
        """For the fixture: kill it if it runs. Raises ProcessFailed when it ended with an error nobody asked about."""
        if self.running:
            self._signal(signal.SIGKILL)
            self._popen.wait(30)
            return
        self._signal(signal.SIGKILL)
        if self._popen.returncode != 0 and not self._answered_for:
            self._answered_for = True
            raise ProcessFailed(self._report(f"ended with {self._popen.returncode}"))

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            # Nothing of the group is left, so there is nothing to signal.
            if self.running:
                raise

    def _report(self, fact: str) -> str:
        return f"{' '.join(self.arguments)} (pid {self.pid}) {fact}; stderr:\n{self.errors[-4000:]}"


def spawn(
    *arguments: str,
    directory: Path,
    using: str | Mapping[str, Any] = "default",
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start Python in the repository with these arguments: "-m" and a module, or a script, and its own.

    ``directory``, made here, takes its output. Tests use the ``spawn`` fixture, which chooses it and ends the process.
    """
    directory.mkdir(parents=True)
    return Process(arguments, environment={**child_environment(using), **(environment or {})}, directory=directory)
