"""One tenure's deliveries: hand entries to the sender, save how far that came, put aside what failed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import close_old_connections, connections

from ..delivery import Batch, DeliveryPolicy, Outcome
from ..exceptions import LeaseLost
from ..models import EventEntry, FailedDelivery
from ..signals import batch_delivered, send
from ..tracing import forwarding
from .classification import Fault, fault_of
from .failures import FailureBook, position_of
from .leases import Tenure
from .offsets import OffsetStore
from .states import clear_wait, pause, wait

__all__ = ["Deliver", "Delivery", "Queue", "Sent"]

Deliver = Callable[[Batch], Outcome]

# A transaction that lost against another one, or did not get its lock, mostly succeeds at once.
TRIES_IN_CONTENTION = 3
LONGEST_PAUSE_IN_CONTENTION = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a list of entries."""

    done: int
    """How many from the first on are dealt with: accepted, or put aside."""
    accepted: int
    again: bool = False
    """The next one is worth another try at once."""
    stopped: bool = False
    """Nothing more can be delivered now: the sender is unavailable, the consumer was paused, or the worker is to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A blocked stream from its head on, as far as it was read: the last entry is there to be a successor only."""

    row: FailedDelivery
    entries: Sequence[EventEntry]

    def successor(self, position: int) -> EventEntry | None:
        """What follows an entry in the queue; None after the last."""
        return next((entry for entry in self.entries if position_of(entry) > position), None)


