"""The body of a page: stored JSON text, put together and not parsed.

What is recorded is what is sent, byte for byte: numbers keep their digits and keys their order, and a page costs what copying
costs. The store has checked that payload and metadata are JSON, so that what surrounds them stays JSON too.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone

import msgspec
from django.utils.timezone import is_naive, make_aware

from ..models import EventEntry
from ..store import LogState, Page
from .parameters import PageParameters

__all__ = ["etag", "head_body", "page_body"]


def page_body(page: Page) -> bytes:
    """The page as JSON, with ``head`` only when it is complete. Whose data an event is, its subject, is not sent."""
    events = b",".join(map(_event, page.entries))
    head = b',"head":%d' % page.head if page.head is not None else b""
    return b'{"log":"%b","epoch":%d,"events":[%b],"next_offset":%d,"complete":%b%b}' % (
        str(page.log).encode(),
        page.epoch,
        events,
        page.next_offset,
        b"true" if page.complete else b"false",
        head,
    )


def head_body(state: LogState, *, complete: bool) -> bytes:
    """Where the log ends. ``complete``: every event that had committed before the request is below or at the head."""
    return msgspec.json.encode({"log": state.log, "epoch": state.epoch, "head": state.head, "complete": complete})


def etag(body: bytes, parameters: PageParameters | None = None) -> str:
    """A strong validator: of every byte that is sent, and of the range and the filters that were asked for.

    Taken from the body and not from the offsets, so that it also changes when erasure has changed an event of the page.
    """
    digest = hashlib.blake2b(repr(parameters).encode(), digest_size=16)
    digest.update(body)
    return f'"{digest.hexdigest()}"'


def _event(entry: EventEntry) -> bytes:
    return (
        b'{"position":%d,"event_id":"%b","type":%b,"version":%d,"content_type":%b,"stream":%b,"stream_version":%b,'
        b'"timestamp":"%b","correlation_id":%b,"causation_id":%b,"metadata":%b,"payload":%b}'
        % (
            entry.position or 0,  # entries of a page have one
            str(entry.event_id).encode(),
            _json(entry.type),
            entry.version,
            _json(entry.content_type),
            _json(entry.stream),
            _json(entry.stream_version),
            _instant(entry.timestamp),
            _json(entry.correlation_id),
            _json(entry.causation_id),
            entry.metadata.encode(),
            entry.payload.encode(),
        )
    )


def _json(value: str | int | None) -> bytes:
    return msgspec.json.encode(value)


def _instant(moment: datetime) -> bytes:
    """UTC with all six digits of the microsecond, so that the texts sort as the times do."""
    if is_naive(moment):  # USE_TZ = False
        moment = make_aware(moment)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
