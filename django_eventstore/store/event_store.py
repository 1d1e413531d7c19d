"""EventStore: save and get. Nothing else changes the log, save retention and erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import IntegrityError, connections, models, router, transaction
from django.utils import timezone

from ..conf import get_settings
from ..events import encode, encode_mapping, encode_metadata, is_type_name, registry, validate_pattern
from ..exceptions import ConcurrencyError, EventEncodingError, EventIdConflict
from ..models import EventEntry, EventKey
from ..models.entries import MAX_CORRELATION, MAX_STREAM, MAX_SUBJECT
from .appending import append
from .event_ids import uuid7_bytes
from .new_entries import NewEntries, Row
from .pages import LogReader, Page
from .streams import claim_versions, stream_name

__all__ = ["EventStore"]

LARGEST = 2**63 - 1
MOST_ENTRIES = 100_000


class EventStore:
    """The log on one database: ``save`` appends in the caller's transaction, ``get`` reads by position.

    ``using``: the database alias; by default where the router writes EventEntry.
    """

    def __init__(self, using: str | None = None) -> None:
        self.using = using or router.db_for_write(EventEntry)

    def save(
        self,
        *events: object,
        stream: models.Model | str | None = None,
        expected_version: int | None = None,
        metadata: Mapping[str, object] | None = None,
        event_id: UUID | None = None,
        subject: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> Sequence[EventEntry]:
        """Append events and return their entries, which have no position yet.

        record() does this and more: it runs handlers, adds the context, and wakes the consumers. The arguments and the
        errors are the same; see record(). ``correlation_id`` and ``causation_id``, which record() takes from the context,
        have at most 100 characters.
        """
        if event_id is not None and (known := self.recorded(event_id)):
            self._require_same(known, events, stream)
            return [known]
        entries = self.prepare(
            *events,
            stream=stream,
            metadata=metadata,
            event_id=event_id,
            subject=subject,
            correlation_id=correlation_id,
            causation_id=causation_id,
        )
        return self.append(entries, expected_version=expected_version, once=event_id is not None)

    async def asave(self, *events: object, **arguments: Any) -> Sequence[EventEntry]:
        """See save()."""
        return await sync_to_async(self.save)(*events, **arguments)

    def get(
        self,
        offset: int = 0,
        limit: int = 100,
        *,
        types: Sequence[str] = (),
        stream: str | None = None,
        slots: range | None = None,
        epoch: int | None = None,
    ) -> Page:
        """The entries after ``offset``, at most ``limit``, in order.

        First brings the log up to date, in a transaction of its own. Inside an open transaction, on a standby or in a
        read-only session it reads what is in the log, and the page is never complete.

        ``types``: type names, or prefixes such as ``orders.*``. ``slots``: those of a partition, within 0 to 63. ``epoch``:
        the epoch the offset was read in; raises EpochChanged when the offset is not in the history of the log any more, or
        lies above its head.
        """
        _require_integer("offset", offset, 0, LARGEST)
        _require_integer("limit", limit, 1, MOST_ENTRIES)
        for pattern in types:
            validate_pattern(pattern)
        if stream is not None and not _is_storable(stream):
            raise ValueError(f"No stream can be named {stream!r}.")
        return self._log.page(self._log.extent(), offset, limit, types=types, stream=stream, slots=slots, epoch=epoch)

    @cached_property
    def _log(self) -> LogReader:
        return LogReader(self.using)

    async def aget(self, offset: int = 0, limit: int = 100, **arguments: Any) -> Page:
        """See get()."""
        return await sync_to_async(self.get)(offset, limit, **arguments)

    def prepare(
        self,
        *events: object,
        stream: models.Model | str | None = None,
        streams: Sequence[str] = (),
        metadata: Mapping[str, object] | None = None,
        event_id: UUID | None = None,
        subject: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> NewEntries:
        """Entries for the events, checked and not stored yet. ``streams``: one per event, in place of ``stream``."""
        kinds = _kinds(events)
        if event_id is not None and len(kinds) != 1:
            raise ValueError("event_id names one event; record them one by one.")
        largest = get_settings().MAX_PAYLOAD_BYTES
        names = streams or [stream_name(stream)] * len(kinds)
        now = timezone.now()
        first = kinds[0].type
        meta = encode_metadata(metadata, type=first, max_bytes=largest)
        for name in set(names):
            _require_text(name, field="stream", most=MAX_STREAM, type=first)
        if subject is not None:
            _require_text(subject, field="subject", most=MAX_SUBJECT, type=first)
        if correlation_id is not None:
            _require_text(correlation_id, field="correlation_id", most=MAX_CORRELATION, type=first)
        if causation_id is not None:
            _require_text(causation_id, field="causation_id", most=MAX_CORRELATION, type=first)
        ids = [event_id.bytes] if event_id is not None else uuid7_bytes(len(kinds))
        return NewEntries(
            [
                Row(
                    id_,
                    kind.type,
                    kind.version,
                    "application/json",
                    payload,
                    name,
                    None,
                    meta,
                    now,
                    correlation_id,
                    causation_id,
                    subject,
                )
                for id_, kind, payload, name in zip(
                    ids, kinds, _payloads(events, max_bytes=largest), names, strict=True
                )
            ]
        )

    def append(
        self, entries: NewEntries, *, expected_version: int | None = None, once: bool = False
    ) -> Sequence[EventEntry]:
        """Insert prepared entries. ``once``: their ids were supplied by the caller and may be known already."""
        if not connections[self.using].in_atomic_block:
            with transaction.atomic(using=self.using):
                return self.append(entries, expected_version=expected_version, once=once)
        if expected_version is not None:
            _require_integer("expected_version", expected_version, 0, LARGEST - len(entries))
            if not entries.rows[0].stream:
                raise ValueError("expected_version is the version of a stream: name the stream.")
        if once:
            return [self._append_once(entries, expected_version)]
        self._insert(entries, expected_version)
        return entries

    def recorded(self, event_id: UUID) -> EventEntry | None:
        """The entry that was recorded with this supplied ``event_id``, if there is one."""
        found = EventKey.objects.using(self.using).filter(pk=event_id).values("entry_id")
        entry: EventEntry | None = EventEntry.objects.using(self.using).filter(id__in=found).first()
        return entry

    def _insert(self, entries: NewEntries, expected_version: int | None) -> None:
        if expected_version is not None:
            stream = entries.rows[0].stream
            claim_versions(stream=stream, expected=expected_version, count=len(entries), using=self.using)
            entries.number_versions(expected_version + 1)
        append(entries, using=self.using)

    def _append_once(self, entries: NewEntries, expected_version: int | None) -> EventEntry:
        new = entries.rows[0]
        event_id = UUID(bytes=new.event_id)
        try:
            # The savepoint takes the entry back when somebody else recorded the same id meanwhile.
            with transaction.atomic(using=self.using):
                self._insert(entries, expected_version)
                EventKey.objects.using(self.using).create(event_id=event_id, entry_id=entries[0].id)
        except (ConcurrencyError, IntegrityError):
            known = self.recorded(event_id)
            if known is None:
                raise
            if (registry.present_type(known.type), known.stream) != (new.type, new.stream):
                raise EventIdConflict(event_id=known.event_id, type=known.type, stream=known.stream) from None
            return known
        return entries[0]

    def _require_same(self, known: EventEntry, events: tuple[object, ...], stream: models.Model | str | None) -> None:
        kinds = _kinds(events)
        if len(kinds) != 1:
            raise ValueError("event_id names one event; record them one by one.")
        if kinds[0].type != registry.present_type(known.type) or stream_name(stream) != known.stream:
            raise EventIdConflict(event_id=known.event_id, type=known.type, stream=known.stream)


class _Kind(NamedTuple):
    type: str
    version: int


def _kinds(events: tuple[object, ...]) -> list[_Kind]:
    """Type and version of each event, one object for all events of a class."""
    if not events:
        raise ValueError("There is no event to record.")
    if isinstance(events[0], str):
        if len(events) != 2 or not isinstance(events[1], Mapping):
            raise TypeError('An event without a class is recorded as record("app.TypeName", {...}), one at a time.')
        if not is_type_name(events[0]):
            raise EventEncodingError(
                type=events[0],
                field="",
                reason='a type name has at least two parts joined by dots, as in "orders.OrderPlaced"',
            )
        definition = registry.by_type(events[0])
        return [_Kind(definition.type, definition.version) if definition else _Kind(events[0], 1)]
    kinds = {cls: _kind_of(cls) for cls in dict.fromkeys(map(type, events))}
    return [kinds[type(event)] for event in events]


def _kind_of(cls: type) -> _Kind:
    definition = registry.by_class(cls)
    if definition is None:
        raise TypeError(
            f"{cls.__qualname__} is not an event: declare it with @event(...) above @dataclass(frozen=True), "
            'or record it as record("app.TypeName", {...}).'
        )
    return _Kind(definition.type, definition.version)


def _payloads(events: tuple[object, ...], *, max_bytes: int) -> list[str]:
    if isinstance(events[0], str):
        return [encode_mapping(events[0], cast(Mapping[str, object], events[1]), max_bytes=max_bytes)]
    return [encode(event, max_bytes=max_bytes) for event in events]


def _require_integer(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} must be an integer from {least} to {most}, got {value!r}.")


def _is_storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _require_text(value: str, *, field: str, most: int, type: str) -> None:
    if len(value) > most:
        raise EventEncodingError(type=type, field=field, reason=f"{len(value)} characters are more than {most}")
    if not _is_storable(value):
        raise EventEncodingError(type=type, field=field, reason="NUL characters and lone surrogates cannot be stored")
