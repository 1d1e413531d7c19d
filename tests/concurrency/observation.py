"""What is known after a run: what was committed, what the log holds, and what each reader was given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from django.db import connections

from django_eventstore import EventStore
from tests.concurrency.journal import read_lines
from tests.shop.models import Counter

Noted = tuple[int, str]
"""A position and the event id that a reader was given under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transaction of a writer. "unknown": it was killed between COMMIT and its note, so either may be true."""

    writer: str
    number: int
    outcome: Literal["committed", "unknown"]
    keys: tuple[str, ...]
    committed_at: float | None = None
    """When COMMIT had returned, by the machine's monotonic clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry as the tables hold it; ``position`` None: it is not in the log."""

    position: int | None
    event_id: str
    key: str
    type: str
    stream: str
    stream_version: int | None
    count: int | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One page of a reader. ``head`` None: the page was not complete."""

    began: float
    ended: float
    head: int | None
    entries: tuple[Noted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything a reader was given, in its order."""

    name: str
    looks: tuple[Look, ...]
    types: tuple[str, ...] = ()
    stream: str | None = None
    repeats: bool = False
    """Whether it may get an event again, as a forwarder's receiver may."""

    @property
    def noted(self) -> list[Noted]:
        return [pair for look in self.looks for pair in look.entries]

    @property
    def whole(self) -> bool:
        return not self.types and self.stream is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The facts that the checker judges."""

    rows: tuple[Row, ...]
    read_again: tuple[Noted, ...]
    """The log as one more reader saw it at the end, from offset 0."""
    counters: Mapping[str, int]
    transactions: tuple[Transaction, ...]
    readings: tuple[Reading, ...]
    stalls: tuple[str, ...] = field(default=())
    """What should have gone on and did not."""


def observe(
    using: str,
    *,
    transactions: Iterable[Transaction],
    readings: Iterable[Reading],
    stalls: Iterable[str] = (),
) -> Observation:
    """Bring the log up to date and take down what it holds."""
    read_again = tuple(_read_all(using))
    return Observation(
        rows=tuple(stored_rows(using)),
        read_again=read_again,
        counters=dict(Counter.objects.using(using).values_list("name", "value")),
        transactions=tuple(transactions),
        readings=tuple(readings),
        stalls=tuple(stalls),
    )


def _read_all(using: str) -> Iterable[Noted]:
    offset, complete = 0, False
    while not complete:
        page = EventStore(using).get(offset, 997)
        yield from ((entry.position or 0, str(entry.event_id)) for entry in page.entries)
        offset, complete = page.next_offset, page.complete


def stored_rows(using: str) -> Iterable[Row]:
    """Every entry, with its position if it has one, in the order of ids; nothing is brought up to date."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT p.position, e.event_id, e.type, e.stream, e.stream_version, e.payload FROM eventstore_entry e "
            "LEFT JOIN eventstore_position p ON p.entry_id = e.id ORDER BY e.id"
        )
        found = cursor.fetchall()
    for position, event_id, type_, stream, version, payload in found:
        mark = json.loads(payload)
        yield Row(
            position=position,
            event_id=_hyphenated(str(event_id)),
            key=mark["key"],
            type=type_,
            stream=stream,
            stream_version=version,
            count=mark["count"],
            at=mark["at"],
        )


def _hyphenated(text: str) -> str:
    h = text.replace("-", "")
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def transactions_of(journals: Iterable[Path]) -> list[Transaction]:
    """What the writers' journals say; a transaction that was rolled back is not among them."""
    found: list[Transaction] = []
    for path in journals:
        open_keys: dict[int, tuple[str, ...]] = {}
        for line in read_lines(path):
            number = line["transaction"]
            if line["outcome"] == "committing":
                open_keys[number] = tuple(line["keys"])
            elif line["outcome"] == "committed":
                found.append(_transaction(line, "committed", open_keys.pop(number), line["at"]))
            else:
                open_keys.pop(number, None)
        writer = path.stem
        found += [
            Transaction(writer=writer, number=number, outcome="unknown", keys=keys)
            for number, keys in open_keys.items()
        ]
    return found


def _transaction(
    line: Mapping[str, Any], outcome: Literal["committed"], keys: tuple[str, ...], at: float
) -> Transaction:
    return Transaction(writer=line["writer"], number=line["transaction"], outcome=outcome, keys=keys, committed_at=at)


def looks_of(notes: Sequence[Mapping[str, Any]]) -> tuple[Look, ...]:
    """The pages that a reader's or a forwarder's notes tell of."""
    return tuple(
        Look(
            began=note.get("began", note["ended"]),
            ended=note["ended"],
            head=note.get("head"),
            entries=tuple((position, event_id) for position, event_id in note["entries"]),
        )
        for note in notes
    )
