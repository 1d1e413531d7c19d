"""What is on its way of one batch, and how the stream has answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from ..base import Receipts

__all__ = ["Complaint", "Flight"]

NOBODY = "503"
"""The status of an answer of the server itself: nobody listens to the subject."""


class Complaint(msgspec.Struct, frozen=True):
    """Why JetStream did not do what it was asked. ``err_code`` is what tells the reasons apart."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: Complaint | None = None


_read = msgspec.json.Decoder(_Answer).decode


@dataclass(slots=True)
class Flight:
    """The bookkeeping of one batch: kept by the thread of the connection, and read by the one that publishes.

    ``stream`` is JetStream's, ``order`` the stream of an event. A message has a serial number, which no other of the same
    connection has; an answer to one that is not open changes nothing. An event is accepted by an answer of the stream that
    it was meant for, and by nothing else.
    """

    stream: str
    receipts: Receipts
    complaints: dict[int, Complaint] = field(default_factory=dict)
    """By number in the batch: what the stream did not take."""
    unheard: list[int] = field(default_factory=list)
    """Numbers of those that nobody listened to."""
    written: int = 0
    stopped: bool = False
    """Whether nothing more is to be published, since the lease has ended."""
    _open: dict[int, tuple[int, str]] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)

    def published(self, serial: int, number: int, order: str = "") -> None:
        """The entry with this number in the batch is on its way with this serial number."""
        self._open[serial] = number, order
        if order:
            self._busy.add(order)
        self.written += 1

    def is_busy(self, order: str) -> bool:
        """Whether an event of this stream is not answered yet: what is behind it must not be taken when it is not."""
        return order in self._busy

    @property
    def in_flight(self) -> int:
        """How many are not answered yet."""
        return len(self._open)

    @property
    def has_failed(self) -> bool:
        """Whether anything was not taken: then nothing more is to follow it."""
        return bool(self.complaints or self.unheard)

    def answered(self, serial: int, headers: Mapping[str, str] | None, body: bytes) -> None:
        """What came for this serial number."""
        number, order = self._open.pop(serial, (None, ""))
        if number is None:
            return
        self._busy.discard(order)
        if headers and headers.get("Status") == NOBODY:
            self.unheard.append(number)
            return
        try:
            answer = _read(body)
        except msgspec.DecodeError:
            answer = _Answer(error=Complaint(description="Something that is no stream has answered."))
        if answer.error is not None:
            self.complaints[number] = answer.error
        elif answer.stream == self.stream and answer.seq:
            self.receipts.accept(number)
        else:
            self.complaints[number] = Complaint(description=f"Not the stream has answered, but {answer.stream!r}.")
