"""NATSSender: options, and what a message is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

from ...delivery import Batch, DeliveredEntry, Outcome
from ...events.cloudevents import DEFAULT_DATASCHEMA, to_header
from ...events.templates import EntryTemplate
from ...events.wire import Shape, WireFormat
from ...exceptions import LeaseLost, PermanentError, Unavailable
from ..base import Capabilities, EventSender, ProcessLocal, Receipts, as_unavailable, require, require_positive
from .address import Address
from .link import Link, Ready
from .publication import Publication
from .repeats import names
from .subjects import escape, require_subject
from .verdicts import settle

__all__ = ["NATSSender"]

MEBIBYTE = 1024 * 1024
_HEADER_NAME = re.compile(r"[!-9;-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_STREAM_NAME = re.compile(r"[\s.*>/\\\x00-\x1f\x7f]")


class NATSSender(EventSender):
    """Publishes events to a stream of NATS JetStream.

    An event is accepted when the stream has acknowledged it: then the stream has it, on a majority of its replicas when there
    are several; see the guide for what that survives. The events of a batch are published without waiting for one another,
    but for those of the same stream, each of which is acknowledged before the next one leaves. What is sent again since an
    acknowledgement was lost is dropped by the stream, within its window for duplicates.

    ``stream`` is the name of the JetStream stream, which must exist; ``url`` is ``nats://`` or ``tls://``, several joined by
    ``;``. See the guide for the others.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(deduplicates=True)
    batch_size = 1_000

    def __init__(
        self,
        *,
        stream: str,
        url: str,
        subject: str = "{type}",
        tls: Mapping[str, object] | None = None,
        format: Shape = "binary",
        source: str = "",
        dataschema: str = DEFAULT_DATASCHEMA,
        headers: Mapping[str, str] | None = None,
        max_in_flight: int = 1_000,
        max_bytes: int = 16 * MEBIBYTE,
        timeout: timedelta = timedelta(seconds=30),
        connect_timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        require(
            isinstance(stream, str) and bool(stream) and not _NO_STREAM_NAME.search(stream),
            f"stream must be the name of a stream, without dots, spaces, wildcards and slashes, got {stream!r}.",
        )
        self.stream = stream
        self.subject = EntryTemplate(subject, option="subject", escape=escape)
        _require_possible(subject)
        self.address = Address(url, dict(tls or {}))
        self.format = WireFormat(shape=format, source=source, dataschema=dataschema, encode=to_header)
        self.headers = dict(headers or {})
        for name, value in self.headers.items():
            _require_header(name, value)
        require(max_in_flight > 0, f"max_in_flight must be positive, got {max_in_flight!r}.")
        require(max_bytes > 0, f"max_bytes must be positive, got {max_bytes!r}.")
        require_positive(timeout=timeout, connect_timeout=connect_timeout)
        self.max_in_flight, self.max_bytes = max_in_flight, max_bytes
        self.timeout, self.connect_timeout = timeout, connect_timeout
        self._link = ProcessLocal(
            lambda: Link(self.address, connect=connect_timeout), close=Link.close, usable=Link.is_usable
        )
        self._careful = False

    def send(self, batch: Batch) -> Outcome:
        if not batch.still_held():
            return Outcome(done=0)
        receipts = Receipts(batch.entries)
        trouble: Unavailable | None = None
        try:
            with self._link.use() as link:
                try:
                    self._send(link, batch, receipts)
                except BaseException:
                    link.distrust()
                    raise
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - nats-py, asyncio and sockets each have errors of their own
            trouble = as_unavailable(error, receiver="NATS")
        self._careful = trouble is not None
        return receipts.outcome(trouble)

    def close(self) -> None:
        self._link.close()

    def _send(self, link: Link, batch: Batch, receipts: Receipts) -> None:
        write = self.format.writer(log=batch.log, epoch=batch.epoch)
        name = names(batch)
        subjects = [""] * len(batch.entries)

        def make(number: int, entry: DeliveredEntry) -> Ready:
            subject = subjects[number] = self.subject.fill(entry)
            require_subject(subject)
            wire = write(entry)
            headers = {
                **self.headers,
                **wire.headers,
                "Content-Type": to_header(wire.content_type),
                "Nats-Expected-Stream": self.stream,
            }
            message_id = name(entry)
            if message_id is not None:
                headers["Nats-Msg-Id"] = message_id
            _require_size("message", len(wire.body), self.max_bytes, "max_bytes")
            _require_size(
                "message with its headers", len(wire.body) + _octets(headers), link.largest, "the server's limit"
            )
            return Ready(number, entry.stream, subject, headers, wire.body)

        publication = Publication(
            link=link,
            batch=batch,
            receipts=receipts,
            stream=self.stream,
            make=make,
            max_in_flight=self.max_in_flight,
            silence=self.timeout,
            careful=self._careful,
        )
        settle(publication.run(), receipts, subjects, link, longest=self.timeout)


def _octets(headers: Mapping[str, str]) -> int:
    """How many bytes the block of headers has."""
    texts = "".join(headers) + "".join(headers.values())
    return len("NATS/1.0\r\n") + len(texts.encode()) + len(headers) * len(": \r\n") + len("\r\n")


def _require_size(what: str, size: int, most: int, limit: str) -> None:
    if size > most:
        raise PermanentError(f"The {what} has {size} bytes, and {limit} is {most}.")


def _require_possible(subject: str) -> None:
    """Raise ValueError unless the template can make a subject."""
    try:
        require_subject(subject.format(type="type", stream="stream", version="1"))
    except PermanentError as error:
        raise ValueError(f"subject must make a subject to publish to, got {subject!r}: {error}") from error


def _require_header(name: object, value: object) -> None:
    right = isinstance(name, str) and _HEADER_NAME.fullmatch(name) and not name.lower().startswith("nats-")
    require(bool(right), f"headers must have names of visible ASCII that do not begin with 'Nats-', got {name!r}.")
    right = isinstance(value, str) and not _CONTROL.search(value)
    require(bool(right), f"headers must have texts of one line, got {value!r} for {name!r}.")
