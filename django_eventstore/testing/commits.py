"""What the package itself does after a commit, in a TestCase, where no commit ever comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from django.db import connections

from ..forwarding.freezing import frozen
from ..recording import drain_after_commit
from ..recording.commit_hooks import CommitHook
from ..store.sequencing import in_test_case

__all__ = ["finish_commits"]


def finish_commits(using: str) -> bool:
    """Do what record() does after a commit. Returns whether there was something, which may have recorded more.

    In a TestCase: run the package's own hooks that no savepoint has taken back, each once, in their order; others are left
    for captureOnCommitCallbacks(). No task is sent to a broker: what it would do, the caller does. Elsewhere commits are
    real: wait for the handlers that they have started.
    """
    if not in_test_case(connections[using]):
        drain_after_commit()
        return False
    hooks = _take_hooks(using)
    with frozen():
        for hook in sorted(hooks, key=lambda hook: hook.rank):
            hook.run()
    return bool(hooks)


def _take_hooks(using: str) -> list[CommitHook]:
    registered = cast(list[tuple[set[str], Callable[[], object], bool]], connections[using].run_on_commit)
    taken = []
    for number, (savepoints, function, robust) in enumerate(registered):
        hook = getattr(function, "__self__", None)
        if isinstance(hook, CommitHook):
            # The place stays, since captureOnCommitCallbacks() counts places.
            registered[number] = (savepoints, _has_run, robust)
            taken.append(hook)
    return taken


def _has_run() -> None:
    """Stands where a hook was that has run."""
