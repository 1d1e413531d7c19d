"""Publishing as AMQP 0-9-1 puts it into frames. Ours, since py-amqp's own takes most of the time that an event costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import pack

from ...exceptions import PermanentError

__all__ = ["SHORT", "Message", "octets", "publish_frames"]

SHORT = 255
"""Octets of the longest short string: of names, keys and properties."""
_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_BASIC, _PUBLISH = 60, 40
_FRAMING = 8
"""Octets of a frame around its payload."""
_CONTENT_TYPE, _HEADERS, _DELIVERY_MODE = 1 << 15, 1 << 13, 1 << 12
_CORRELATION_ID, _MESSAGE_ID, _TIMESTAMP, _TYPE = 1 << 10, 1 << 7, 1 << 6, 1 << 5
_PERSISTENT = b"\x02"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A persistent message. Short strings are the caller's to keep short."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    message_id: str
    type: str
    timestamp: int
    correlation_id: str | None = None

    def properties(self) -> bytes:
        """Flags and values, in the order of the protocol."""
        flags = _CONTENT_TYPE | _DELIVERY_MODE | _MESSAGE_ID | _TIMESTAMP | _TYPE
        values = [_short(self.content_type)]
        if self.headers:
            flags |= _HEADERS
            values.append(_table(self.headers))
        values.append(_PERSISTENT)
        if self.correlation_id:
            flags |= _CORRELATION_ID
            values.append(_short(self.correlation_id))
        values += (_short(self.message_id), pack(">Q", self.timestamp), _short(self.type))
        return pack(">H", flags) + b"".join(values)


def publish_frames(
    message: Message, *, exchange: str, routing_key: str, mandatory: bool, channel: int, frame_max: int
) -> bytes:
    """The frames of one publish. Raises PermanentError when the headers do not fit into one frame."""
    body = message.body
    header = pack(">HHQ", _BASIC, 0, len(body)) + message.properties()
    room = frame_max - _FRAMING
    if len(header) > room:
        raise PermanentError(f"The headers of the message have {len(header)} octets, and a frame has room for {room}.")
    frames = [_method(exchange, routing_key, mandatory, channel), _frame(_HEADER, channel, header)]
    if len(body) <= room:
        if body:
            frames.append(_frame(_BODY, channel, body))
    else:
        frames += (_frame(_BODY, channel, body[start : start + room]) for start in range(0, len(body), room))
    return b"".join(frames)


def octets(text: str) -> int:
    """How long the text is on the wire."""
    return len(text) if text.isascii() else len(text.encode())


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return b"%b%b%b" % (pack(">BHI", kind, channel, len(payload)), payload, _END)


# Many events go the same way.
@lru_cache(maxsize=1024)
def _method(exchange: str, routing_key: str, mandatory: bool, channel: int) -> bytes:
    arguments = b"\x00\x00" + _short(exchange) + _short(routing_key) + (b"\x01" if mandatory else b"\x00")
    return _frame(_METHOD, channel, pack(">HH", _BASIC, _PUBLISH) + arguments)


def _short(text: str) -> bytes:
    value = text.encode()
    return bytes((len(value),)) + value


def _table(headers: Mapping[str, str]) -> bytes:
    fields = bytearray()
    for name, text in headers.items():
        value = text.encode()
        fields += _field(name)
        fields += len(value).to_bytes(4, "big")
        fields += value
    return len(fields).to_bytes(4, "big") + fields


# The names are the same for every event.
@lru_cache(maxsize=256)
def _field(name: str) -> bytes:
    """The name of a header, and that a long string follows."""
    return _short(name) + b"S"
