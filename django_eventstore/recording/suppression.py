"""suppressed(): capture is silent for a while, and the log says why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["explained", "silenced", "suppressed"]

KEY = "suppressed"

_reason: ContextVar[str | None] = ContextVar("eventstore_suppressed", default=None)


@contextmanager
def suppressed(reason: str) -> Iterator[None]:
    """Record nothing for changes of captured models inside the block, in this thread or task only.

    record() goes on working. What it records inside the block, and until the end of the transaction that the block was
    part of, has ``metadata["suppressed"] = reason``, so that a reader sees why events are missing. Raises ValueError for
    an empty reason.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("suppressed() needs a reason: a text that tells a reader of the log why events are missing.")
    outer = _reason.get()
    _reason.set(reason)
    try:
        yield
    finally:
        # Not by the token: in an async generator the end may run in another context than the beginning.
        _reason.set(outer)
        for connection in connections.all(initialized_only=True):
            _mark(connection, reason)


def silenced() -> bool:
    """Whether a captured change is not to be told."""
    return _reason.get() is not None


def explained(metadata: Mapping[str, object] | None, connection: BaseDatabaseWrapper) -> Mapping[str, object] | None:
    """The metadata with the reasons for which events are missing beside what is recorded now; the caller's own word wins."""
    reason = _reason.get()
    marks = _marks.get(connection)
    if reason is None and marks is None:
        return metadata
    reasons = [mark.reason for mark in _living(connection)]
    if reason is not None and reason not in reasons:
        reasons.append(reason)
    return {KEY: "; ".join(reasons), **(metadata or {})} if reasons else metadata


@dataclass(slots=True, eq=False)
class _Mark:
    """A reason that holds for the transaction that is open.

    It is a hook of the transaction, so that it goes with the transaction, and with a savepoint that takes the silent
    changes back. ``hooks``: the list in which it was last seen. ``root``: in a TestCase, where the test's own transaction
    never ends, the savepoint that stands for the transaction of the code under test.
    """

    reason: str
    hooks: list[Any]
    root: str | None
    over: bool = False

    def end(self) -> None:
        """After the commit."""
        self.over = True

    def lives(self, connection: BaseDatabaseWrapper) -> bool:
        if self.over or (self.root is not None and self.root not in connection.savepoint_ids):
            return False
        if self.hooks is not connection.run_on_commit:
            # Django makes a new list when a transaction ends, and when a savepoint is rolled back.
            self.hooks = connection.run_on_commit
            return any(function == self.end for _, function, *_ in self.hooks)
        return True


_marks: WeakKeyDictionary[BaseDatabaseWrapper, list[_Mark]] = WeakKeyDictionary()


def _living(connection: BaseDatabaseWrapper) -> list[_Mark]:
    living = [mark for mark in _marks.get(connection, ()) if mark.lives(connection)]
    if living:
        _marks[connection] = living
    else:
        _marks.pop(connection, None)
    return living


def _mark(connection: BaseDatabaseWrapper, reason: str) -> None:
    if not connection.in_atomic_block or any(mark.reason == reason for mark in _living(connection)):
        return
    in_test = sum(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
    root = None
    if in_test:
        # The outermost block has no savepoint; one of the code's own is the transaction as it will be in production.
        root = next(iter(connection.savepoint_ids[in_test - 1 :]), None)
        if root is None:
            return
    mark = _Mark(reason, connection.run_on_commit, root)
    _marks.setdefault(connection, []).append(mark)
    transaction.on_commit(mark.end, using=connection.alias, robust=True)
