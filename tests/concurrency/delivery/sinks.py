"""Where events go in these tests, and what of it is seen from outside.

The consumer ``effects`` is a handler that writes a row of the log's database for each event; the consumer ``outside`` is a
sender that appends a line to a file. Events are about a few streams, and each carries its number in its stream.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from django_eventstore import Batch, EventSender, Outcome
from tests.concurrency.journal import read_lines

NUMBERED = "load.Numbered"
LIMIT = 20
"""Entries per batch of the consumer ``outside``."""
PER_STREAM = 1_000_000


class Refused(Exception):
    """What the sinks say about a stream that is bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One event in the file. ``worker``: who wrote it."""

    stream: str
    number: int
    worker: str


def stream_name(number: int) -> str:
    return f"s-{number}"


FAR_APART = tuple(f"s-{number}" for number in range(0, 24 * 37, 37))
"""Streams with slots in every partition of a few, also by the simple sum of SQLite."""


def effect_of(stream: str, number: int) -> int:
    return int(stream.partition("-")[2]) * PER_STREAM + number


def bad_streams(path: Path) -> set[str]:
    """Those that the sinks refuse for now."""
    return set(path.read_text().split()) if path.exists() else set()


class FileSender(EventSender):
    """Appends a line per event, each by one write, and brings the batch to the disk."""

    def __init__(self, *, path: str, bad: str, worker: str) -> None:
        self.path, self.bad, self.worker = path, Path(bad), worker

    def send(self, batch: Batch) -> Outcome:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        refused: dict[int, BaseException] = {}
        bad = bad_streams(self.bad)
        for done, entry in enumerate(batch.entries):
            if not batch.still_held():
                return Outcome(done=done, refused=refused)
            if entry.stream in bad:
                refused[entry.position or 0] = Refused(entry.stream)
                continue
            line = {"stream": entry.stream, "number": json.loads(entry.payload)["n"], "worker": self.worker}
            os.write(file, json.dumps(line).encode() + b"\n")
            self.wrote_one()
        os.fsync(file)
        os.close(file)
        return Outcome(done=len(batch.entries), refused=refused)

    def wrote_one(self) -> None:
        """In the middle of a batch, perhaps."""


def lines_of(path: Path) -> list[Line]:
    return [Line(**line) for line in read_lines(path)]


def effects(using: str = "default") -> dict[str, list[int]]:
    """What the handler has done: the numbers of each stream, in the order of its writes."""
    from tests.shop.models import Refund

    done = defaultdict(list)
    for effect in Refund.objects.using(using).order_by("pk").values_list("order_id", flat=True):
        stream, number = divmod(effect, PER_STREAM)
        done[stream_name(stream)].append(number)
    return dict(done)
