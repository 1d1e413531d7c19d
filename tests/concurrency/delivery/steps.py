"""The steps of a delivery, at each of which a worker can be made to stop itself (SIGSTOP), to be killed or woken."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import wraps
from typing import Any

_wanted = {"step": "", "left": 0}


def reach(step: str) -> None:
    """The worker is at this step."""
    if step == _wanted["step"]:
        _wanted["left"] = int(_wanted["left"]) - 1
        if not _wanted["left"]:
            os.kill(os.getpid(), signal.SIGSTOP)


def stop_at(step: str, *, hit: int = 1) -> None:
    """From now on, the ``hit``-th time."""
    _wanted.update(step=step, left=hit)
    for place in _places():
        _watch(*place)


def _places() -> list[tuple[Any, str, str]]:
    from django_eventstore.consumers import delivering, failures, leases, loop, offsets, retrying
    from tests.concurrency.delivery import sinks

    return [
        (loop, "acquire", "acquire"),
        (delivering.Delivery, "_batch", "prepare"),
        (delivering, "_checked", "save"),
        (sinks.FileSender, "wrote_one", "write"),
        (offsets.OffsetStore, "advance", "advance"),
        (failures.FailureBook, "put_aside", "put aside"),
        (failures.FailureBook, "move_on", "move on"),
        (retrying.Retrial, "run", "retry"),
        (leases.Tenure, "release", "release"),
    ]


STEPS = (
    "after acquire",
    "after prepare",
    "before save",
    "before advance",
    "after advance",
    "before put aside",
    "after put aside",
    "before move on",
    "after move on",
    "before retry",
    "after retry",
    "before release",
    "after release",
)
"""What every worker that retries, puts aside and delivers comes to; "before save"
is when the sender has sent, and nothing is saved."""


def _watch(owner: Any, name: str, step: str) -> None:
    wrapped: Callable[..., Any] = getattr(owner, name)

    @wraps(wrapped)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        reach(f"before {step}")
        result = wrapped(*arguments, **keywords)
        reach(f"after {step}")
        return result

    setattr(owner, name, watched)
