"""Judges an observation by the promises: P1 atomic, P2 complete, P3 dense and stable, P4 in order, P5 without waiting.

Pure: it asks no database, and what it is told comes from outside the package.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Multiset
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tests.concurrency.observation import Observation, Reading, Row

Promise = Literal["P1", "P2", "P3", "P4", "P5"]

LONGEST_DELAY = 5.0
"""Seconds between the return of a COMMIT and the first reader that has the event; the machine may be busy."""

SHOWN_PER_KIND = 3


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise and the fact that breaks it."""

    promise: Promise
    fact: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.fact}"


def violations(seen: Observation, *, longest_delay: float = LONGEST_DELAY) -> list[Violation]:
    """Every broken promise; of the same kind a few examples and their number."""
    found: list[Violation] = []
    for promise, kind, facts in _checks(seen, longest_delay):
        broken = list(facts)
        if broken:
            examples = "; ".join(broken[:SHOWN_PER_KIND])
            found.append(Violation(promise, f"{len(broken)} × {kind}: {examples}"))
    return found


def broken_promises(found: Iterable[Violation]) -> set[Promise]:
    return {violation.promise for violation in found}


def _checks(seen: Observation, longest_delay: float) -> Iterator[tuple[Promise, str, Iterable[str]]]:
    log = sorted((row for row in seen.rows if row.position is not None), key=_position)
    yield "P1", "a committed event is not stored", _lost(seen)
    yield "P1", "a transaction is stored in part", _halves(seen)
    yield "P1", "stored though nothing committed it", _unexplained(seen)
    yield "P1", "stored twice", (key for key, n in Multiset(row.key for row in seen.rows).items() if n > 1)
    yield "P2", "committed but not in the log", (row.key for row in seen.rows if row.position is None)
    for reading in seen.readings:
        yield "P2", f"missed by {reading.name}", _missed(log, reading)
        yield "P2", f"given twice to {reading.name}", _doubled(reading)
        yield "P2", f"missing below the head of a complete page of {reading.name}", _incomplete(seen, log, reading)
        yield "P3", f"another event than {reading.name} was given under this position", _changed(log, reading)
        yield "P4", f"given out of order to {reading.name}", _disordered(reading)
    yield "P3", "positions are not 1, 2, 3, …", _holes(log)
    yield "P3", "reading again gives another log", _reread(seen, log)
    yield "P4", "counts of a stream do not rise by one", _counts(seen, log)
    yield "P4", "versions of a stream do not rise by one", _versions(log)
    yield "P4", "a writer's events are not in its order", _writers_order(log)
    yield "P4", "recorded after a commit had returned, yet before it in the log", _real_time(seen, log)
    yield "P5", "late", _delays(seen, longest_delay)
    yield "P5", "stalled", seen.stalls


def _position(row: Row) -> int:
    assert row.position is not None
    return row.position


def _lost(seen: Observation) -> Iterable[str]:
    stored = {row.key for row in seen.rows}
    return (key for done in seen.transactions if done.outcome == "committed" for key in done.keys if key not in stored)


def _halves(seen: Observation) -> Iterable[str]:
    stored = {row.key for row in seen.rows}
    for done in seen.transactions:
        present = sum(key in stored for key in done.keys)
        if 0 < present < len(done.keys):
            yield f"{done.writer}/{done.number}: {present} of {len(done.keys)}"


def _unexplained(seen: Observation) -> Iterable[str]:
    explained = {key for done in seen.transactions for key in done.keys}
    return (row.key for row in seen.rows if row.key not in explained)


def _wanted(row: Row, reading: Reading) -> bool:
    if reading.stream is not None and row.stream != reading.stream:
        return False
    return not reading.types or any(
        row.type == pattern or (pattern.endswith(".*") and row.type.startswith(pattern[:-1]))
        for pattern in reading.types
    )


def _missed(log: list[Row], reading: Reading) -> Iterable[str]:
    given = {event_id for _, event_id in reading.noted}
    return (f"{r.key} at {r.position}" for r in log if _wanted(r, reading) and r.event_id not in given)


def _doubled(reading: Reading) -> Iterable[str]:
    if reading.repeats:
        return ()
    return (event_id for event_id, n in Multiset(event_id for _, event_id in reading.noted).items() if n > 1)


