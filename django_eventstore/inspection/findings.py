"""What an inspection of the log found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "FindingKind", "Tally"]

FindingKind = Literal[
    "double_position",
    "head",
    "hole",
    "mixed_stream",
    "orphan",
    "pass",
    "pending",
    "stream_version",
    "type",
    "unsequenced",
]

MOST_EXAMPLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that must not be. ``count`` says how often, ``examples`` name the first ten places."""

    kind: FindingKind
    message: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts one kind of finding, however often it occurs, in little memory."""

    kind: FindingKind
    message: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str, *, number: int = 1) -> None:
        """One more place, which counts for ``number``."""
        self.count += number
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(example)

    def findings(self) -> list[Finding]:
        """One finding, or none when nothing was counted."""
        if not self.count:
            return []
        return [Finding(kind=self.kind, message=self.message, count=self.count, examples=tuple(self.examples))]
