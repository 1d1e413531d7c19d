"""The shapes that senders choose from: CloudEvents in binary or structured mode, and plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from uuid import UUID

import msgspec

from .cloudevents import (
    BATCH_MEDIA_TYPE,
    DEFAULT_DATASCHEMA,
    MEDIA_TYPE,
    CloudEvents,
    dataschema_template,
    rfc3339,
    validate_source,
)
from .entry import DeliveredEntry

__all__ = ["Shape", "WireEvent", "WireFormat"]

Shape = Literal["binary", "structured", "json"]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class WireEvent:
    """An event as it leaves: the media type of the body, header fields by name, and the body."""

    content_type: str
    headers: Mapping[str, str]
    body: bytes


def _as_it_is(value: str) -> str:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    """How a sender writes events, by its options.

    ``shape``: ``"binary"`` puts the payload into the body and the CloudEvents attributes into headers, ``"structured"`` both
    into one JSON document, and ``"json"`` writes what the HTTP API shows of an event. ``source`` and ``dataschema``: see
    CloudEvents. ``prefix`` and ``encode`` are the binding's: how a header is named, and how its value is encoded (HTTP and
    NATS: ``to_header``). A bad option raises ValueError.
    """

    shape: Shape = "binary"
    source: str = ""
    dataschema: str = DEFAULT_DATASCHEMA
    prefix: str = "ce-"
    encode: Callable[[str], str] = _as_it_is

    def __post_init__(self) -> None:
        if self.shape not in get_args(Shape):
            raise ValueError(f"format must be one of {', '.join(map(repr, get_args(Shape)))}, got {self.shape!r}.")
        validate_source(self.source)
        dataschema_template(self.dataschema)

    def writer(self, *, log: UUID, epoch: int) -> Callable[[DeliveredEntry], WireEvent]:
        """What writes entries of this log and epoch. For an entry that cannot be written it raises PermanentError."""
        events = self._events(log, epoch)
        if self.shape == "binary":
            return lambda entry: self._binary(events, entry)
        if self.shape == "structured":
            return lambda entry: WireEvent(MEDIA_TYPE, {}, events.structured(entry))
        return lambda entry: WireEvent("application/json", {}, plain_json(entry, log=log, epoch=epoch))

    def write_batch(self, entries: Iterable[DeliveredEntry], *, log: UUID, epoch: int) -> WireEvent:
        """Several events in one body: a CloudEvents batch, or a JSON array. Binary mode has no batch: it is structured."""
        if self.shape == "json":
            return WireEvent(
                "application/json",
                {},
                b"[%b]" % b",".join(plain_json(entry, log=log, epoch=epoch) for entry in entries),
            )
        return WireEvent(BATCH_MEDIA_TYPE, {}, self._events(log, epoch).batch(entries))

    def _events(self, log: UUID, epoch: int) -> CloudEvents:
        return CloudEvents(log=log, epoch=epoch, source=self.source, dataschema=self.dataschema)

    def _binary(self, events: CloudEvents, entry: DeliveredEntry) -> WireEvent:
        attributes = events.attributes(entry)
        content_type = str(attributes.pop("datacontenttype"))
        prefix, encode = self.prefix, self.encode
        headers = {prefix + name: encode(str(value)) for name, value in attributes.items()}
        return WireEvent(content_type, headers, entry.payload.encode())


def plain_json(entry: DeliveredEntry, *, log: UUID, epoch: int) -> bytes:
    """The event as the HTTP API shows it, with the log and the epoch that its position belongs to.

    Payload and metadata are put in as they are stored. Whose data it is, its subject, is left out.
    """
    about = {
        "log": log,
        "epoch": epoch,
        "position": entry.position,
        "event_id": entry.event_id,
        "type": entry.type,
        "version": entry.version,
        "content_type": entry.content_type,
        "stream": entry.stream,
        "stream_version": entry.stream_version,
        "timestamp": rfc3339(entry.timestamp),
        "correlation_id": entry.correlation_id,
        "causation_id": entry.causation_id,
    }
    return b'%b,"metadata":%b,"payload":%b}' % (_encode(about)[:-1], entry.metadata.encode(), entry.payload.encode())
