"""What the tests of this room are made of: events about a few streams, workers, and time that passes when it is told to."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connections, models, transaction

from django_eventstore import record
from django_eventstore.consumers import Consumer, set_partitions
from django_eventstore.models import ConsumerState, FailedDelivery, Lease
from django_eventstore.models.fields import DatabaseNow
from tests.concurrency.delivery.nursery import Nursery, Worker
from tests.concurrency.delivery.outcome import Violation, effect_violations, file_violations
from tests.concurrency.delivery.sinks import NUMBERED, effects, lines_of, stream_name

STREAMS = 4
PATIENCE = 20.0


@dataclass(kw_only=True)
class Play:
    """One log with its workers. Nothing in it waits for a lease or a retry to run out: `pass_time` makes them."""

    nursery: Nursery
    directory: Path
    using: str = "default"
    recorded: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, *streams: str, rounds: int = 1, chosen: Iterable[str] = ()) -> None:
        """One event about each stream, by default about all, in a transaction for each round."""
        names = streams or tuple(chosen) or tuple(map(stream_name, range(STREAMS)))
        for _ in range(rounds):
            with self._lock, transaction.atomic(using=self.using):
                for name in names:
                    record(NUMBERED, {"n": self.recorded[name]}, stream=name, using=self.using)
                self.recorded.update(names)

    def make_bad(self, *streams: str) -> None:
        """From now on the sinks refuse these, and no others."""
        (self.directory / "bad").write_text(" ".join(streams))

    def fork(self, **options: Any) -> Worker:
        return self.nursery.fork(directory=str(self.directory), **options)

    def run(self, **options: Any) -> None:
        """A worker from its beginning to its end."""
        self.fork(**options).wait()

    def pass_time(self) -> None:
        """Every lease and every wait is over."""
        past = DatabaseNow() - timedelta(seconds=1)
        waits = models.Q(retry_at__isnull=False)
        skip_locked = connections[self.using].features.has_select_for_update_skip_locked
        for model, rows, change in (
            (Lease, models.Q(), {"expires_at": past}),
            (FailedDelivery, waits, {"retry_at": past}),
            (ConsumerState, waits, {"retry_at": past}),
        ):
            # What a frozen worker has locked is not waited for: it is not to be had before its lease is over.
            with transaction.atomic(using=self.using):
                free = model._default_manager.using(self.using).filter(rows).select_for_update(skip_locked=skip_locked)
                model._default_manager.using(self.using).filter(pk__in=[row.pk for row in free]).update(**change)

    def divide(self, count: int, consumer: str = "outside") -> None:
        """Another number of partitions."""
        wanted = Consumer(name=consumer, events=(NUMBERED,), sender="", start="beginning")
        set_partitions(wanted, count, using=self.using)

    def is_done(self, consumers: Iterable[str] = ("effects", "outside")) -> bool:
        """Whether every event has arrived, as far as the sinks know, and nothing is put aside."""
        wanted = self.recorded.total()
        done = {
            "effects": lambda: sum(map(len, effects(self.using).values())),
            "outside": lambda: len({(line.stream, line.number) for line in lines_of(self.file)}),
        }
        return (
            all(done[name]() >= wanted for name in consumers) and not FailedDelivery.objects.using(self.using).exists()
        )

    def drain(self, **options: Any) -> None:
        """Let workers do what is left, one after the other, with nothing in their way."""
        self.make_bad()
        for _ in range(8):
            self.pass_time()
            self.run(**options)
            if self.is_done(options.get("consumers", ("effects", "outside"))):
                return

    @property
    def file(self) -> Path:
        return self.directory / "sink"

    def violations(
        self, *, consumers: Iterable[str] = ("effects", "outside"), repeats: int | None = None
    ) -> list[Violation]:
        found: list[Violation] = []
        if "effects" in consumers:
            found += effect_violations(self.recorded, using=self.using)
        if "outside" in consumers:
            found += file_violations(self.recorded, self.file, repeats=repeats)
        return found

    @contextmanager
    def load(self, *, pause: float = 0.005, streams: int = STREAMS) -> Iterator[None]:
        """Somebody records all the while."""
        stop, errors = threading.Event(), []
        names = tuple(map(stream_name, range(streams)))

        def write() -> None:
            try:
                while not stop.is_set():
                    self.record(*names)
                    time.sleep(pause)
            except Exception as error:
                errors.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert [] == errors


def until(condition: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    for _ in itertools.count():
        if condition():
            return
        assert time.monotonic() < end, f"not within {patience:g} s: {what}"
        time.sleep(0.02)
