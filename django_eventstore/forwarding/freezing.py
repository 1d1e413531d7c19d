"""Standing still: for tests that look at the log before anything follows from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["frozen", "is_frozen"]

_lock = threading.Lock()
_depth = 0


@contextmanager
def frozen() -> Iterator[None]:
    """Inside it this process forwards nothing and wakes no other, on any thread."""
    global _depth
    with _lock:
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1


def is_frozen() -> bool:
    """Whether some thread of this process is inside ``frozen()``."""
    return _depth > 0
