"""The loop: read after the offset, deliver, advance the offset. There is one, and everything that moves events runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.db import connections

from ..delivery import Batch, Outcome
from ..exceptions import EpochChanged, LeaseLost
from ..signals import batch_delivered, send
from ..store import EventStore, LogState, Page, log_state
from ..store.sequencing import in_test_case
from .definition import Consumer
from .leases import Tenure, acquire
from .offsets import OffsetStore, Progress
from .states import clear_failure, readiness, record_failure

__all__ = ["ConsumerLoop", "Run"]

Deliver = Callable[[Batch], Outcome]

# Passing over events that the consumer does not want is saved only now and then: an idle consumer writes nothing, and
# what it reads again is found by an index.
UNSAVED_SKIP = 1_000
PRUNE_AFTER = 100
PRUNE_EVERY_TENURE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run did. ``more``: it stopped at its bounds, and there is more to deliver at once."""

    delivered: int = 0
    more: bool = False


@dataclass(slots=True, kw_only=True)
class ConsumerLoop:
    """Delivers for one consumer. ``deliver`` is any callable from Batch to Outcome."""

    consumer: Consumer
    deliver: Deliver
    using: str
    lease: timedelta
    clock: Callable[[], float] = time.monotonic
    _store: EventStore = field(init=False)
    _offsets: OffsetStore = field(init=False)
    _saved: int = field(init=False, default=0)
    _advances: int = field(init=False, default=0)
    _passed_over: tuple[object, int] | None = field(init=False, default=None)
    """The last saved progress in which log, and how far this process knows that nothing after it is wanted."""

    def __post_init__(self) -> None:
        self._store = EventStore(self.using)
        self._offsets = OffsetStore(self.using)

    def is_behind(self, log: LogState) -> bool:
        """Whether there is something to look at: the log ends elsewhere than the consumer; one query, no lease.

        An offset above the head counts as well, so that a consumer of another history is seen to have stopped.
        """
        return self._start_of(self._progress(), log.log, log.epoch) != log.head

    def run(self, *, most_events: int, longest: timedelta) -> Run:
        """Deliver what is there, within these bounds. Does nothing while another worker holds the consumer.

        Looks before it takes the lease: a consumer with nothing to do writes nothing.
        """
        state = readiness(self.consumer.name, using=self.using)
        if not state.ready:
            return Run()
        progress = self._progress()
        log = log_state(self.using)
        start = self._start_of(progress, log.log, log.epoch)
        page = self._read(start, progress.epoch)
        if page is None:
            return Run()
        if not page.entries and page.next_offset - progress.offset < UNSAVED_SKIP:
            self._remember(progress, page.next_offset, page)
            if state.failed:  # what had failed is not wanted any more, or was skipped
                clear_failure(self.consumer.name, using=self.using)
            return Run(more=not page.complete and page.next_offset > start)
        tenure = acquire(self.consumer.name, using=self.using, length=self.lease, clock=self.clock)
        if tenure is None:
            return Run()
        deadline = self.clock() + longest.total_seconds()
        try:
            now_at = self._progress()
            if now_at != progress:  # somebody delivered between the look and the lease
                page = self._read(now_at.offset, now_at.epoch)
            return self._run_leased(tenure, now_at, page, most_events, deadline, failed=state.failed)
        except LeaseLost:
            return Run()  # another worker goes on from the last saved offset
        finally:
            tenure.release()

    def _run_leased(
        self, tenure: Tenure, progress: Progress, page: Page | None, most_events: int, deadline: float, *, failed: bool
    ) -> Run:
        self._saved, self._advances = progress.offset, 0
        delivered, offset, more = 0, progress.offset, False
        while page is not None:
            before = offset
            if page.entries:
                offset, count, refused = self._deliver(tenure, page, before)
                delivered += count
                if refused:
                    break
                if failed:
                    clear_failure(self.consumer.name, using=self.using)
                    failed = False
            else:
                offset = page.next_offset
            at_the_end = page.complete and offset >= page.next_offset
            if at_the_end or offset == before:  # or nothing could be done: not even this page, or none could be had
                break
            if delivered >= most_events or self.clock() > deadline:
                more = True
                break
            tenure.renew_if_due()
            if not readiness(self.consumer.name, using=self.using).ready:
                break
            page = self._read(offset, page.epoch)
        if page is not None:
            self._finish(tenure, offset, page)
        return Run(delivered=delivered, more=more)

    def _deliver(self, tenure: Tenure, page: Page, offset: int) -> tuple[int, int, bool]:
        """(offset afterwards, number of accepted entries, whether the consumer has to wait)."""

        def advance(position: int) -> None:
            self._advance(tenure, position, page.epoch)

        batch = Batch(
            consumer=self.consumer.name,
            entries=page.entries,
            log=page.log,
            epoch=page.epoch,
            using=self.using,
            advance=advance,
            still_held=tenure.still_held,
        )
        try:
            accepted, refused = _accepted(self.deliver(batch), page)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a sender raises means that it is unavailable
            self._fail(tenure, None, error)
            return max(offset, self._saved), 0, True
        if accepted == len(page.entries):
            offset = page.next_offset
        elif accepted:
            offset = _position(page, accepted - 1)
        if accepted and self._saved < _position(page, accepted - 1):
            self._advance(tenure, offset, page.epoch)
        if accepted:
            send(batch_delivered, sender=ConsumerLoop, consumer=self.consumer.name, delivered=accepted, offset=offset)
        if refused is not None:
            self._fail(tenure, _position(page, accepted), refused)
        return offset, accepted, refused is not None

    def _advance(self, tenure: Tenure, offset: int, epoch: int) -> None:
        tenure.renew_if_due()
        self._offsets.advance(self.consumer.name, offset, epoch=epoch, token=tenure.token)
        self._saved = offset
        self._advances += 1

    def _fail(self, tenure: Tenure, position: int | None, error: BaseException) -> None:
        tenure.renew()  # who has lost the lease meanwhile says nothing about the consumer any more
        record_failure(self.consumer.name, position=position, error=error, using=self.using)

    def _finish(self, tenure: Tenure, offset: int, page: Page) -> None:
        if offset - self._saved >= UNSAVED_SKIP:
            self._advance(tenure, offset, page.epoch)
        self._remember(Progress(offset=self._saved, epoch=page.epoch), offset, page)
        if self._advances >= PRUNE_AFTER or tenure.token % PRUNE_EVERY_TENURE == 0:
            self._offsets.prune(self.consumer.name, token=tenure.token)

    def _progress(self) -> Progress:
        progress = self._offsets.load(self.consumer.name)
        while progress is None:
            self._offsets.register([self.consumer])
            progress = self._offsets.load(self.consumer.name)
        return progress

    def _remember(self, progress: Progress, passed: int, page: Page) -> None:
        if not in_test_case(connections[self.using]):  # which takes back the log and not this
            self._passed_over = ((progress, page.log, page.epoch), passed)

    def _start_of(self, progress: Progress, log: UUID, epoch: int) -> int:
        if self._passed_over is not None and self._passed_over[0] == (progress, log, epoch):
            return self._passed_over[1]
        return progress.offset

    def _read(self, offset: int, epoch: int) -> Page | None:
        try:
            return self._store.get(offset, self.consumer.limit, types=self.consumer.events, epoch=epoch)
        except EpochChanged as error:
            record_failure(self.consumer.name, position=None, error=error, using=self.using)
            return None


def _accepted(outcome: Outcome, page: Page) -> tuple[int, BaseException | None]:
    """How many entries from the first on were accepted, and why the next one was not, if it was refused."""
    if outcome.done > len(page.entries):
        raise ValueError(f"The sender claims {outcome.done} of {len(page.entries)} entries.")
    for number in range(outcome.done):
        refused = outcome.refused.get(_position(page, number))
        if refused is not None:
            return number, refused
    return outcome.done, None


def _position(page: Page, number: int) -> int:
    position = page.entries[number].position
    assert position is not None  # noqa: S101 - entries of a page come from the log
    return position
