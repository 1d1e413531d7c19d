"""One endpoint sent to by its own offset, from the log, until it has caught up with its consumer or fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ..delivery import DeliveredEntry
from ..events import selects
from ..events.wire import WireEvent, WireFormat
from ..exceptions import EpochChanged, PermanentError
from ..models import EventEntry
from ..store import EventStore, Page
from .attempts import AttemptBook
from .posting import LONGEST_PROBLEM, Failure, Item, Poster
from .standings import Claim, Standings

__all__ = ["CatchUp"]

logger = logging.getLogger(__name__)

AT_A_TIME = 100
LONGEST = timedelta(seconds=10)
"""After which another endpoint has its turn."""
SAVE_EVERY = timedelta(seconds=1)


@dataclass(slots=True, kw_only=True)
class CatchUp:
    """Runs on a thread of its own under a claim; progress is saved once a second and at the end.

    It goes no further than the consumer's saved offset: what comes after that the endpoint gets with the consumer, and would
    get twice. A process that is killed repeats to the endpoint what it got since.
    """

    claim: Claim
    standings: Standings
    events: Sequence[str]
    """What the consumer wants; the endpoint gets what both want."""
    format: WireFormat
    poster: Poster
    attempts: AttemptBook
    may_go_on: Callable[[], bool]
    _offset: int = field(init=False)
    _epoch: int = field(init=False)
    _saved_at: float = field(init=False)
    _accepted: int = field(init=False, default=0)
    _is_well: bool = field(init=False, default=False)
    _seconds: float = field(init=False, default=0.0)

    def run(self) -> None:
        """Send what is there. Returns with the claim given back, or lost."""
        endpoint = self.claim.endpoint
        self._offset, self._epoch = endpoint.offset or 0, endpoint.epoch or 0
        self._saved_at = time.monotonic()
        until = self._saved_at + LONGEST.total_seconds()
        try:
            while self.may_go_on() and time.monotonic() < until:
                upto = self.standings.saved()
                page = self._read() if self._offset < upto else None
                if page is not None and not self._send(page, upto):
                    return
                if page is None or page.complete or not page.entries:
                    self._is_well = True  # there is nothing left that it could fail of
                    break
            self._end()
        except EpochChanged as error:
            self.standings.release(self.claim, failure=Failure(problem=str(error)[:LONGEST_PROBLEM]))

    def _read(self) -> Page:
        return EventStore(self.standings.using).get(
            self._offset, AT_A_TIME, types=self.claim.endpoint.patterns, epoch=self._epoch or None
        )

    def _send(self, page: Page, upto: int) -> bool:
        """Send a page as far as to this position. Returns whether the endpoint has it all, and the claim is still there."""
        write = self.format.writer(log=page.log, epoch=page.epoch)
        self._epoch = page.epoch
        for entry in page.entries:
            if (entry.position or 0) > upto:
                break
            if not self.may_go_on():
                return self._end()
            if selects(self.events, entry.type) and not self._post(entry, write):
                return False
            self._offset = entry.position or self._offset
            if time.monotonic() - self._saved_at > SAVE_EVERY.total_seconds() and not self._save():
                return False
        self._offset = min(page.next_offset, upto)
        return self._save()

    def _post(self, entry: EventEntry, write: Callable[[DeliveredEntry], WireEvent]) -> bool:
        try:
            item = Item.of(entry, write(entry))
        except PermanentError as error:  # refused to the consumer as well, where it is parked
            logger.warning(
                "Webhook endpoint %s goes without position %s: %s", self.claim.endpoint, entry.position, error
            )
            return True
        found = self.poster.post(self.claim.endpoint, item)
        self.attempts.add(self.claim.endpoint.pk, [found])
        self._seconds += found.seconds
        if found.accepted:
            self._accepted += 1
            self._is_well = True
            return True
        if self._save():
            self.standings.release(self.claim, failure=found.failure)
        return False

    def _save(self) -> bool:
        self._saved_at = time.monotonic()
        return self.standings.save(self.claim, self._offset, epoch=self._epoch, is_well=self._is_well)

    def _end(self) -> bool:
        milliseconds = int(self._seconds * 1_000 / self._accepted) if self._accepted else None
        if self._save():
            self.standings.release(self.claim, milliseconds=milliseconds)
        return False
