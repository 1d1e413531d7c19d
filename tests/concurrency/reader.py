"""A process that follows the log from offset 0 and notes every page it gets; killed, it goes on from its last note.

``python -m tests.concurrency.reader --name r1 --seed 7 --notes FILE --drain FILE [--types …] [--stream …]``; it ends when it
has reached the position that the drain file names.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.concurrency import process
from tests.concurrency.journal import Journal, read_lines

if TYPE_CHECKING:
    from django_eventstore import Page

LIMITS = (1, 7, 50, 100, 1000)
IDLE = 0.01


@dataclass(kw_only=True)
class Follower:
    """Reads page after page from its offset, and notes each. ``in_transaction``: as under ATOMIC_REQUESTS."""

    types: Sequence[str] = ()
    stream: str | None = None
    using: str = "default"
    in_transaction: bool = False
    offset: int = 0
    notes: list[dict[str, Any]] = field(default_factory=list)
    journal: Journal | None = None

    def read(self, limit: int = 100) -> Page:
        from django.db import transaction

        from django_eventstore import EventStore

        began = time.monotonic()
        with transaction.atomic(using=self.using) if self.in_transaction else nullcontext():
            page = EventStore(self.using).get(self.offset, limit, types=self.types, stream=self.stream)
        note = {
            "began": began,
            "ended": time.monotonic(),
            "next": page.next_offset,
            "head": page.head,
            "entries": [[entry.position, str(entry.event_id)] for entry in page.entries],
        }
        if self.journal is None:
            self.notes.append(note)
        else:
            self.journal.append(note)
        self.offset = page.next_offset
        return page


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--drain", type=Path, required=True)
    parser.add_argument("--types", nargs="*", default=())
    parser.add_argument("--stream")
    parser.add_argument("--in-transaction", action="store_true")
    arguments = parser.parse_args()
    process.begin()

    journal = Journal(arguments.notes)
    known = read_lines(arguments.notes)
    follower = Follower(
        types=arguments.types,
        stream=arguments.stream,
        in_transaction=arguments.in_transaction,
        offset=known[-1]["next"] if known else 0,
        journal=journal,
    )
    print("ready", flush=True)
    _follow(follower, arguments.drain, random.Random(f"{arguments.seed}/{arguments.name}/{len(known)}"))


def _follow(follower: Follower, drain: Path, choice: random.Random) -> None:
    while True:
        draining = drain.exists()  # looked at before the page, which then holds all that was committed by now
        page = follower.read(choice.choice(LIMITS))
        if draining and follower.offset >= int(drain.read_text()):
            return
        if not page.entries:
            time.sleep(IDLE)


if __name__ == "__main__":
    main()
