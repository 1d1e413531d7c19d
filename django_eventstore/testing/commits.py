"""What the package itself does after a commit, in a TestCase, where no commit ever comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from django.db import connections

from ..forwarding.freezing import frozen
from ..store.sequencing import in_test_case

__all__ = ["run_commit_hooks"]

OURS = "django_eventstore.recording"


def run_commit_hooks(using: str) -> None:
    """Run the commit hooks that record() has registered and that no savepoint has taken back, each once.

    Others are left for captureOnCommitCallbacks(). Only in a TestCase; elsewhere commits are real. No task is sent to a
    broker: what it would do, the caller does.
    """
    connection = connections[using]
    if not in_test_case(connection):
        return
    hooks = cast(list[tuple[set[str], Callable[[], object], bool]], connection.run_on_commit)
    for number, (savepoints, hook, robust) in enumerate(hooks):
        if (getattr(hook, "__module__", None) or "").startswith(OURS):
            # The place stays, since captureOnCommitCallbacks() counts places.
            hooks[number] = (savepoints, _has_run, robust)
            with frozen():
                hook()


def _has_run() -> None:
    """Stands where a hook was that has run."""
