"""RedisStreamSender: options, and what an entry of a stream is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from ...delivery import Batch, Outcome
from ...events.cloudevents import DEFAULT_DATASCHEMA
from ...events.templates import EntryTemplate
from ...events.wire import Shape, WireEvent, WireFormat
from ...exceptions import LeaseLost, PermanentError
from ..base import EventSender, ProcessLocal, Receipts, as_unavailable, position_of, require, require_positive
from .address import Address
from .link import Addition, Link

__all__ = ["RedisStreamSender"]

MEBIBYTE = 1024 * 1024
CHUNK_BYTES = 4 * MEBIBYTE
"""Bodies of one transaction, which the server keeps until its end; a larger one goes alone."""


class RedisStreamSender(EventSender):
    """Appends events to streams of Redis, by XADD.

    An event is accepted when Redis has answered: then it is in the server's memory, and in its append-only file as
    ``appendfsync`` says; with ``replicas`` in the memory of so many replicas too. Some hundred events go in one transaction,
    of which all are appended or none. The server gives out the ids, so that no event is taken for a repeat of another; the
    position is a field.

    ``key`` is that of the stream, which is made when it is not there; ``url`` is ``redis://``, ``rediss://`` or ``unix://``.
    See the guide for the others.
    """

    batch_size = 1_000

    def __init__(
        self,
        *,
        key: str,
        url: str,
        cluster: bool = False,
        tls: Mapping[str, object] | None = None,
        maxlen: int | None = None,
        approximate: bool = True,
        replicas: int = 0,
        format: Shape = "binary",
        source: str = "",
        dataschema: str = DEFAULT_DATASCHEMA,
        headers: Mapping[str, str] | None = None,
        max_in_flight: int = 500,
        max_bytes: int = 16 * MEBIBYTE,
        timeout: timedelta = timedelta(seconds=30),
        connect_timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        require(bool(key), "key must be the key of a stream, or a template of it.")
        self.key = EntryTemplate(key, option="key")
        self.format = WireFormat(shape=format, source=source, dataschema=dataschema)
        self.headers = dict(headers or {})
        for name, value in self.headers.items():
            texts = isinstance(name, str) and bool(name) and isinstance(value, str)
            require(texts, f"headers must be texts by name, got {value!r} for {name!r}.")
        require(maxlen is None or maxlen > 0, f"maxlen must be positive, got {maxlen!r}.")
        require(replicas >= 0, f"replicas must not be negative, got {replicas!r}.")
        require(max_in_flight > 0, f"max_in_flight must be positive, got {max_in_flight!r}.")
        require(max_bytes > 0, f"max_bytes must be positive, got {max_bytes!r}.")
        require_positive(timeout=timeout, connect_timeout=connect_timeout)
        self.address = Address(url=url, cluster=cluster, tls=dict(tls or {}), connect=connect_timeout, silence=timeout)
        self.max_in_flight, self.max_bytes = max_in_flight, max_bytes
        trim = () if maxlen is None else ("MAXLEN", "~" if approximate else "=", str(maxlen))
        self._link = ProcessLocal(
            lambda: Link(self.address, trim=trim, replicas=replicas), close=Link.close, usable=Link.is_usable
        )
        self._careful = False

    def send(self, batch: Batch) -> Outcome:
        if not batch.still_held():
            return Outcome(done=0)
        receipts = Receipts(batch.entries)
        try:
            with self._link.use() as link:
                for chunk in self._chunks(batch, receipts):
                    link.append(chunk, receipts.accept)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - redis-py and sockets each have errors of their own
            self._careful = True
            return receipts.outcome(as_unavailable(error, receiver="Redis"))
        self._careful = False
        return receipts.outcome()

    def close(self) -> None:
        self._link.close()

    def _chunks(self, batch: Batch, receipts: Receipts) -> Iterator[list[Addition]]:
        """What goes in one transaction each, as long as the lease is held. After a trouble the first event goes alone.

        It ends before an entry whose stream has a refused one before it: the consumer knows what becomes of that stream.
        """
        write = self.format.writer(log=batch.log, epoch=batch.epoch)
        chunk: list[Addition] = []
        stopped: set[str] = set()
        size, most = 0, 1 if self._careful else self.max_in_flight
        for number, entry in enumerate(batch.entries):
            if entry.stream in stopped:
                break
            try:
                wire = write(entry)
                key = self.key.fill(entry)
                self._require_possible(key, wire.body)
            except PermanentError as error:
                receipts.refuse(number, error)
                stopped |= {entry.stream} - {""}
                continue
            if chunk and (len(chunk) >= most or size + len(wire.body) > CHUNK_BYTES):
                if not batch.still_held():
                    return
                yield chunk
                chunk, size, most = [], 0, self.max_in_flight
            chunk.append(Addition(number, key, self._fields(position_of(entry), wire)))
            size += len(wire.body)
        if chunk and batch.still_held():
            yield chunk

    def _fields(self, position: int, wire: WireEvent) -> tuple[str | bytes, ...]:
        fields: dict[str, str | bytes] = {
            **self.headers,
            **wire.headers,
            "content-type": wire.content_type,
            "position": str(position),
            "data": wire.body,
        }
        return tuple(part for field in fields.items() for part in field)

    def _require_possible(self, key: str, body: bytes) -> None:
        if not key:
            raise PermanentError("The key of the stream is empty.")
        if len(body) > self.max_bytes:
            raise PermanentError(f"The message has {len(body)} bytes, and max_bytes is {self.max_bytes}.")
