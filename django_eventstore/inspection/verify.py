"""Whether the log keeps its promises, looked at from outside: row by row, without trusting the sequencer's memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.db import DatabaseError, router

from ..exceptions import EventStoreError, SequencingRefused
from ..models import EventEntry
from ..store import log_state
from ..store.sequencing import sequence, sequencer
from .findings import Finding
from .marks import wrong_marks
from .positions import entries_without_one_position, holes, positions_without_entry
from .streams import disordered_streams

__all__ = ["Report", "verify"]

# Each attempt waits up to a second for the lock.
MOST_ATTEMPTS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What verify() found. ``pruned_through``: the log begins after this position; retention has removed the rest."""

    log: UUID
    epoch: int
    head: int
    pruned_through: int
    findings: tuple[Finding, ...]
    repaired: int | None = None
    """How many entries a repair gave a position; None when there was none."""
    seconds: float = 0.0

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(using: str | None = None, *, repair: bool = False, clock: Callable[[], float] = time.monotonic) -> Report:
    """Run the sequencer until nothing is left, then look at every entry and every position.

    What counts as what:

    * Pruned, and no finding: the positions below the lowest one that is left; in an empty log all up to the head.
    * ``hole``: any other missing position. Nothing prunes in the middle, and none is given out and then not used.
    * ``unsequenced``: an entry that was committed before a pass of the sequencer and has no position after it, such as one
      copied in with a foreign transaction id. Entries of open transactions cannot be seen and are not meant.
    * ``orphan``: a position without its entry. ``double_position``: an entry with several. ``type``: a position filed under
      another type than its entry's.
    * ``stream_version``: versions that do not rise with the positions of their stream. ``mixed_stream``: versioned and
      plain events in one stream.
    * ``head``: positions above the sequencer's head; on MariaDB also a shown mark above it. ``pending`` (MariaDB): pending
      rows of entries that have a position, or do not exist.
    * ``pass``: the sequencer failed, with the database's words; the rest was looked at as it is.

    ``repair``: when something was found, give a position to every entry that has none (a rebase, which changes nothing that
    exists and begins no epoch), and look again. It mends ``unsequenced`` only.

    Takes well under a minute for a million entries, in statements over ranges, so that no time-out, lock or memory is
    strained; writers, readers and the sequencer go on beside it. Raises SequencingRefused inside an open transaction and on
    a standby, and EventStoreError when other passes do not let go of the lock.
    """
    alias = using or router.db_for_write(EventEntry)
    began = clock()
    report = _look(alias)
    repaired = None
    if repair and report.findings:
        repaired = sequencer(alias).rebase().numbered
        report = _look(alias)
    return Report(
        log=report.log,
        epoch=report.epoch,
        head=report.head,
        pruned_through=report.pruned_through,
        findings=report.findings,
        repaired=repaired,
        seconds=clock() - began,
    )


def _look(using: str) -> Report:
    # Before the pass, which fails where a pending row has a position.
    findings = wrong_marks(using=using)
    findings += _failed_pass(using)
    can_pass = not any(finding.kind == "pass" for finding in findings)
    state = log_state(using)
    pruned_through, missing = holes(head=state.head, using=using)
    findings += missing
    findings += positions_without_entry(head=state.head, using=using)
    findings += entries_without_one_position(
        catch_up=(lambda: _catch_up(using)) if can_pass else (lambda: None), using=using
    )
    findings += disordered_streams(using=using)
    return Report(
        log=state.log, epoch=state.epoch, head=state.head, pruned_through=pruned_through, findings=tuple(findings)
    )


def _failed_pass(using: str) -> list[Finding]:
    try:
        _catch_up(using)
    except DatabaseError as error:
        message = f"The sequencer failed: {error}"
        return [Finding(kind="pass", message=message, count=1)]
    return []


def _catch_up(using: str) -> None:
    """Run passes until one has reached everything that was committed before it began."""
    attempts = 0
    while True:
        done = sequence(using)
        if done.refused:
            raise SequencingRefused(
                "verify runs the sequencer, which does not run inside an open transaction, nor on a standby or in a "
                "read-only session. Call it outside atomic(), on the primary, with AUTOCOMMIT on."
            )
        if done.reached:
            return
        attempts = 0 if done.more else attempts + 1
        if attempts == MOST_ATTEMPTS:
            raise EventStoreError(
                "Other passes of the sequencer hold its lock and do not let go of it. Try again later."
            )
