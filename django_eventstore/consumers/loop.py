"""The loop: read after the offset, deliver, advance the offset. There is one, and everything that moves events runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from ..exceptions import EpochChanged, LeaseLost
from ..models import SlotOffset
from ..store import Extent, LogReader, LogState, Page
from ..store.sequencing import in_test_case
from .definition import Consumer
from .delivering import Deliver, Delivery
from .failures import FailureBook, position_of
from .keeping import Keeper, Run, Tenancy
from .leases import Tenure, acquire
from .offsets import OffsetStore, Progress
from .partitions import Partition
from .retrying import Retrial
from .states import Readiness, clear_wait, is_plainly_ready, note_filter, readiness, wait
from .timeouts import limit_session

__all__ = ["ConsumerLoop", "Run"]

# Passing over events that the consumer does not want is saved only now and then: an idle consumer writes nothing, and
# what it reads again is found by an index.
UNSAVED_SKIP = 1_000
PRUNE_AFTER = 100
PRUNE_EVERY_TENURE = 16
# How often a long run looks after its blocked streams.
RETRY_EVERY = timedelta(seconds=1)


@dataclass(slots=True, kw_only=True)
class ConsumerLoop:
    """Delivers for one consumer, or one partition of it. ``deliver`` is any callable from Batch to Outcome.

    Threads may share it: each runs under a tenure of its own.
    """

    consumer: Consumer
    deliver: Deliver
    using: str
    lease: timedelta
    partition: Partition | None = None
    batch_size: int = 100
    """Most entries per batch, unless the consumer says how many."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _share: Partition = field(init=False)
    _log: LogReader = field(init=False)
    _offsets: OffsetStore = field(init=False)
    _keeper: Keeper = field(init=False, default_factory=Keeper)
    _passed_over: tuple[object, int] | None = field(init=False, default=None)
    """The last saved progress in which log, and how far this process knows that nothing after it is wanted."""

    def __post_init__(self) -> None:
        self._share = self.partition or Partition(consumer=self.consumer.name)
        self._log = LogReader(self.using)
        self._offsets = OffsetStore(self.using)

    @property
    def _limit(self) -> int:
        return self.consumer.limit or self.batch_size

    def is_behind(self, log: LogState) -> bool:
        """Whether there is something to look at: the log ends elsewhere than the consumer; one query, no lease.

        An offset above the head counts as well, so that a consumer of another history is seen to have stopped.
        """
        kept = self._keeper.own
        if kept is not None:
            return (kept.delivery.log, kept.delivery.epoch, kept.offset) != (log.log, log.epoch, log.head)
        progress = self._progress()
        return progress is not None and self._start_of(progress, log.log, log.epoch) != log.head

    @property
    def is_kept(self) -> bool:
        """Whether it holds the lease for a next run of this thread."""
        return self._keeper.own is not None

    def let_go(self) -> None:
        """Release the lease that this thread has kept."""
        self._keeper.let_go()

    def run(
        self,
        *,
        most_events: int,
        longest: timedelta,
        stopping: Callable[[], bool] = lambda: False,
        keep: bool = False,
        extent: Extent | None = None,
    ) -> Run:
        """Deliver what is there, within these bounds. Does nothing while another worker holds the consumer.

        ``stopping()``: asked between events; once it is True, the event in hand is the last. ``keep``: at the end of the log
        hold on to the lease, so that the next run delivers without asking for everything again, until let_go().
        ``extent``: of the log, if the caller has just brought it up to date for several consumers.

        Looks before it takes the lease: a consumer with nothing to do writes nothing.
        """
        deadline = self.clock() + longest.total_seconds()
        kept = self._keeper.own
        if kept is not None:
            if self._can_go_on(kept):
                with limit_session(using=self.using, length=self.lease):
                    return self._keeper.hold(
                        kept.tenure, lambda: self._run_on(kept, most_events, deadline, stopping, extent), keep=keep
                    )
            self._keeper.let_go()
        state = self._readiness()
        if not state.ready or state.partitions != self._share.count:
            return Run()
        progress = self._progress()
        if progress is None:
            return Run()
        extent = extent or self._log.extent()
        start = self._start_of(progress, extent.state.log, extent.state.epoch)
        page = self._read(start, progress.epoch, extent)
        if page is None:
            return Run()
        if not page.entries and not state.has_due and page.next_offset - progress.offset < UNSAVED_SKIP:
            self._remember(progress, page.next_offset, page)
            # What had failed is not wanted any more; of several partitions it may be another's.
            if state.failed and self._share.count == 1:
                clear_wait(self.consumer.name, using=self.using)
            return Run(more=not page.complete and page.next_offset > start)
        self._keeper.release_lost()
        with limit_session(using=self.using, length=self.lease):
            return self._run_if_free(progress, page, most_events, deadline, stopping, keep=keep)

    def _run_if_free(
        self,
        progress: Progress,
        page: Page,
        most_events: int,
        deadline: float,
        stopping: Callable[[], bool],
        *,
        keep: bool,
    ) -> Run:
        tenure = acquire(
            self.consumer.name,
            partition=self._share.number,
            using=self.using,
            length=self.lease,
            clock=self.clock,
        )
        if tenure is None:
            return Run()
        return self._keeper.hold(
            tenure,
            lambda: self._run_leased(tenure, progress, page, most_events, deadline, stopping),
            keep=keep,
        )

    def _can_go_on(self, kept: Tenancy) -> bool:
        """Whether it may still deliver: what else changes for a consumer takes the lease away."""
        return kept.tenure.still_held() and self._is_plainly_ready()

    def _run_on(
        self,
        kept: Tenancy,
        most_events: int,
        deadline: float,
        stopping: Callable[[], bool],
        extent: Extent | None,
    ) -> tuple[Run, Tenancy | None]:
        kept.tenure.renew_if_due()
        kept.most_events, kept.deadline = most_events, deadline
        kept.delivery.accepted, kept.delivery.stopping = 0, stopping
        page = self._read(kept.offset, kept.delivery.epoch, extent)
        return (Run(), None) if page is None else (self._run_pages(kept, page), kept)

    def _run_leased(
        self,
        tenure: Tenure,
        seen: Progress,
        page: Page | None,
        most_events: int,
        deadline: float,
        stopping: Callable[[], bool],
    ) -> tuple[Run, Tenancy | None]:
        state, progress = self._readiness(), self._progress()  # as they are now that nobody else changes them
        if state.partitions != self._share.count or progress is None:
            return Run(), None
        if progress != seen:  # somebody delivered between the look and the lease
            page = self._read(progress.offset, progress.epoch)
        if page is None:
            return Run(), None
        note_filter(self.consumer.name, self.consumer.events, known=state.events, using=self.using)
        book = FailureBook(
            consumer=self.consumer.name, policy=self.consumer.policy, slots=self._share.slots, using=self.using
        )
        if state.has_failures:
            book.load()
        work = Tenancy(
            tenure=tenure,
            delivery=Delivery(
                consumer=self.consumer.name,
                deliver=self.deliver,
                policy=self.consumer.policy,
                tenure=tenure,
                book=book,
                using=self.using,
                log=page.log,
                epoch=page.epoch,
                was_unavailable=state.failed,
                careful=self._limit if tenure.follows_dead or book.has_suspects else 0,
                sleep=self.sleep,
                stopping=stopping,
            ),
            book=book,
            state=state,
            ahead=dict(self._slots_ahead().values_list("slot", "offset")) if state.is_apart else {},
            deadline=deadline,
            most_events=most_events,
            offset=progress.offset,
            saved=progress,
            retried_at=self.clock(),
        )
        if state.has_due:
            careful = work.delivery.careful
            if not self._retry(work):
                return Run(delivered=work.delivery.accepted), None
            work.delivery.careful = careful  # what the last worker died of may as well be in the page
        return self._run_pages(work, page), work

    def _run_pages(self, work: Tenancy, page: Page) -> Run:
        more, last = False, page
        while True:
            before = work.offset
            can_go_on = self._deliver_page(work, page)
            at_the_end = page.complete and work.offset >= page.next_offset
            if not can_go_on or at_the_end or work.offset == before:  # or nothing could be done, or none could be had
                break
            if work.delivery.accepted >= work.most_events or self._must_stop(work):
                more = True
                break
            work.tenure.renew_if_due()
            if not self._goes_on(work):
                break
            following = self._read(work.offset, page.epoch)
            if following is None:
                break
            last = page = following
        self._finish(work, last)
        work.is_at_the_end = can_go_on and at_the_end
        return Run(delivered=work.delivery.accepted, more=more)

    def _goes_on(self, work: Tenancy) -> bool:
        """Whether nobody has stopped the consumer meanwhile. Looks after what is due."""
        # Only the holder of the lease puts events aside: of a consumer that has none, none is due.
        has_failures = work.has_failed or work.state.has_failures
        if not has_failures and self._is_plainly_ready():
            return True
        state = self._readiness()
        if state.ready and state.has_due and self.clock() - work.retried_at > RETRY_EVERY.total_seconds():
            return self._retry(work)
        return state.ready

    def _deliver_page(self, work: Tenancy, page: Page) -> bool:
        """Deliver what the page has for this consumer, and pass over what waits behind a failed event.

        Returns whether the consumer can go on.
        """

        saved = work.offset

        def save(position: int) -> None:
            nonlocal saved
            self._advance(work, position)
            saved = position

        pending = work.pending(page.entries)
        while pending:
            whole = len(pending)
            work.saved = None
            sent = work.delivery.send(pending, save=save, upto=page.next_offset)
            work.has_failed = work.has_failed or sent.accepted < sent.done
            if sent.done:
                work.offset = position_of(pending[sent.done - 1])
            if sent.stopped or (not sent.done and not sent.again):
                return False
            if sent.done == whole:
                if sent.accepted == whole:  # the sender claims the last one, and its last transaction has committed
                    work.saved = Progress(offset=saved, epoch=work.delivery.epoch)
                break
            pending = work.pending(pending[sent.done :])
        work.offset = page.next_offset
        return True

    def _retry(self, work: Tenancy) -> bool:
        """Look after what is due. Returns whether the consumer can go on."""
        if work.offset > self._saved(work).offset:
            self._save(work)  # the queues of blocked streams end at the offset
        work.retried_at = self.clock()
        retrial = Retrial(
            consumer=self.consumer,
            delivery=work.delivery,
            book=work.book,
            using=self.using,
            saved=work.offset,
            ahead=work.ahead,
            replays=work.state.replays,
            must_stop=lambda: self._must_stop(work),
        )
        try:
            return retrial.run()
        except EpochChanged as error:
            wait(self.consumer.name, error=error, policy=self.consumer.policy, using=self.using)
            return False

    def _must_stop(self, work: Tenancy) -> bool:
        return self.clock() > work.deadline or work.delivery.stopping()

    def _advance(self, work: Tenancy, offset: int) -> None:
        self._offsets.advance(
            self.consumer.name,
            offset,
            epoch=work.delivery.epoch,
            token=work.tenure.token,
            partition=self._share.number,
        )
        work.advances += 1

    def _save(self, work: Tenancy) -> None:
        """Save how far it came, outside of any transaction."""
        self._advance(work, work.offset)
        work.saved = Progress(offset=work.offset, epoch=work.delivery.epoch)

    def _finish(self, work: Tenancy, page: Page) -> None:
        progress = self._saved(work)
        # What was passed by for a blocked stream must not be passed by once more when the stream is free: so the offset is
        # saved, and with it the end of the stream's queue.
        if work.offset > progress.offset and (work.has_passed_by or work.offset - progress.offset >= UNSAVED_SKIP):
            self._save(work)
            progress = self._saved(work)
        # Of what was saved before a sender gave up in the middle the loop knows by the database only.
        self._remember(progress, max(work.offset, progress.offset), page)
        work.book.clear_tries(progress.offset)
        if work.advances >= PRUNE_AFTER or (not work.has_pruned and work.tenure.token % PRUNE_EVERY_TENURE == 0):
            work.advances, work.has_pruned = 0, True
            self._offsets.prune(self.consumer.name, token=work.tenure.token, partition=self._share.number)
        if work.ahead and min(work.ahead.values()) <= progress.offset:
            # Once the lease is lost, the slots may be those of another grouping.
            with work.tenure.transaction():
                self._slots_ahead().filter(offset__lte=progress.offset).delete()

    def _slots_ahead(self) -> QuerySet[SlotOffset]:
        rows: QuerySet[SlotOffset] = SlotOffset.objects.using(self.using).filter(consumer=self.consumer.name)
        slots = self._share.slots
        return rows if slots is None else rows.filter(slot__gte=slots.start, slot__lt=slots.stop)

    def _saved(self, work: Tenancy) -> Progress:
        """How far it is saved, as this worker knows or the database. Raises LeaseLost when the partition was given up."""
        work.saved = work.saved or self._progress()
        if work.saved is None:
            raise LeaseLost(consumer=self.consumer.name, token=work.tenure.token)
        return work.saved

    def _is_plainly_ready(self) -> bool:
        return is_plainly_ready(self.consumer.name, partitions=self._share.count, using=self.using)

    def _readiness(self) -> Readiness:
        return readiness(self.consumer.name, slots=self._share.slots, using=self.using)

    def _progress(self) -> Progress | None:
        """Where it stands; None for a partition that was given up meanwhile."""
        progress = self._offsets.load(self.consumer.name, partition=self._share.number)
        if progress is None and self._share.count == 1:
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

    def _read(self, offset: int, epoch: int, extent: Extent | None = None) -> Page | None:
        """``extent``: of the log, when it was just brought up to date."""
        if extent is not None:
            try:
                return self._page(extent, offset, epoch)
            except EpochChanged:
                pass  # it may be the extent that is old: others have delivered since, or begun an epoch
        try:
            return self._page(self._log.extent(), offset, epoch)
        except EpochChanged as error:
            wait(self.consumer.name, error=error, policy=self.consumer.policy, using=self.using)
            return None

    def _page(self, extent: Extent, offset: int, epoch: int) -> Page:
        return self._log.page(
            extent, offset, self._limit, types=self.consumer.events, slots=self._share.slots, epoch=epoch
        )
