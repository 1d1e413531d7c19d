"""Writers and followers of a deterministic play: each on a connection of its own, moved one step at a time."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction

from django_eventstore import Page, record
from tests.concurrency.events import Alpha, Mark
from tests.concurrency.observation import Observation, Reading, Transaction, looks_of, observe
from tests.concurrency.reader import Follower
from tests.shop.models import Counter

PATIENCE = 2.0
"""Seconds in which a follower must get a complete page, whatever else is open."""


@dataclass(kw_only=True)
class Actor:
    """A writer that is told each of its steps."""

    name: str
    using: str
    committed: list[Transaction] = field(default_factory=list)
    """Also those of which nobody knows."""
    _keys: list[str] = field(default_factory=list)
    _block: AbstractContextManager[Any] | None = None

    def begin(self) -> None:
        self._block = transaction.atomic(using=self.using)
        self._block.__enter__()

    def record(self, *, stream: str = "", kind: type[Mark] = Alpha, counted: bool = False) -> None:
        """One event. ``counted``: with the value of the stream's Counter row, whose lock is then held."""
        value = None
        if counted:
            counter, _ = Counter.objects.using(self.using).select_for_update().get_or_create(name=stream)
            counter.value += 1
            counter.save(using=self.using)
            value = counter.value
        key = f"{self.name}/{len(self.committed) + 1}/{len(self._keys) + 1}"
        record(kind(key=key, count=value, at=time.monotonic()), stream=stream or None, using=self.using)
        self._keys.append(key)

    def commit(self) -> None:
        assert self._block is not None
        self._block.__exit__(None, None, None)
        self._block = None
        self.committed.append(
            Transaction(
                writer=self.name,
                number=len(self.committed) + 1,
                outcome="committed",
                keys=tuple(self._keys),
                committed_at=time.monotonic(),
            )
        )
        self._keys = []

    def lose(self) -> None:
        """The server has gone, in the middle of a transaction perhaps: nobody knows what became of it."""
        if self._keys:
            number = len(self.committed) + 1
            self.committed.append(
                Transaction(writer=self.name, number=number, outcome="unknown", keys=tuple(self._keys))
            )
        self._block, self._keys = None, []

    def record_alone(self, **arguments: Any) -> None:
        """One event in a transaction of its own."""
        self.begin()
        self.record(**arguments)
        self.commit()

    def roll_back(self) -> None:
        if self._block is not None:
            transaction.set_rollback(True, using=self.using)
            self._block.__exit__(None, None, None)
            self._block, self._keys = None, []


@dataclass(kw_only=True)
class Stage:
    """One play on the database ``using``; `close` ends what is still open."""

    using: str = "default"
    actors: dict[str, Actor] = field(default_factory=dict)
    followers: dict[str, Follower] = field(default_factory=dict)
    stalls: list[str] = field(default_factory=list)
    _aliases: list[str] = field(default_factory=list)

    def actor(self, name: str) -> Actor:
        return self.actors.setdefault(name, Actor(name=name, using=self.connect(name)))

    def follower(self, name: str = "reader", **arguments: Any) -> Follower:
        """A reader at offset 0. On MariaDB its statements wait for locks no longer than a second."""
        follower = Follower(using=self.connect(name), **arguments)
        if connections[follower.using].vendor == "mysql":
            with connections[follower.using].cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
        return self.followers.setdefault(name, follower)

    def connect(self, name: str) -> str:
        """A further connection to the same database, under an alias that only this thread knows."""
        alias = f"stage-{name}"
        if alias not in self._aliases:
            connections[alias] = connections[self.using].copy(alias=alias)
            self._aliases.append(alias)
        return alias

    def read_all(self, name: str = "reader", *, limit: int = 100) -> list[Page]:
        """Read until a complete page. That none comes while others have transactions open is noted as a stall."""
        pages = [self.followers[name].read(limit)]
        end = time.monotonic() + PATIENCE
        while not pages[-1].complete:
            if time.monotonic() > end:
                self.stalls.append(f"{name} got no complete page after offset {self.followers[name].offset}")
                break
            pages.append(self.followers[name].read(limit))
        return pages

    def observe(self) -> Observation:
        """What the play came to, seen by one more reader."""
        readings = [
            Reading(name=name, looks=looks_of(f.notes), types=tuple(f.types), stream=f.stream)
            for name, f in self.followers.items()
        ]
        done = [transaction for actor in self.actors.values() for transaction in actor.committed]
        return observe(self.using, transactions=done, readings=readings, stalls=self.stalls)

    def disconnect(self) -> None:
        """Close every connection, because the server has gone; the next use opens a new one."""
        for alias in (*self._aliases, self.using):
            connections[alias].close()

    def close(self) -> None:
        for actor in self.actors.values():
            actor.roll_back()
        for alias in self._aliases:
            connections[alias].close()
            del connections[alias]