@dataclass(slots=True, kw_only=True)
class Delivery:
    """Delivers within one tenure."""

    consumer: str
    deliver: Deliver
    policy: DeliveryPolicy
    tenure: Tenure
    book: FailureBook
    using: str
    log: UUID
    epoch: int
    was_unavailable: bool = False
    """Whether the consumer waited for its sender before: the first success ends that."""
    careful: int = 0
    """How many more events are delivered one by one and noted before, as the last worker may have died of one of them."""
    sleep: Callable[[float], None] = time.sleep
    stopping: Callable[[], bool] = lambda: False
    """Whether the worker was asked to stop: the event in hand is the last."""
    accepted: int = field(init=False, default=0)
    """How many events the sender has accepted in this tenure."""
    _advanced: set[int] = field(init=False, default_factory=set)
    """Positions that the sender saved, as far as it came: one that it claims as well has committed, of the others only the
    database knows."""
    _contention: dict[int, int] = field(init=False, default_factory=dict)

    def send(
        self,
        entries: Sequence[EventEntry],
        *,
        save: Callable[[int], None],
        upto: int | None = None,
        queue: Queue | None = None,
    ) -> Sent:
        """Deliver entries in their order.

        ``save(position)`` saves, in the open transaction if there is one, how far it came; ``upto`` is what to save in place
        of the last entry's position when all are dealt with. ``queue``: the entries are of a blocked stream, where nothing
        is dealt with behind one that failed.
        """
        if self.stopping():
            return Sent(done=0, accepted=0, stopped=True)
        with forwarding(self.consumer, entries):
            return self._send(entries, save, upto, queue)

    def _send(
        self,
        entries: Sequence[EventEntry],
        save: Callable[[int], None],
        upto: int | None,
        queue: Queue | None,
    ) -> Sent:
        is_careful = self.careful > 0
        if is_careful:
            entries, upto = entries[:1], upto if len(entries) == 1 else None
            if self._is_deadly(entries[0], save, queue):
                return self._settled(entries, Sent(done=1, accepted=0))
        self._advanced.clear()
        try:
            outcome = self.deliver(self._batch(entries, save, queue))
            done = _checked(outcome, entries)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a sender raises means that it is unavailable
            self._reconnect()
            if is_careful:
                self.book.outlive(position_of(entries[0]))
            return self._unavailable(entries, error, queue)
        refused = _refused(outcome, entries[:done])
        if refused:
            self._reconnect()
        if is_careful and (refused or not done):
            self.book.outlive(position_of(entries[0]))
        if queue is not None and refused:
            done = min(refused) + 1
        again = self._lost_in_contention(entries, refused)
        if again is not None:
            done = again
        refused = {number: error for number, error in refused.items() if number < done}
        self._save(entries[:done], refused, save, upto if done == len(entries) else None, queue)
        sent = Sent(
            done=done,
            accepted=done - len(refused),
            again=again is not None,
            stopped=self._pauses(entries, refused),
        )
        return self._settled(entries, sent)

    def _batch(self, entries: Sequence[EventEntry], save: Callable[[int], None], queue: Queue | None) -> Batch:
        def advance(position: int) -> None:
            self._save_one(position, save)

        def begin() -> None:
            self.tenure.limit_transaction()

        return Batch(
            consumer=self.consumer,
            entries=entries,
            log=self.log,
            epoch=self.epoch,
            using=self.using,
            advance=advance,
            is_saved=lambda position: self._is_saved(position, queue),
            begin=begin,
            still_held=lambda: self.tenure.still_held() and not self.stopping(),
            partition=self.tenure.partition,
            catches_up=queue is not None,
        )

    def _save_one(self, position: int, save: Callable[[int], None]) -> None:
        self.tenure.renew_if_due()
        save(position)
        self.book.end_try(position)
        self._advanced.add(position)

    def _is_saved(self, position: int, queue: Queue | None) -> bool:
        """Whether what a sender saved has committed. Raises LeaseLost."""
        self._reconnect()
        if position not in self._advanced:
            return False
        with self.tenure.transaction():
            # A session whose client is gone may still be committing; it shares the lease's row until it has.
            if queue is not None:  # its row is that of another event now, or gone
                rows = FailedDelivery.objects.using(self.using).filter(pk=queue.row.pk, position__lte=position)
                return not rows.exists()
            progress = OffsetStore(self.using).load(self.consumer, partition=self.tenure.partition)
            return progress is not None and progress.offset >= position

    def _reconnect(self) -> None:
        """One that broke while a transaction ended is left without autocommit: what follows in it would never commit."""
        connection = connections[self.using]
        if not connection.in_atomic_block and not connection.autocommit:
            connection.close()

    def _save(
        self,
        entries: Sequence[EventEntry],
        refused: dict[int, BaseException],
        save: Callable[[int], None],
        upto: int | None,
        queue: Queue | None,
    ) -> None:
        """Save how far the entries came, unless the sender has, together with putting aside what it refused."""
        if not refused:
            if entries and position_of(entries[-1]) not in self._advanced:
                self._save_one(upto or position_of(entries[-1]), save)
            return
        with self.tenure.transaction():
            if queue is None:
                for number, error in refused.items():
                    if not self.book.blocks(entries[number].stream):  # else it is in the queue of one before it
                        self.book.put_aside(entries[number], error)
                self._save_one(upto or position_of(entries[-1]), save)
                return
            *accepted, failed = entries
            if accepted and position_of(accepted[-1]) not in self._advanced:
                self._save_one(position_of(accepted[-1]), save)
            self.book.put_aside(failed, refused[len(accepted)], successor=queue.successor(position_of(failed)))

    def _lost_in_contention(self, entries: Sequence[EventEntry], refused: dict[int, BaseException]) -> int | None:
        """The first entry that is to be tried again at once, since another transaction was in its way; None: none is."""
        for number, error in refused.items():
            if fault_of(error) is not Fault.CONTENTION:
                continue
            position = position_of(entries[number])
            tries = self._contention[position] = self._contention.get(position, 0) + 1
            if tries < TRIES_IN_CONTENTION:
                close_old_connections()  # one that broke is of no use any more, also one of the handler's own
                self.sleep(random.uniform(0, LONGEST_PAUSE_IN_CONTENTION * tries))  # noqa: S311 - no secret
                return number
            del self._contention[position]
        return None

    def _is_deadly(self, entry: EventEntry, save: Callable[[int], None], queue: Queue | None) -> bool:
        """Note that the event is begun. True if too many have died of it: then it is parked and passed by."""
        self.careful -= 1
        with self.tenure.transaction():
            row = self.book.begin_try(entry)
        if row.crashes <= self.policy.max_crashes:
            return False
        with self.tenure.transaction():
            if queue is None:
                self.book.park_suspect(row)
                save(row.position)
            else:
                self.book.park_suspect(row, successor=queue.successor(row.position))
        return True

    def _pauses(self, entries: Sequence[EventEntry], refused: dict[int, BaseException]) -> bool:
        """Pause the consumer when the failures are not those of single events."""
        reason = ""
        if self.policy.on_undecodable == "pause":
            for number, error in refused.items():
                if fault_of(error) is Fault.UNDECODABLE:
                    reason = f"The event at position {position_of(entries[number])} cannot be read here: {error}"
                    break
        if refused and self.book.open_failures() >= self.policy.max_failures:
            reason = f"{self.policy.max_failures} of its events have failed and are open."
        if reason:
            pause(self.consumer, reason=reason, using=self.using)
        return bool(reason)

    def _settled(self, entries: Sequence[EventEntry], sent: Sent) -> Sent:
        self.book.announce()
        if not sent.accepted:
            return sent
        self.accepted += sent.accepted
        if self.was_unavailable:
            clear_wait(self.consumer, using=self.using)
            self.was_unavailable = False
        offset = position_of(entries[sent.done - 1])
        send(batch_delivered, sender=Delivery, consumer=self.consumer, delivered=sent.accepted, offset=offset)
        return sent

    def _unavailable(self, entries: Sequence[EventEntry], error: BaseException, queue: Queue | None) -> Sent:
        self.tenure.renew()  # who has lost the lease meanwhile says nothing about the consumer any more
        wait(self.consumer, error=error, policy=self.policy, using=self.using)
        saved = len(entries)
        while saved and not self._is_saved(position_of(entries[saved - 1]), queue):
            saved -= 1
        self.accepted += saved
        return Sent(done=saved, accepted=saved, stopped=True)


def _checked(outcome: Outcome, entries: Sequence[EventEntry]) -> int:
    if outcome.done > len(entries):
        raise ValueError(f"The sender claims {outcome.done} of {len(entries)} entries.")
    return outcome.done


def _refused(outcome: Outcome, entries: Sequence[EventEntry]) -> dict[int, BaseException]:
    """By number in the list. What is refused beyond ``done`` is not claimed."""
    if not outcome.refused:
        return {}
    found = {number: outcome.refused.get(position_of(entry)) for number, entry in enumerate(entries)}
    return {number: error for number, error in found.items() if error is not None}