def _commits(seen: Observation, log: list[Row]) -> list[tuple[float, Row]]:
    """(when COMMIT had returned, row) of every event in the log whose writer lived to see it, by that time."""
    at = {key: done.committed_at for done in seen.transactions for key in done.keys}
    return sorted(((when, row) for row in log if (when := at.get(row.key)) is not None), key=lambda pair: pair[0])


def _incomplete(seen: Observation, log: list[Row], reading: Reading) -> Iterable[str]:
    """A complete page has a head; what had been committed before it was asked for lies at or below it."""
    commits = _commits(seen, log)
    times = [when for when, _ in commits]
    highest: list[Row] = []
    for _, row in commits:
        highest.append(row if not highest or _position(row) > _position(highest[-1]) else highest[-1])
    for look in reading.looks:
        before = bisect_left(times, look.began)
        if look.head is not None and before and _position(highest[before - 1]) > look.head:
            yield f"{highest[before - 1].key} at {highest[before - 1].position}, head {look.head}"


def _changed(log: list[Row], reading: Reading) -> Iterable[str]:
    now = {row.position: row.event_id for row in log}
    return (f"{position}" for position, event_id in reading.noted if now.get(position) != event_id)


def _disordered(reading: Reading) -> Iterable[str]:
    seen: set[str] = set()
    last = 0
    for position, event_id in reading.noted:
        if event_id in seen:
            continue
        seen.add(event_id)
        if position <= last:
            yield f"{position} after {last}"
        last = position


def _holes(log: list[Row]) -> Iterable[str]:
    expected = 1
    for row in log:
        if row.position != expected:
            yield f"{row.position} in place of {expected}"
        expected = _position(row) + 1


def _reread(seen: Observation, log: list[Row]) -> Iterable[str]:
    stored = [(_position(row), row.event_id) for row in log]
    if list(seen.read_again) != stored:
        differing = set(stored) ^ set(seen.read_again)
        yield f"{len(differing)} differ, the first at {min(differing, default='the order only')}"


def _counts(seen: Observation, log: list[Row]) -> Iterable[str]:
    counted = dict.fromkeys(seen.counters, 0)
    for row in log:
        if row.count is not None:
            counted[row.stream] += 1
            if row.count != counted[row.stream]:
                yield f"{row.stream}: {row.count} as number {counted[row.stream]} at {row.position}"
                counted[row.stream] = row.count
    for stream, value in seen.counters.items():
        if counted[stream] != value:
            yield f"{stream}: the counter stands at {value}, the last event says {counted[stream]}"


def _versions(log: list[Row]) -> Iterable[str]:
    newest: dict[str, int] = {}
    for row in log:
        if row.stream_version is not None:
            if row.stream_version != newest.get(row.stream, 0) + 1:
                yield f"{row.stream}: {row.stream_version} after {newest.get(row.stream, 0)} at {row.position}"
            newest[row.stream] = row.stream_version


def _writers_order(log: list[Row]) -> Iterable[str]:
    newest: dict[str, tuple[int, int]] = {}
    for row in log:
        writer, transaction, number = row.key.rsplit("/", 2)
        place = (int(transaction), int(number))
        if place <= newest.get(writer, (0, 0)):
            yield f"{row.key} at {row.position}"
        newest[writer] = max(place, newest.get(writer, (0, 0)))


def _real_time(seen: Observation, log: list[Row]) -> Iterable[str]:
    """If E1's COMMIT had returned before the insert of E2 began, on whatever connections, E1 comes first."""
    committed_at = {row.key: when for when, row in _commits(seen, log)}
    latest: Row | None = None
    for row in log:
        if latest is not None and row.key in committed_at and committed_at[row.key] < latest.at:
            yield f"{latest.key} at {latest.position}, {row.key} at {row.position}"
        if latest is None or row.at > latest.at:
            latest = row


def _delays(seen: Observation, longest: float) -> Iterable[str]:
    first: dict[str, float] = {}
    for reading in seen.readings:
        if reading.whole:
            for look in reading.looks:
                for _, event_id in look.entries:
                    first[event_id] = min(first.get(event_id, look.ended), look.ended)
    log = [row for row in seen.rows if row.position is not None]
    for committed_at, row in _commits(seen, log):
        if row.event_id in first and first[row.event_id] - committed_at > longest:
            yield f"{row.key} after {first[row.event_id] - committed_at:.1f} s"
