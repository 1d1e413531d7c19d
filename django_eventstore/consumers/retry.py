"""When to try again: plain arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", AWS, 2015).

    The delay before the next attempt is drawn evenly between nothing and ``base`` doubled with each attempt, at most ``cap``.
    """

    base: timedelta
    cap: timedelta
    draw: Callable[[float, float], float] = random.uniform

    def delay(self, attempts: int) -> timedelta:
        """How long to wait after so many failed attempts, 1 or more."""
        doublings = min(attempts - 1, 62)  # beyond that any base has passed any cap
        longest = min(self.cap.total_seconds(), self.base.total_seconds() * 2**doublings)
        return timedelta(seconds=self.draw(0, longest))
