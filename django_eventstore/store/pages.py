"""The log as its readers get it: how far it goes, and page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import connections

from ..models import EventEntry
from .epoch import LogState, log_state
from .reading import read, type_ids
from .sequencing import sequence, sequencer

__all__ = ["Extent", "LogReader", "Page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of the log.

    ``entries`` are in the order of their positions. ``next_offset`` is where the reader goes on; everything that matches up
    to it is in this page or was in an earlier one. ``complete`` says that the end of the log was reached and that it held
    every event committed before ``get()`` began; only then ``head``, the last position, is given. On an incomplete page
    the reader asks again at once, or soon when ``entries`` is empty. ``log`` and ``epoch`` belong beside a saved offset.
    """

    log: UUID
    epoch: int
    entries: tuple[EventEntry, ...]
    next_offset: int
    complete: bool
    head: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How far the log goes: what a pass of the sequencer did, and the log as the statement after it saw it."""

    state: LogState
    reached: bool
    """Every event that had committed when the pass began is in the log."""
    more: bool
    """Events are left that the next pass takes at once."""
    may_lag: bool
    """Nothing was done: this connection may not, and may be behind the log."""


class LogReader:
    """Reads the log of one database. Threads may share it."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._types: tuple[object, list[int] | None] | None = None

    def extent(self) -> Extent:
        """Bring the log up to date, if this connection may, and say how far it goes."""
        done = sequence(self.using)
        state = log_state(self.using)
        if done.refused and (committed := sequencer(self.using).committed_head()) is not None:
            state = replace(state, head=min(state.head, committed))
        return Extent(state=state, reached=done.reached, more=done.more, may_lag=done.refused)

    def page(
        self,
        extent: Extent,
        offset: int,
        limit: int,
        *,
        types: Sequence[str] = (),
        stream: str | None = None,
        slots: range | None = None,
        epoch: int | None = None,
    ) -> Page:
        """What get() returns of a log that is known to go so far: complete when it holds all of that."""
        state = extent.state
        state.require_shared_history(offset=offset, epoch=epoch, may_lag=extent.may_lag)
        extract = read(
            offset=offset,
            head=state.head,
            limit=limit,
            types=self._type_ids(types, state),
            stream=stream,
            slots=slots,
            using=self.using,
        )
        complete = extent.reached and extract.next_offset >= state.head
        return Page(
            log=state.log,
            epoch=state.epoch,
            entries=extract.entries,
            next_offset=extract.next_offset,
            complete=complete,
            head=state.head if complete else None,
        )

    def _type_ids(self, types: Sequence[str], state: LogState) -> list[int] | None:
        """Those of the last call, while the same is asked for and the log has no further type."""
        if connections[self.using].in_atomic_block:  # which may take a type back, and another one gets its number
            return type_ids(types, using=self.using)
        asked, known = (state.log, state.last_type, tuple(types)), self._types  # threads may share the store
        if known is None or known[0] != asked:
            known = self._types = (asked, type_ids(types, using=self.using))
        return known[1]
