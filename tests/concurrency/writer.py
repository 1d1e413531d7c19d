"""A process that records events in transactions of every kind and keeps a journal of what became of each.

``python -m tests.concurrency.writer --name w1 --seed 7 --journal FILE --stop FILE``; it ends when the stop file is there.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.concurrency import process

STREAMS = tuple(f"plain-{number}" for number in range(6))
VERSIONED = tuple(f"versioned-{number}" for number in range(3))
LONGEST_PAUSE = 0.03


class RolledBack(Exception):
    """The writer's own decision."""


class Writer:
    """One transaction after the other; never two at once, so that its events are in order by their keys."""

    def __init__(self, *, name: str, seed: str, journal_path: Path) -> None:
        from tests.concurrency.journal import Journal

        self.name = name
        self.random = random.Random(f"{seed}/{name}")
        self.journal = Journal(journal_path)
        self.transactions = 0
        self._numbers = 0
        self._recorded: list[str] = []
        self._deeds: dict[Callable[[], None], int] = {
            self.record_a_few: 10,
            self.record_in_savepoints: 4,
            self.record_in_a_hundred_savepoints: 1,
            self.insert_by_hand: 4,
            self.record_in_bulk: 2,
            self.record_versions: 4,
            self.record_without_a_stream: 4,
        }

    def transact(self) -> None:
        """One transaction, committed or rolled back, with its lines in the journal."""
        from django.db import OperationalError, transaction

        from django_eventstore.exceptions import ConcurrencyError

        self.transactions += 1
        self._numbers, self._recorded = 0, []
        (deed,) = self.random.choices(list(self._deeds), weights=list(self._deeds.values()))
        try:
            with transaction.atomic():
                deed()
                self.pause()
                if self.random.random() < 0.12:
                    raise RolledBack
                self._note("committing", keys=self._recorded)
        except (RolledBack, ConcurrencyError):
            self._note("rolled back")
        except OperationalError as error:
            if not process.is_deadlock(error):
                raise
            self._note("rolled back")
        else:
            self._note("committed", at=time.monotonic())

    def record_a_few(self) -> None:
        # In one order, so that two writers do not wait for each other.
        for stream in sorted(self.random.sample(STREAMS, self.random.randint(1, 3))):
            self._record(self.random.randint(1, 3), stream)
            self.pause()

    def record_in_savepoints(self) -> None:
        from django.db import transaction

        for stream in sorted(self.random.sample(STREAMS, 3)):
            kept = len(self._recorded)
            try:
                with transaction.atomic():
                    self._record(self.random.randint(1, 2), stream)
                    if self.random.random() < 0.5:
                        raise RolledBack
            except RolledBack:
                del self._recorded[kept:]

    def record_in_a_hundred_savepoints(self) -> None:
        from django.db import transaction

        for _ in range(100):
            kept = len(self._recorded)
            try:
                with transaction.atomic():
                    self._record(1, "")
                    if self.random.random() < 0.5:
                        raise RolledBack
            except RolledBack:
                del self._recorded[kept:]

    def insert_by_hand(self) -> None:
        """What psql or another language would do: type, payload and stream, and nothing else."""
        from django.db import connection

        for stream in sorted(self.random.sample(STREAMS, 2)):
            mark = {"key": self._next_key(), "count": self._raise_counter(stream, 1), "at": time.monotonic()}
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO eventstore_entry (type, payload, stream) VALUES (%s, %s, %s)",
                    ["load.Alpha", json.dumps(mark), stream],
                )
            self._recorded.append(str(mark["key"]))

    def record_in_bulk(self) -> None:
        # More than one COPY takes at least.
        self._record(self.random.randint(60, 120), self.random.choice(STREAMS))

    def record_versions(self) -> None:
        from django.db.models import Max

        from django_eventstore import record
        from django_eventstore.models import StreamVersion

        stream = self.random.choice(VERSIONED)
        found = StreamVersion.objects.filter(stream=stream).aggregate(newest=Max("version"))["newest"]
        self.pause()
        marks = self._marks(self.random.randint(1, 3), None)
        record(*marks, stream=stream, expected_version=found or 0)

    def record_without_a_stream(self) -> None:
        self._record(self.random.randint(1, 3), "")

    def pause(self) -> None:
        time.sleep(self.random.uniform(0, LONGEST_PAUSE) if self.random.random() < 0.7 else 0)

    def _record(self, count: int, stream: str) -> None:
        from django_eventstore import record

        last = self._raise_counter(stream, count) if stream else None
        record(*self._marks(count, last), stream=stream or None)

    def _raise_counter(self, stream: str, count: int) -> int:
        """Lock the stream's row until the end of the transaction; the new value."""
        from tests.shop.models import Counter

        counter = Counter.objects.select_for_update().get(name=stream)
        counter.value += count
        counter.save(update_fields=["value"])
        return counter.value

    def _marks(self, count: int, last: int | None) -> list[object]:
        from tests.concurrency.events import KINDS, WEIGHTS

        marks: list[object] = []
        for number in range(count):
            key = self._next_key()
            (kind,) = self.random.choices(KINDS, weights=WEIGHTS)
            marks.append(kind(key=key, count=None if last is None else last - count + 1 + number, at=time.monotonic()))
            self._recorded.append(key)
        return marks

    def _next_key(self) -> str:
        self._numbers += 1
        return f"{self.name}/{self.transactions}/{self._numbers}"

    def _note(self, outcome: str, **facts: object) -> None:
        self.journal.append({"writer": self.name, "transaction": self.transactions, "outcome": outcome, **facts})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    arguments = parser.parse_args()
    process.begin()

    writer = Writer(name=arguments.name, seed=arguments.seed, journal_path=arguments.journal)
    print("ready", flush=True)
    while not arguments.stop.exists():
        writer.transact()


if __name__ == "__main__":
    main()
