"""CloudEvents 1.0, the one shape in which events leave for the outside: attributes, and the JSON format of one and of many.

The stored JSON text is put into the place of the data as it is: numbers keep their digits and keys their order. Written by
hand, since an event is then a few strings put together; every output is read by the CloudEvents SDK in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import quote, urlsplit
from uuid import UUID

import msgspec

from ..exceptions import PermanentError
from .entry import DeliveredEntry
from .templates import EntryTemplate

__all__ = [
    "BATCH_MEDIA_TYPE",
    "DEFAULT_DATASCHEMA",
    "MEDIA_TYPE",
    "CloudEvents",
    "from_header",
    "sequence",
    "to_header",
    "trace_of",
]

MEDIA_TYPE = "application/cloudevents+json"
"""The media type of one event in the JSON format."""
BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"
"""The media type of several in one JSON array."""
DEFAULT_DATASCHEMA = "urn:schema:{type}:{version}"
"""Names the form of the data: the type and the version of its payload."""

_encode = msgspec.json.Encoder().encode
# What the type system of CloudEvents leaves out of a String: control characters, lone surrogates, noncharacters.
_FORBIDDEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef"
    + "".join(f"\\U{plane:04x}fffe\\U{plane:04x}ffff" for plane in range(17))
    + "]"
)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_JSON_TYPE = re.compile(r"[^/;\s]+/(?:[^;\s]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_URI_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
# Space, the double quote, the percent sign, and all but the visible characters of ASCII are to be encoded in headers.
_HEADER_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_HEADER_UNSAFE = re.compile(r"[^\x21\x23\x24\x26-\x7e]")


class _Trace(msgspec.Struct):
    """What metadata holds of a trace; None when it is not there, anything when it is not what it should be."""

    traceparent: object = None
    tracestate: object = None


_read_trace = msgspec.json.Decoder(_Trace).decode


def sequence(position: int) -> str:
    """A position as text that sorts as the positions do: 19 digits, as many as a 63-bit number can have."""
    return f"{position:019d}"


def to_header(value: str) -> str:
    """The value as HTTP and NATS take it in a header: percent-encoded by the rules of the CloudEvents bindings."""
    return quote(value, safe=_HEADER_SAFE) if _HEADER_UNSAFE.search(value) else value


def from_header(value: str) -> str:
    """The value that ``to_header`` was given. Raises ValueError when the octets are not UTF-8."""
    from_percent = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), value.encode())
    return from_percent.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvents:
    """Writes the entries of one log, in one epoch, as CloudEvents.

    ``source`` is a URI reference that names the log to receivers, by default ``urn:uuid:`` and its id; with the event's id it
    is what they deduplicate by, so it must not change. ``dataschema`` is a template of an absolute URI with the fields
    ``{type}`` and ``{version}``; empty: the attribute is left out. A bad one of either raises ValueError.

    An entry with a value that no attribute may hold (a control character in its stream) raises PermanentError.
    """

    log: UUID
    epoch: int
    source: str = ""
    dataschema: str = DEFAULT_DATASCHEMA
    _dataschema: EntryTemplate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        validate_source(self.source)
        object.__setattr__(self, "_dataschema", dataschema_template(self.dataschema))

    def attributes(self, entry: DeliveredEntry) -> dict[str, str | int]:
        """The context attributes of an entry by name, without those that have no value."""
        found: dict[str, str | int] = {
            "specversion": "1.0",
            "id": str(entry.event_id),
            "source": self.source or f"urn:uuid:{self.log}",
            "type": entry.type,
            "time": rfc3339(entry.timestamp),
            "datacontenttype": entry.content_type,
            "epoch": self.epoch,
        }
        if self.dataschema:
            found["dataschema"] = self._dataschema.fill(entry)
        if entry.position is not None:
            found["sequence"] = sequence(entry.position)
        if entry.stream:
            found["subject"] = found["partitionkey"] = entry.stream
        if entry.correlation_id:
            found["correlationid"] = entry.correlation_id
        if entry.causation_id:
            found["causationid"] = entry.causation_id
        found.update(trace_of(entry.metadata))
        _require_permitted(found, entry)
        return found

    def structured(self, entry: DeliveredEntry) -> bytes:
        """The event in the JSON format: media type ``MEDIA_TYPE``."""
        attributes = _encode(self.attributes(entry))
        payload = entry.payload.encode()
        # Data that is said not to be JSON is a string there.
        data = payload if _is_json(entry.content_type) else _encode(entry.payload)
        return b'%b,"data":%b}' % (attributes[:-1], data)

    def batch(self, entries: Iterable[DeliveredEntry]) -> bytes:
        """Events in the JSON batch format: media type ``BATCH_MEDIA_TYPE``."""
        return b"[%b]" % b",".join(map(self.structured, entries))


def validate_source(source: str) -> None:
    """Raise ValueError unless it is empty or a URI reference."""
    if not isinstance(source, str) or (source and not _URI_CHARACTERS.fullmatch(source)):
        raise ValueError(f"source must be a URI reference, like 'https://shop.example/orders', got {source!r}.")


def dataschema_template(text: str) -> EntryTemplate:
    """The template. Raises ValueError unless it is empty or makes an absolute URI of a type and a version."""
    template = EntryTemplate(text, option="dataschema", fields=("type", "version"))
    uri = text.format(type="orders.OrderPlaced", version=1)
    if text and not (urlsplit(uri).scheme and _URI_CHARACTERS.fullmatch(uri)):
        raise ValueError(
            f"dataschema must make an absolute URI, like 'https://shop.example/{{type}}/{{version}}', got {text!r}."
        )
    return template


def rfc3339(moment: datetime) -> str:
    """RFC 3339 in UTC, with all six digits of the microsecond. A naive one (USE_TZ = False) is local time."""
    # strftime() takes half as long again, and does not pad years on every platform.
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def trace_of(metadata: str) -> Mapping[str, str]:
    """``traceparent`` and ``tracestate`` in metadata. What is no trace is left out: it makes no event undeliverable."""
    if '"traceparent"' not in metadata:
        return {}
    try:
        trace = _read_trace(metadata)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return {}
    if not (isinstance(trace.traceparent, str) and _TRACEPARENT.fullmatch(trace.traceparent)):
        return {}
    if not (isinstance(trace.tracestate, str) and trace.tracestate):
        return {"traceparent": trace.traceparent}
    return {"traceparent": trace.traceparent, "tracestate": trace.tracestate}


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or _JSON_TYPE.fullmatch(content_type) is not None


def _require_permitted(attributes: Mapping[str, str | int], entry: DeliveredEntry) -> None:
    for name, value in attributes.items():
        if isinstance(value, str) and not (value.isascii() and value.isprintable()) and _FORBIDDEN.search(value):
            raise PermanentError(
                f"Event {entry.event_id} cannot be a CloudEvent: its {name} {value!r} has a character that none may hold."
            )
