"""Whether P4, P6 and P7 held, judged by what the sinks saw and by nothing that the worker says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.concurrency.delivery.sinks import LIMIT, effects, lines_of


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise and the fact that shows it."""

    promise: str
    fact: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.fact}"


def effect_violations(recorded: Mapping[str, int], *, using: str = "default") -> list[Violation]:
    """``recorded``: how many events of each stream. Each effect must have happened once, in order."""
    found, done = [], effects(using)
    for stream in sorted({*recorded, *done}):
        got, wanted = done.get(stream, []), list(range(recorded.get(stream, 0)))
        counts = Counter(got)
        if lost := [number for number in wanted if not counts[number]]:
            found.append(Violation("P6", f"effects of {stream} lost: {lost[:10]}"))
        if doubled := [number for number, count in counts.items() if count > 1]:
            found.append(Violation("P6", f"effects of {stream} doubled: {doubled[:10]}"))
        if list(dict.fromkeys(got)) != sorted(set(got)):
            found.append(Violation("P4", f"effects of {stream} out of order: {got[:50]}"))
    return found


def file_violations(recorded: Mapping[str, int], path: Path, *, repeats: int | None = None) -> list[Violation]:
    """Each event must be there, first deliveries in order, and repeated at most what batches in hand held.

    ``repeats``: how many there may be in all; without it one batch for each worker, which begins with that of a dead one.
    """
    found: list[Violation] = []
    firsts: dict[str, list[int]] = defaultdict(list)
    seen: set[tuple[str, int]] = set()
    repeated: Counter[str] = Counter()
    for line in lines_of(path):
        if (line.stream, line.number) in seen:
            repeated[line.worker] += 1
        else:
            seen.add((line.stream, line.number))
            firsts[line.stream].append(line.number)
    for stream, count in sorted(recorded.items()):
        if lost := sorted(set(range(count)) - set(firsts[stream])):
            found.append(Violation("P6", f"{stream} lost to the outside: {lost[:10]}"))
        if firsts[stream] != sorted(firsts[stream]):
            found.append(Violation("P4", f"{stream} first delivered out of order: {firsts[stream][:50]}"))
    if repeats is not None and repeated.total() > repeats:
        found.append(Violation("P6", f"{repeated.total()} repeats where {repeats} are allowed"))
    for worker, count in repeated.items():
        if repeats is None and count > LIMIT:
            found.append(Violation("P6", f"worker {worker} repeated {count} events, more than the batch of one dead"))
    return found
