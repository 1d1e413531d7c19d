"""The port: what delivers a batch. And what every sender to the outside needs: receipts, and a connection per process."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakSet

from django.core.checks import CheckMessage

from ..delivery import Batch, DeliveredEntry, Outcome
from ..exceptions import Unavailable

__all__ = [
    "Capabilities",
    "EventSender",
    "ProcessLocal",
    "Receipts",
    "as_unavailable",
    "position_of",
    "require",
    "require_positive",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a sender can promise beyond at least once. SenderContract holds it to these words."""

    ordered: bool = True
    """What arrives for the first time arrives in the order of the batch, per stream."""
    deduplicates: bool = False
    """The receiver itself drops the repeat of an event, at least for some minutes."""
    transactional: bool = False
    """Effect and offset commit together in the log's database, so that an effect happens once."""


class EventSender(ABC):
    """Delivers batches of one consumer. Configured by path: ``{"SENDER": path, "OPTIONS": {…}}``; options are keywords.

    One instance per process and consumer, made on first use; its threads share it. A connection is opened in ``send()``, and
    never shared across a fork: ``ProcessLocal`` sees to both.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    batch_size: int = 100
    """Most entries per batch where the consumer's LIMIT says nothing. Larger batches wait less for the receiver and save
    fewer offsets; a batch is held in memory, and after a crash it may come again."""

    @abstractmethod
    def send(self, batch: Batch) -> Outcome:
        """Deliver the batch and say what became of it.

        ``Outcome(done=n, refused={position: error})``: each of the first n entries was accepted (for good: a confirm of the
        receiver, a commit) unless its position is named in ``refused``; of the rest nothing is claimed, and they come
        again. An exception means that the sender as a whole is unavailable: nothing more is claimed, no entry is blamed,
        and the consumer waits and tries again.
        """

    def tend(self, consumer: str, *, events: Sequence[str], using: str) -> None:  # noqa: B027 - most have nothing to tend
        """Called by each tick, before its batches, unless the consumer is paused or waits for its sender.

        For what a sender has to do when no event comes, such as receivers that are behind the consumer. No lease is held,
        and any number of processes may call it at the same time; it starts what it wants to do, and returns at once.
        ``events``: the consumer's filter.
        """

    def check(self) -> list[CheckMessage]:
        """System check messages about this sender's options. Connects to nothing."""
        return []

    def close(self) -> None:  # noqa: B027 - many senders have nothing to close
        """Let go of connections; called when the worker stops. The next send() opens them again."""


def position_of(entry: DeliveredEntry) -> int:
    """The entry's place in the log. Raises ValueError for one that was not read from the log."""
    if entry.position is None:
        raise ValueError(f"{entry!r} has no position: only entries that were read from the log are delivered.")
    return entry.position


def require(fact: bool, otherwise: str) -> None:
    """For options: raises ValueError with this text unless it is so."""
    if not fact:
        raise ValueError(otherwise)


def require_positive(**durations: object) -> None:
    """Raises ValueError with the name of the option unless each is a timedelta of more than nothing."""
    for name, duration in durations.items():
        positive = isinstance(duration, timedelta) and duration > timedelta(0)
        require(positive, f"{name} must be a positive timedelta, got {duration!r}.")


def as_unavailable(error: Exception, *, receiver: str) -> Unavailable:
    """The error as the loop understands it; the cause of another one is that one."""
    if isinstance(error, Unavailable):
        return error
    problem = Unavailable(f"{receiver}: {type(error).__name__}: {error}")
    problem.__cause__ = error
    return problem


class Receipts:
    """What became of the entries of a batch, by their number in it. Answers may come in any order.

    Guarantee: the outcome claims an entry only if it and all before it were answered.
    """

    def __init__(self, entries: Sequence[DeliveredEntry]) -> None:
        self._entries = entries
        self._answered = bytearray(len(entries))
        self._refused: dict[int, BaseException] = {}

    def accept(self, number: int) -> None:
        """The receiver has this entry for good. A refusal that came before stays one."""
        self._answered[number] = 1

    def refuse(self, number: int, error: BaseException) -> None:
        """The receiver will not have this entry, and the reason lies in the entry."""
        self._answered[number] = 1
        self._refused.setdefault(number, error)

    def is_answered(self, number: int) -> bool:
        """Whether the entry was accepted or refused."""
        return bool(self._answered[number])

    def is_refused(self, number: int) -> bool:
        """Whether the receiver will not have the entry."""
        return number in self._refused

    @property
    def done(self) -> int:
        """How many entries, from the first on, were answered without a gap."""
        gap = self._answered.find(0)
        return len(self._answered) if gap < 0 else gap

    def outcome(self, error: BaseException | None = None) -> Outcome:
        """The entries that were answered without a gap. With none of them, ``error`` is raised when there is one."""
        done = self.done
        if not done and error is not None:
            raise error
        refused = {position_of(self._entries[number]): why for number, why in self._refused.items() if number < done}
        return Outcome(done=done, refused=refused)


Held = TypeVar("Held")


class ProcessLocal(Generic[Held]):
    """A connection or the like: made on first use in each process, and used by one thread at a time.

    After a fork the child makes its own and leaves its parent's alone: closing that would speak on the parent's socket.
    """

    _lock: threading.RLock
    _held: Held | None

    def __init__(
        self, make: Callable[[], Held], *, close: Callable[[Held], None], usable: Callable[[Held], bool] | None = None
    ) -> None:
        """``usable`` is asked before each use of one that was used before; if it is not, another is made."""
        self._make = make
        self._close = close
        self._usable = usable
        self._begin()
        _made.add(self)

    @contextmanager
    def use(self) -> Iterator[Held]:
        """This process's. When the block raises it is closed, its state being unknown; the next use makes another."""
        with self._lock:
            if self._held is not None and self._usable is not None and not self._usable(self._held):
                self._drop()
            if self._held is None:
                self._held = self._make()
            try:
                yield self._held
            except BaseException:
                self._drop()
                raise

    def close(self) -> None:
        """Close what there is; the next use makes another."""
        with self._lock:
            self._drop()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._held = None

    def _leave_to_parent(self) -> None:
        # Kept alive for ever: the destructor of a connection may shut its socket down, which is the parent's too.
        _inherited.append(self._held)
        self._begin()  # also the lock: a thread that the child does not have may hold it

    def _drop(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._close(held)


_made: WeakSet[ProcessLocal[Any]] = WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    for each in list(_made):
        each._leave_to_parent()


if hasattr(os, "register_at_fork"):  # where there is fork()
    os.register_at_fork(after_in_child=_after_fork)
