"""@handles: which of the project's functions want which events, and how they are to be run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar, get_args

from ..delivery import OnParked
from ..events import registry, selects, validate_pattern

__all__ = ["Handler", "HandlerRegistry", "Mode", "Start", "TransactionScope", "handler_registry", "handles"]

Mode = Literal["durable", "sync", "after_commit"]
TransactionScope = Literal["event", "batch"]
Start = Literal["now", "beginning"] | int | datetime
"""Where a new consumer begins: at the head of the log, at its beginning, after a position, or at a time."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A handler as it was declared."""

    function: Callable[..., Any]
    name: str
    """Its stored identity: explicit, or the dotted path."""
    consumer: str
    """The consumer it belongs to; its own unless it names one."""
    events: tuple[str, ...]
    """Type names and prefixes it wants."""
    typed: frozenset[str] = field(default_factory=frozenset)
    """The types it takes as instances of their class; others reach it as a dict."""
    mode: Mode
    transaction: TransactionScope
    start: Start
    takes_entry: bool
    is_async: bool
    max_attempts: int | None = None
    """Failures of one event after which it is parked; None: as the settings say."""
    on_parked: OnParked | None = None
    replay: bool = True
    """Whether it is called again for events that it has had, when its consumer was moved back."""

    def wants(self, type: str) -> bool:
        """Whether the handler is called for events of this type."""
        return selects(self.events, type)


class HandlerRegistry:
    """The declared handlers, in the order of their declaration."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._sync: dict[str, tuple[Handler, ...]] = {}
        self._after_commit: dict[str, tuple[Handler, ...]] = {}

    def register(self, handler: Handler) -> None:
        """Add a handler; one of the same name from the same place (a reloaded module) is replaced."""
        known = self._handlers.get(handler.name)
        if known is not None and known.function is handler.function and known != handler:
            raise ValueError(f"{handler.name!r} is declared twice: name all its events in one @handles(...).")
        if known is not None and _origin(known.function) != _origin(handler.function):
            raise ValueError(
                f"Two handlers are named {handler.name!r}: {_origin(known.function)} and {_origin(handler.function)}. "
                "Give one of them another name."
            )
        self._handlers[handler.name] = handler
        self._forget_found()

    def unregister(self, name: str) -> None:
        """Forget a handler, for tests that declare one."""
        del self._handlers[name]
        self._forget_found()

    def all(self) -> tuple[Handler, ...]:
        """Every declared handler."""
        return tuple(self._handlers.values())

    def durable(self) -> tuple[Handler, ...]:
        """Handlers that a consumer runs after the commit."""
        return tuple(handler for handler in self._handlers.values() if handler.mode == "durable")

    def sync_for(self, type: str) -> tuple[Handler, ...]:
        """Handlers that run inside the recording transaction for events of this type."""
        found = self._sync.get(type)
        if found is None:
            found = self._sync[type] = self._find("sync", type)
        return found

    def after_commit_for(self, type: str) -> tuple[Handler, ...]:
        """Handlers that this process runs after the commit for events of this type."""
        found = self._after_commit.get(type)
        if found is None:
            found = self._after_commit[type] = self._find("after_commit", type)
        return found

    def _find(self, mode: Mode, type: str) -> tuple[Handler, ...]:
        return tuple(handler for handler in self._handlers.values() if handler.mode == mode and handler.wants(type))

    def _forget_found(self) -> None:
        self._sync.clear()
        self._after_commit.clear()


handler_registry = HandlerRegistry()


def handles(
    *events: type[Any] | str,
    name: str | None = None,
    consumer: str | None = None,
    mode: Mode = "durable",
    transaction: TransactionScope = "event",
    start: Start = "now",
    max_attempts: int | None = None,
    on_parked: OnParked | None = None,
    replay: bool = True,
) -> Callable[[F], F]:
    """Declare a function as the handler of events, given as event classes or as type names and prefixes (``orders.*``).

    The function takes ``(event)`` or ``(event, entry)`` and may be ``async def``. For a class the event is an instance of
    it, for a name the payload as a dict.

    ``mode="durable"``: run by the forwarder after the commit, at least once; what it writes to the log's database commits
    together with its offset, so that effect happens once. ``transaction="event"`` commits after each event, ``"batch"``
    after many. ``mode="sync"``: run by record() inside the caller's transaction, before the event is stored; raising
    refuses the event. ``mode="after_commit"``: run once by the recording process, on a thread of its own right after the
    commit; lost in a crash, and an error is logged and signalled, not tried again. ``start``: where a new durable handler
    begins: ``"now"``, ``"beginning"``, a position, or a time.

    A durable handler's event that fails is tried again, and its stream waits for it; after ``max_attempts`` it is parked,
    and blocks its stream or lets it go on (``on_parked``); by default both are as the settings say. ``replay=False``: when
    the consumer is moved back, the handler is not called for what it has had before; others see ``entry.is_replay``.

    ``name`` is the identity under which the offset is stored, by default the dotted path: a renamed function without a
    name is a new handler. Handlers that name the same ``consumer`` run in order in one transaction.
    """
    if not events:
        raise TypeError("Name the events to handle: @handles(OrderCancelled), not @handles.")
    for value, allowed, what in ((mode, Mode, "mode"), (transaction, TransactionScope, "transaction")):
        if value not in get_args(allowed):
            raise ValueError(f"{what} must be one of {', '.join(map(repr, get_args(allowed)))}, got {value!r}.")
    if not _is_start(start):
        raise ValueError(f"start must be 'now', 'beginning', a position or an aware datetime, got {start!r}.")
    if max_attempts is not None and (isinstance(max_attempts, bool) or max_attempts < 1):
        raise ValueError(f"max_attempts must be 1 or more, got {max_attempts!r}.")
    if on_parked not in (None, "block", "continue"):
        raise ValueError(f"on_parked must be 'block' or 'continue', got {on_parked!r}.")
    patterns, typed = _wanted(events)

    def declare(function: F) -> F:
        own_name = name or f"{function.__module__}.{function.__qualname__}"
        if len(own_name) > 150 or len(consumer or "") > 150:
            raise ValueError(f"{own_name!r}: names of handlers and consumers have at most 150 characters; pass name=.")
        handler_registry.register(
            Handler(
                function=function,
                name=own_name,
                consumer=consumer or own_name,
                events=patterns,
                typed=typed,
                mode=mode,
                transaction=transaction,
                start=start,
                takes_entry=_takes_entry(function),
                is_async=inspect.iscoroutinefunction(function),
                max_attempts=max_attempts,
                on_parked=on_parked,
                replay=replay,
            )
        )
        return function

    return declare


def _wanted(events: tuple[type[Any] | str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    patterns, typed = [], set()
    for wanted in events:
        if isinstance(wanted, str):
            validate_pattern(wanted)
            patterns.append(wanted)
            continue
        definition = registry.by_class(wanted)
        if definition is None:
            raise TypeError(f"{wanted!r} is not an event class: declare it with @event(...), or name the type.")
        patterns.append(definition.type)
        typed.add(definition.type)
    return tuple(patterns), frozenset(typed)


def _is_start(start: object) -> bool:
    if isinstance(start, datetime):
        return start.utcoffset() is not None
    return start in ("now", "beginning") or (isinstance(start, int) and not isinstance(start, bool) and start >= 0)


def _takes_entry(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not positional or (len(positional) > 2 and len(required) > 2) or any(p.kind == p.KEYWORD_ONLY for p in required):
        raise TypeError(
            f"A handler takes (event) or (event, entry); {function.__qualname__} takes {inspect.signature(function)}."
        )
    return len(positional) >= 2


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
