"""RecordingSender: a sender that keeps what it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from ..delivery import Batch, Outcome
from ..events import selects, validate_pattern
from ..models import EventEntry
from ..senders import EventSender
from .entry_lists import EntryList

__all__ = ["RecordingSender"]

Answer = BaseException | int | Outcome | Callable[[Batch], Outcome] | None


class RecordingSender(EventSender):
    """Keeps the batches it is given, and accepts them, unless told otherwise.

    ``script``: the answer to each batch in turn; all of a batch is accepted after the script's end. ``None`` accepts, a
    number accepts that many entries and claims nothing of the rest, an exception is raised (the sender is unavailable), an
    Outcome is returned, and anything that can be called is called with the batch. ``refuse``: an exception for each type
    name or prefix whose events are refused, whatever the script says of the rest of the batch.

    ``batches``: every batch it was given. ``entries``: what it has accepted, in order, repeats included. ``closed``: how
    often close() was called.
    """

    def __init__(self, script: Iterable[Answer] = (), *, refuse: Mapping[str, BaseException] | None = None) -> None:
        for pattern in refuse or {}:
            validate_pattern(pattern)
        self.script = deque(script)
        self.refuse = dict(refuse or {})
        self.batches: list[Batch] = []
        self.entries: EntryList = EntryList()
        self.closed = 0

    def send(self, batch: Batch) -> Outcome:
        """Keep the batch and answer as the script says."""
        self.batches.append(batch)
        outcome = self._refusing(batch, self._answer(batch))
        accepted = [entry for entry in batch.entries[: outcome.done] if entry.position not in outcome.refused]
        self.entries += cast(list[EventEntry], accepted)
        return outcome

    def close(self) -> None:
        """Count the call."""
        self.closed += 1

    def of(self, event: type[object] | str) -> EntryList:
        """The accepted entries of an event class, or of a type name or a prefix such as ``orders.*``."""
        return self.entries.of(event)

    def clear(self) -> None:
        """Forget what was sent; the script goes on where it is."""
        self.batches.clear()
        self.entries.clear()
        self.closed = 0

    def _answer(self, batch: Batch) -> Outcome:
        answer = self.script.popleft() if self.script else None
        if answer is None:
            return Outcome(done=len(batch.entries))
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, int):
            return Outcome(done=min(answer, len(batch.entries)))
        return answer if isinstance(answer, Outcome) else answer(batch)

    def _refusing(self, batch: Batch, outcome: Outcome) -> Outcome:
        refused = dict(outcome.refused)
        for entry in batch.entries[: outcome.done]:
            for pattern, error in self.refuse.items():
                if selects((pattern,), entry.type) and entry.position is not None:
                    refused.setdefault(entry.position, error)
        return Outcome(done=outcome.done, refused=refused)

    def __repr__(self) -> str:
        return f"<RecordingSender: {len(self.entries)} entries in {len(self.batches)} batches>"
