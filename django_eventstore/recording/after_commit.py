"""Handlers with mode="after_commit": each commit hands its calls to the threads of the process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db.backends.base.base import BaseDatabaseWrapper

from ..handlers import handler_registry
from ..store.new_entries import NewEntries
from .commit_hooks import CommitHook, in_test, register
from .handler_threads import Call, handler_threads

__all__ = ["drain_after_commit", "run_after_commit"]


class _Calls(CommitHook):
    """The calls that follow from one record(); a rolled-back savepoint takes them with its events."""

    rank = 0  # before the wake-up, which may wait for a broker

    def __init__(self, calls: Sequence[Call], connection: BaseDatabaseWrapper) -> None:
        self._calls = calls
        self._using = connection.alias
        # A thread would see nothing of what a TestCase never commits.
        self._in_test = in_test(connection)

    def run(self) -> None:
        for call in self._calls:
            if self._in_test:
                call.run_in_savepoint(using=self._using)
            elif not handler_threads().submit(call):
                call.run()


def run_after_commit(entries: NewEntries, connection: BaseDatabaseWrapper) -> None:
    """Have the handlers of these entries run when what is open on the connection commits."""
    calls = [
        # Made for thousands of entries only where a handler wants them: looking at one makes the instances of all.
        Call(handler=handler, entry=entries[number])
        for number, row in enumerate(entries.rows)
        for handler in handler_registry.after_commit_for(row.type)
    ]
    if calls:
        register(_Calls(calls, connection), connection)


def drain_after_commit(*, timeout: timedelta = timedelta(seconds=10)) -> None:
    """Wait until this process has run every handler with ``mode="after_commit"`` that its commits have started.

    For tests, and before a process lets go of what its handlers need. Raises TimeoutError, which names those that have not
    ended. In a TestCase there is nothing to wait for: handlers run inside ``captureOnCommitCallbacks(execute=True)``.
    """
    threads = handler_threads()
    if not threads.wait(timeout):
        left = "; ".join(map(str, threads.unfinished()))
        raise TimeoutError(f"After {timeout} these calls of handlers have not ended: {left}.")
