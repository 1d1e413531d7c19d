"""The port: which committed entries are not in the log yet, and how they get their positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Pass", "Sequencer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass of the sequencer did.

    ``reached``: every entry that had committed when the pass began is in the log now. It is False when more was committed
    than one pass takes, when another pass held the lock for longer than a second, and where sequencing is refused.
    """

    reached: bool
    numbered: int = 0
    more: bool = False
    """Entries are left that the next pass takes at once."""
    refused: bool = False
    """This connection may not sequence: an open transaction, a standby, a read-only session."""


class Sequencer(ABC):
    """Gives positions to committed entries. One subclass per database; the only place that knows how."""

    head_sql: ClassVar[str]
    """A scalar subquery for the last position a reader may see; it may stand inside another statement."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection

    @abstractmethod
    def run(self, *, max_entries: int | None = None) -> Pass:
        """One pass, in a transaction of its own. The caller makes sure that none is open."""

    @abstractmethod
    def rebase(self) -> Pass:
        """Give a position to every entry that has none, whatever the stored state says. Begins no epoch."""

    @abstractmethod
    def place_in_test(self) -> Pass:
        """Give positions inside the transaction of a ``TestCase``, which nobody commits."""

    def head(self) -> int:
        """The last position a reader may see; it stays when the log has been emptied by retention."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT ({self.head_sql})")
            return int(cursor.fetchone()[0])

    def committed_head(self) -> int | None:
        """The last position that this connection's open transaction can not take back by rolling back; None: any."""
        return None

    @abstractmethod
    def unsequenced(self, *, limit: int) -> int:
        """How many visible entries have no position yet, counted up to ``limit``."""

    def end(self, *, limit: int) -> int:
        """How many events the log has, with those that wait for a position, of which up to ``limit`` are counted."""
        # In this order: one that gets its position in between is counted twice, and not passed over.
        unsequenced = self.unsequenced(limit=limit)
        return self.head() + unsequenced
