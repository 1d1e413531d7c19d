"""Entries as a test looks at them: a list that can be asked for a type, and what was recorded since a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import overload

from django.db import router

from ..consumers import OffsetStore, declared_consumers
from ..events import registry, selects, validate_pattern
from ..models import EventEntry

__all__ = ["CapturedEvents", "EntryList", "captured_events", "last_id", "log_alias", "type_pattern"]


def log_alias(using: str | None) -> str:
    """The alias of the log that a test means: the named one, else the one record() writes to."""
    return using or router.db_for_write(EventEntry)


def type_pattern(event: object) -> str:
    """The type name of an event class, or a name or prefix as it is.

    Raises TypeError for a class that is no event, ValueError for a text that selects no type.
    """
    if isinstance(event, str):
        validate_pattern(event)
        return event
    definition = registry.by_class(event) if isinstance(event, type) else None
    if definition is None:
        raise TypeError(f"{event!r} is not an event class: declare it with @event(...), or name the type.")
    return definition.type


class EntryList(list[EventEntry]):
    """Entries in order."""

    def of(self, event: type[object] | str) -> EntryList:
        """Those of an event class, or of a type name or a prefix such as ``orders.*``."""
        pattern = type_pattern(event)
        return EntryList(entry for entry in self if selects((pattern,), entry.type))

    @property
    def types(self) -> list[str]:
        """The type name of each."""
        return [entry.type for entry in self]


class CapturedEvents(Sequence[EventEntry]):
    """What the log holds since a moment, in the order of recording; what was rolled back is not in the log.

    Until its block has ended it looks into the log each time, with one query; afterwards it stays as it was then.
    """

    def __init__(self, *, using: str, after: int) -> None:
        self.using = using
        self._after = after
        self._final: EntryList | None = None

    @classmethod
    def since_now(cls, using: str | None = None) -> CapturedEvents:
        """What the log holds since now, without an end, for a test that begins.

        Also fixes where consumers start, as migrate and record() do, so that they miss nothing that reaches the log by
        another way than record().
        """
        alias = log_alias(using)
        OffsetStore(alias).register(declared_consumers().values())
        return cls(using=alias, after=last_id(alias))

    @property
    def entries(self) -> EntryList:
        """All of them."""
        if self._final is not None:
            return self._final
        # By id: what is not committed yet has no position.
        return EntryList(EventEntry.objects.using(self.using).filter(id__gt=self._after).order_by("id"))

    def of(self, event: type[object] | str) -> EntryList:
        """Those of an event class, or of a type name or a prefix such as ``orders.*``."""
        return self.entries.of(event)

    @property
    def types(self) -> list[str]:
        """The type name of each."""
        return self.entries.types

    def finish(self) -> None:
        """Take in no more events from now on."""
        self._final = self.entries

    @overload
    def __getitem__(self, index: int) -> EventEntry: ...

    @overload
    def __getitem__(self, index: slice) -> list[EventEntry]: ...

    def __getitem__(self, index: int | slice) -> EventEntry | list[EventEntry]:
        return self.entries[index]

    def __iter__(self) -> Iterator[EventEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<captured events: {', '.join(self.types) or 'none'}>"


@contextmanager
def captured_events(*, using: str | None = None) -> Iterator[CapturedEvents]:
    """What is recorded inside the block, by record(), by EventStore.save() or by raw SQL, committed or not yet.

    A sequence of EventEntry, with ``of(type)``. What is rolled back inside the block is not in it. ``using``: the database
    alias; by default that of record().
    """
    alias = log_alias(using)
    captured = CapturedEvents(using=alias, after=last_id(alias))
    yield captured
    captured.finish()


def last_id(using: str) -> int:
    """The id of the newest entry, committed or of this transaction; 0 when there is none."""
    last = EventEntry.objects.using(using).order_by("-id").values_list("id", flat=True).first()
    return last or 0
