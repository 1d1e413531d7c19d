"""freeze_forwarding(): nothing follows from an event until the test has looked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from ..forwarding.freezing import frozen

__all__ = ["freeze_forwarding"]

F = TypeVar("F", bound=Callable[..., Any])


class freeze_forwarding:  # noqa: N801 - used like a function, as override_settings is
    """Inside the block, or the decorated function, this process forwards nothing, so that a test can look at the log.

    That is: no commit sends a forward task, and the forward task (also an eager one), the commands, forward_all() and
    EventForwarder deliver nothing. Events are recorded as always, and sync handlers run. drain() inside is an error.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._stack.enter_context(frozen())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, function: F) -> F:
        """Decorate a function or a coroutine function."""
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def stand_still_async(*args: Any, **kwargs: Any) -> Any:
                with frozen():
                    return await function(*args, **kwargs)

            return stand_still_async  # type: ignore[return-value]

        @wraps(function)
        def stand_still(*args: Any, **kwargs: Any) -> Any:
            with frozen():
                return function(*args, **kwargs)

        return stand_still  # type: ignore[return-value]
