"""The package's own hooks on a commit, which run before those of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from typing import Any, ClassVar

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["CommitHook", "in_test", "is_registered", "register"]

FOREIGN = 9


class CommitHook(ABC):
    """Something to run after a commit, and never after a rollback of its transaction or savepoint."""

    rank: ClassVar[int]
    """Hooks of a lower rank run first; of one rank, in the order of their registration."""

    @abstractmethod
    def run(self) -> None:
        """Whatever this raises is logged by Django and goes no further."""


def register(hook: CommitHook, connection: BaseDatabaseWrapper) -> None:
    """Run the hook after the commit of what is open on the connection, before the hooks of others.

    Django runs hooks one after the other, and the first that raises without ``robust=True`` keeps all later ones from
    running. So ours stand in front. In a TestCase no hook runs by itself, and captureOnCommitCallbacks() takes those that
    were appended since it began: there the order stays Django's.
    """
    transaction.on_commit(hook.run, using=connection.alias, robust=True)
    hooks = connection.run_on_commit
    if len(hooks) > 1 and not in_test(connection):
        appended = hooks.pop()
        hooks.insert(bisect_right(hooks, hook.rank, key=_rank), appended)


def is_registered(hook: CommitHook, connection: BaseDatabaseWrapper) -> bool:
    """Whether the hook is the newest of its rank that is still to run."""
    hooks = connection.run_on_commit
    if not hooks:
        return False
    newest = bisect_right(hooks, hook.rank, key=_rank) - 1
    return newest >= 0 and bool(hooks[newest][1] == hook.run)


def in_test(connection: BaseDatabaseWrapper) -> bool:
    """Whether a TestCase will roll everything back."""
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


def _rank(registered: tuple[Any, ...]) -> int:
    hook = getattr(registered[1], "__self__", None)
    return hook.rank if isinstance(hook, CommitHook) else FOREIGN
