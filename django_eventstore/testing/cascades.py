"""How far events have led to events while a test delivers, so that two handlers that feed each other are found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..delivery import Batch
from .entry_lists import last_id
from .failures import EndlessDelivery

__all__ = ["Cascade"]

DEEPEST = 50
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """Entries up to an id, after those of the step before, lie this deep. ``trail``: what led to them."""

    upto: int
    depth: int
    trail: tuple[str, ...] = ()


class Cascade:
    """Depth 0 is what was recorded before; what is recorded by the handling of depth n lies at n + 1."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._steps = [_Step(upto=last_id(using), depth=0)]
        self._rounds = 0
        self.error: EndlessDelivery | None = None

    @contextmanager
    def delivering(self, batch: Batch) -> Iterator[None]:
        """Note what is recorded inside the block. Raises EndlessDelivery when the batch lies too deep."""
        cause = max((self._step(entry.id) for entry in batch.entries), key=lambda step: step.depth)  # type: ignore[attr-defined]
        trail = (*cause.trail, f"{batch.entries[0].type} → {batch.consumer}")[-SHOWN:]
        if cause.depth >= DEEPEST:
            self.error = EndlessDelivery(
                f"Handling events records events whose handling records events, {DEEPEST} times over, and there is no end "
                f"to be seen. The last steps (event → consumer): {'; '.join(trail)}."
            )
            raise self.error
        before = last_id(self._using)
        try:
            yield
        finally:
            self._note(before, last_id(self._using), _Step(upto=0, depth=cause.depth + 1, trail=trail))

    def after_commits(self, followed: bool) -> bool:
        """Note whether something followed from commits in this round. Raises EndlessDelivery when it does without an end."""
        self._rounds = self._rounds + 1 if followed else 0
        if self._rounds > 2 * DEEPEST:
            raise EndlessDelivery(
                'What handlers with mode="after_commit" record starts handlers that record, and there is no end to be seen.'
            )
        return followed

    def _step(self, id_: int) -> _Step:
        number = bisect_left(self._steps, id_, key=lambda step: step.upto)
        return self._steps[number] if number < len(self._steps) else _Step(upto=id_, depth=0)

    def _note(self, before: int, after: int, step: _Step) -> None:
        if after > before:
            self._steps.append(_Step(upto=after, depth=step.depth, trail=step.trail))
