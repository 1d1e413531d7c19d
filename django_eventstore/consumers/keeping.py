"""What a worker knows while it holds the lease of a partition, and whether it keeps that for its next run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..exceptions import LeaseLost
from ..models import EventEntry
from .delivering import Delivery
from .failures import FailureBook, position_of
from .leases import Tenure
from .offsets import Progress
from .states import Readiness

__all__ = ["Keeper", "Run", "Tenancy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run did. ``more``: it stopped at its bounds, and there is more to deliver at once."""

    delivered: int = 0
    more: bool = False


@dataclass(slots=True, kw_only=True)
class Tenancy:
    """What a run knows while it holds the lease. ``offset`` is how far it came, saved or not."""

    tenure: Tenure
    delivery: Delivery
    book: FailureBook
    state: Readiness
    ahead: dict[int, int]
    """Slots that are ahead of the partition, and how far."""
    deadline: float
    most_events: int
    offset: int
    saved: Progress | None
    """How far it is saved, None where only the database knows."""
    retried_at: float
    advances: int = 0
    has_pruned: bool = False
    has_failed: bool = False
    """Whether some of the events were put aside."""
    is_at_the_end: bool = False
    """Whether the last run came to the end of the log."""
    has_passed_by: bool = False
    """Whether events lie behind ``offset`` that are to be delivered later, or were delivered before."""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing that the next run would have to look at first, such as an event to be tried again."""
        state = self.state
        looked_after = self.has_failed or state.failed or state.has_failures or state.is_apart
        return self.is_at_the_end and not looked_after

    def pending(self, entries: Sequence[EventEntry]) -> list[EventEntry]:
        """What of these is to be delivered now; mostly all, and then none is looked at."""
        if not entries:
            return []
        if not self.book.has_blocked and not self.ahead and position_of(entries[0]) > self.state.replays.until:
            return list(entries)
        return [entry for entry in entries if self._is_next(entry)]

    def _is_next(self, entry: EventEntry) -> bool:
        """Whether the entry is to be delivered now: its stream does not wait, and its slot has not had it before."""
        position = position_of(entry)
        entry.is_replay = self.state.replays.cover(position, entry.stream)
        if self.book.blocks(entry.stream) or (entry.slot is not None and position <= self.ahead.get(entry.slot, 0)):
            self.has_passed_by = True
            return False
        return True


class Keeper:
    """Holds the lease during a run, and from one run of a thread to the next. Threads may share it."""

    def __init__(self) -> None:
        self._kept: tuple[int, Tenancy] | None = None
        # Those that ended with their connection: nobody works under them any more, so they need not run out.
        self._lost: list[Tenure] = []

    @property
    def own(self) -> Tenancy | None:
        """What this thread has kept since its last run."""
        kept = self._kept
        return kept[1] if kept is not None and kept[0] == threading.get_ident() else None

    def let_go(self) -> None:
        """Release the lease that this thread has kept."""
        kept = self.own
        if kept is not None:
            self._kept = None
            self._release(kept.tenure)

    def hold(self, tenure: Tenure, run: Callable[[], tuple[Run, Tenancy | None]], *, keep: bool) -> Run:
        """Run under the lease, and let go of it, unless it is to be kept and the next run has nothing else to look at."""
        if self.own is not None:
            self._kept = None
        kept = None
        try:
            done, work = run()
            if keep and work is not None and work.is_plain:
                kept = work
            return done
        except LeaseLost:
            return Run()  # another worker goes on from the last saved offset
        except Exception:
            raise
        except BaseException:
            tenure.is_abandoned = True  # what ends the process may be the event in hand
            raise
        finally:
            if kept is not None:
                self._kept = (threading.get_ident(), kept)
            else:
                self._release(tenure)

    def release_lost(self) -> None:
        """Let go of the tenures that ended with their connection.

        The token says that it is this one and no later one. What its session still has open, should the server not have
        noticed yet, holds the lease's row and is waited for, or comes too late with its token.
        """
        lost, self._lost = self._lost, []
        for tenure in lost:
            self._release(tenure)

    def _release(self, tenure: Tenure) -> None:
        try:
            tenure.release()
        except Exception:
            self._lost.append(tenure)
            raise
