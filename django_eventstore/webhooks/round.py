"""One batch to all endpoints that go along, each in order and at its own pace; the batch waits for none that is slow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from ..models import Endpoint
from .attempts import KEPT, AttemptBook
from .posting import Item, Poster, Try
from .standings import Behind, Claim
from .threads import Threads

__all__ = ["Job", "Round"]

LOOK_EVERY = 0.05
"""Seconds between two looks at the clock, while nothing happens."""
TOLD_WITHIN = 60
"""Seconds that a thread waits to hear that its row was marked."""


class Job:
    """What of a batch one endpoint is to get."""

    def __init__(self, endpoint: Endpoint, items: Sequence[Item]) -> None:
        self.endpoint, self.items = endpoint, items
        self.done = 0
        self.failed: Try | None = None
        self.tries: deque[Try] = deque(maxlen=KEPT)
        self.waits_since: float | None = None
        """When the request in hand began."""
        self.is_running = False
        self.was_left = False
        """Whether the batch has gone on without it; then its thread settles where it stands, once the row is marked."""
        self.marked = threading.Event()
        self.claim: Claim | None = None

    @property
    def is_complete(self) -> bool:
        return self.done == len(self.items)

    @property
    def offset(self) -> int:
        """Up to here the endpoint has everything."""
        if self.is_complete:
            return _position(self.items[-1])
        return _position(self.items[self.done]) - 1


class Round:
    """Runs the jobs of a batch on threads, at most ``most`` at a time that it waits for.

    It is over when each job is complete, has failed, or has waited for longer than ``patience`` for one answer; or at
    once when ``may_go_on``, which is asked before each request on any thread, says no more. ``settle`` is called on the
    thread of a job that was left, when it has its answer.
    """

    def __init__(
        self,
        *,
        poster: Poster,
        threads: Threads,
        attempts: AttemptBook,
        most: int,
        patience: timedelta,
        may_go_on: Callable[[], bool],
        settle: Callable[[Claim, Job], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poster, self._threads, self._attempts = poster, threads, attempts
        self._most, self._patience = most, patience.total_seconds()
        self._may_go_on, self._settle, self._clock = may_go_on, settle, clock
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._is_over = False

    def run(self, jobs: Sequence[Job]) -> list[tuple[Job, Behind]]:
        """Returns the endpoints to be left behind. Their jobs are told by ``tell`` once that has been saved."""
        with self._changed:
            self._waiting.extend(jobs)
            try:
                while (self._waiting or self._running) and self._may_go_on():
                    self._start()
                    self._leave(self._late())
                    if len(self._running) >= self._most or not self._waiting:
                        self._changed.wait(LOOK_EVERY)
            finally:
                self._is_over = True  # nobody begins another request
            until = self._clock() + self._patience
            while self._running and self._clock() < until:
                self._changed.wait(LOOK_EVERY)
            self._leave(list(self._running))
            return [(job, _behind(job)) for job in jobs if job.was_left or not job.is_complete]

    def tell(self, job: Job, claim: Claim | None) -> None:
        """The row of a job that was left is marked; without a claim there is nothing to settle."""
        job.claim = claim
        job.marked.set()

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._most:
            job = self._waiting.popleft()
            job.is_running = True
            self._running.add(job)
            try:
                self._threads.start(lambda job=job: self._work(job))  # type: ignore[misc]
            except BaseException:
                self._running.discard(job)
                raise

    def _late(self) -> list[Job]:
        now = self._clock()
        return [job for job in self._running if job.waits_since is not None and now - job.waits_since > self._patience]

    def _leave(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.was_left = True
            self._running.discard(job)

    def _work(self, job: Job) -> None:
        try:
            self._post(job)
        finally:
            with self._changed:
                self._running.discard(job)
                job.is_running = False
                self._changed.notify_all()
            self._attempts.add(job.endpoint.pk, job.tries)
        # Who runs the batch may have died of an error; then the row is not marked, and the batch comes again.
        if job.was_left and job.marked.wait(TOLD_WITHIN) and job.claim is not None:
            self._settle(job.claim, job)

    def _post(self, job: Job) -> None:
        for item in job.items:
            if not self._may_go_on():
                return
            with self._changed:
                if self._is_over or job.was_left:
                    return
                job.waits_since = self._clock()
            found = self._poster.post(job.endpoint, item)
            with self._changed:
                job.waits_since = None
                job.tries.append(found)
                if not found.accepted:
                    job.failed = found
                    return
                job.done += 1


def _behind(job: Job) -> Behind:
    failure = job.failed.failure if job.failed is not None and not job.was_left else None
    return Behind(endpoint=job.endpoint, offset=job.offset, failure=failure, is_busy=job.was_left)


def _position(item: Item) -> int:
    if item.position is None:
        raise ValueError(f"{item.event_id} was not read from the log.")
    return item.position
