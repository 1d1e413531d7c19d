"""Faults: what may happen to any delivery, made to happen in a test."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from ..consumers import Consumer
from ..consumers.definition import HANDLER_SENDER
from ..delivery import Batch, DeliveredEntry, Outcome
from ..senders import EventSender

__all__ = ["Faults", "FaultySender", "InjectedCrash"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What drain() does to deliveries. Handlers and senders are to bear all of it.

    ``duplicate``: each batch is delivered twice, and the effects of both times stay, as after a rewind. ``delay``: events
    are held back, so that one consumer has handled what another has not seen. ``reorder``: events change places across
    streams, never within one. ``crash``: the worker dies between effect and offset; what a handler has written to the log's
    database is rolled back, what it did outside stays, and the event comes again.

    ``seed``: what is held back and how events change places; the same seed does the same to the same events.
    """

    duplicate: bool = False
    delay: bool = False
    reorder: bool = False
    crash: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.duplicate or self.delay or self.reorder or self.crash):
            raise ValueError("Choose a fault: Faults(duplicate=True), or Faults.all().")

    @classmethod
    def all(cls, *, seed: int = 0) -> Faults:
        """Every fault together."""
        return cls(duplicate=True, delay=True, reorder=True, crash=True, seed=seed)


class InjectedCrash(BaseException):
    """The worker dies here. Not an Exception: nothing that handles errors may survive it."""


class FaultySender(EventSender):
    """Puts faults between the loop and a sender. One for each consumer and drain.

    Positions are saved only up to where everything has been delivered, whatever the order was. ``holds_back``: the rest of
    a batch waits, on purpose, until ``go_on()``.
    """

    def __init__(self, sender: EventSender, *, consumer: Consumer, faults: Faults) -> None:
        self.holds_back = False
        self._sender = sender
        self._faults = faults
        # Each consumer has a course of its own, whatever the others do.
        self._random = Random(f"{faults.seed} {consumer.name}")  # noqa: S311 - to be repeated, not to be secret
        self._together = consumer.sender != HANDLER_SENDER or consumer.options.get("transaction") == "batch"
        self._done: set[int] = set()
        self._held: set[int] = set()
        self._crashed: set[int] = set()

    def go_on(self) -> None:
        """The other consumers had their turn: what was held back may come."""
        self.holds_back = False

    def send(self, batch: Batch) -> Outcome:
        """Deliver the batch, with faults; the outcome is one that the loop may believe."""
        if self.holds_back:
            return self._outcome(batch, {})
        waiting = [entry for entry in batch.entries if _position(entry) not in self._done]
        now = self._reordered(self._not_held_back(waiting)) if waiting else []
        errors: dict[int, BaseException] = {}
        if self._faults.duplicate:
            self._deliver(batch, now, errors, save=False)
        if not errors:
            self._deliver(batch, now, errors, save=True)
        if errors:  # the loop is told of a failure only when all before it is delivered
            before = [entry for entry in waiting if _position(entry) < min(errors)]
            self._deliver(batch, [entry for entry in before if _position(entry) not in self._done], errors, save=True)
        return self._outcome(batch, errors)

    def _not_held_back(self, waiting: list[DeliveredEntry]) -> list[DeliveredEntry]:
        """The first ones; an event is held back once at most."""
        if not self._faults.delay:
            return waiting
        least = max((n for n, entry in enumerate(waiting, 1) if _position(entry) in self._held), default=0)
        number = max(least, self._random.randint(0, len(waiting)))
        self._held.update(_position(entry) for entry in waiting[number:])
        self.holds_back = number < len(waiting)
        return waiting[:number]

    def _reordered(self, entries: list[DeliveredEntry]) -> list[DeliveredEntry]:
        if not self._faults.reorder:
            return entries
        streams: defaultdict[object, deque[DeliveredEntry]] = defaultdict(deque)
        # Events about nothing in particular have no order among themselves.
        keys: list[object] = [entry.stream or _position(entry) for entry in entries]
        for key, entry in zip(keys, entries, strict=True):
            streams[key].append(entry)
        shuffled = list(keys)
        while len(streams) > 1 and shuffled == keys:
            self._random.shuffle(shuffled)
        return [streams[key].popleft() for key in shuffled]

    def _deliver(
        self, batch: Batch, entries: list[DeliveredEntry], errors: dict[int, BaseException], *, save: bool
    ) -> None:
        """Deliver in this order until something is refused. Without ``save``, as if the offset had been lost afterwards."""
        parts = [entries] if self._together and entries else [[entry] for entry in entries]
        for part in parts:
            accepted, refused = self._deliver_part(batch, part, save=save)
            if save:
                self._done |= accepted
            errors.update(refused)
            if len(accepted) < len(part):
                return

    def _deliver_part(
        self, batch: Batch, part: list[DeliveredEntry], *, save: bool
    ) -> tuple[set[int], dict[int, BaseException]]:
        accepted: set[int] = set()
        saves = 0

        def advance(position: int) -> None:
            nonlocal saves
            saves += 1
            self._crash_once(position)
            accepted.update(_upto(part, position))
            if save:
                self._advance(batch, accepted)

        while True:
            rest = [entry for entry in part if _position(entry) not in accepted]
            try:
                outcome = self._sender.send(replace(batch, entries=rest, advance=advance))
                if not saves and outcome.done and not outcome.refused:  # a sender to the outside
                    self._crash_once(_position(rest[outcome.done - 1]))
                break
            except InjectedCrash:
                continue
        accepted.update(_position(entry) for entry in rest[: outcome.done])
        refused = dict(outcome.refused)
        return accepted - set(refused), refused

    def _crash_once(self, position: int) -> None:
        if self._faults.crash and position not in self._crashed:
            self._crashed.add(position)
            raise InjectedCrash

    def _advance(self, batch: Batch, accepted: set[int]) -> None:
        whole = _leading(batch.entries, self._done | accepted)
        # Not again what is saved already: that would be true, and a row more.
        if whole > _leading(batch.entries, self._done):
            batch.advance(_position(batch.entries[whole - 1]))

    def _outcome(self, batch: Batch, errors: dict[int, BaseException]) -> Outcome:
        whole = _leading(batch.entries, self._done)
        if whole < len(batch.entries) and (position := _position(batch.entries[whole])) in errors:
            return Outcome(done=whole + 1, refused={position: errors[position]})
        return Outcome(done=whole)


def _leading(entries: Sequence[DeliveredEntry], done: set[int]) -> int:
    """How many entries from the first on are done."""
    return next((n for n, entry in enumerate(entries) if _position(entry) not in done), len(entries))


def _upto(part: list[DeliveredEntry], position: int) -> list[int]:
    positions = [_position(entry) for entry in part]
    return positions[: positions.index(position) + 1]


def _position(entry: DeliveredEntry) -> int:
    assert entry.position is not None  # noqa: S101 - entries of a batch come from the log
    return entry.position
