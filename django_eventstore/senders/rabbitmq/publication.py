"""One batch on its way: published without waiting, confirmed in any order."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import amqp

from ...delivery import Batch, DeliveredEntry
from ...exceptions import PermanentError, Unavailable
from ..base import Receipts
from ..lanes import Lanes
from .confirms import Confirms
from .frames import Message
from .link import Link

__all__ = ["Publication", "Ready"]

CHUNK = 100
"""How many are published between two looks at the lease."""
POLL_EVERY = 32
"""How many are published between two looks for answers: the broker must not wait for us while we write."""
LARGE = 16 * 1024
"""Bytes of a message after which answers are looked for at once: it may come back as it is."""
LOOK = 1.0
"""Seconds between two looks at the lease while waiting."""
# The broker's words for a message that it will never take: too large for it, or with a property that it forbids.
IMPOSSIBLE = (311, 406)


@dataclass(frozen=True, slots=True)
class Ready:
    """A message, and where it goes."""

    message: Message
    exchange: str
    routing_key: str


@dataclass(slots=True, kw_only=True)
class Publication:
    """Publishes a batch on a link and keeps its receipts.

    ``make`` makes the message of an entry, or raises PermanentError, which refuses the entry and none else. ``careful``: the
    first entry is published and awaited alone, since the broker was in trouble: so what it repeats stays one message, and a
    message that makes the broker close the channel is found.
    """

    link: Link
    batch: Batch
    receipts: Receipts
    make: Callable[[DeliveredEntry], Ready]
    mandatory: bool
    refuse_nacked: bool
    max_in_flight: int
    per_stream: int
    silence: timedelta
    careful: bool

    def run(self) -> None:
        """Publish all and wait for the answers, as long as the lease is held. Raises when the broker is not available."""
        lanes = Lanes(self.batch.entries, width=self.per_stream)
        confirms = Confirms(self.receipts, lanes)
        self.link.begin(confirms)
        try:
            self._publish(confirms, lanes)
            self._await(confirms, most=0)
        except amqp.exceptions.ChannelError as error:
            self._blame(confirms, error)
            self.link.distrust()
            raise
        except BaseException:
            self.link.distrust()
            raise
        self._settle_nacked(confirms)

    def _publish(self, confirms: Confirms, lanes: Lanes) -> None:
        """Until all are published, or all that is left waits behind one that was refused, or the broker cannot take one."""
        for turn in itertools.count():
            if turn % CHUNK == 0 and not self.batch.still_held():
                return
            number = lanes.take()
            while number is None and confirms.in_flight and not self._must_stop(confirms):
                self._await(confirms, most=confirms.in_flight - 1)
                if not self.batch.still_held():
                    return
                number = lanes.take()
            if number is None:
                return
            self._put_on_its_way(number, confirms, lanes, look=turn % POLL_EVERY == 0)
            if self._must_stop(confirms):
                return
            if confirms.in_flight >= self.max_in_flight:
                # Down to the half, so that one half is confirmed while the other is written.
                self._await(confirms, most=self.max_in_flight // 2)

    def _must_stop(self, confirms: Confirms) -> bool:
        return bool(confirms.nacked) and not self.refuse_nacked

    def _put_on_its_way(self, number: int, confirms: Confirms, lanes: Lanes, *, look: bool) -> None:
        entry = self.batch.entries[number]
        try:
            ready = self.make(entry)
            tag = self.link.publish(
                ready.message, exchange=ready.exchange, routing_key=ready.routing_key, mandatory=self.mandatory
            )
        except PermanentError as error:
            self.receipts.refuse(number, error)
            lanes.close(number)
            return
        confirms.published(tag, number, entry)
        if self.careful:
            self._await(confirms, most=0)
            self.careful = False
        elif look or len(ready.message.body) > LARGE:
            self.link.poll()

    def _await(self, confirms: Confirms, *, most: int) -> None:
        in_flight, heard = confirms.in_flight, time.monotonic()
        while confirms.in_flight > most:
            self.link.wait(LOOK)
            now = time.monotonic()
            if confirms.in_flight != in_flight:
                in_flight, heard = confirms.in_flight, now
            elif now - heard > self.silence.total_seconds():
                raise Unavailable(self._silent(confirms))
            # Confirms of what was published are worth a look, also when the lease has just ended.
            elif not self.batch.still_held() and now - heard >= LOOK:
                raise Unavailable("RabbitMQ: the lease ended while confirms were awaited.")

    def _silent(self, confirms: Confirms) -> str:
        reason = " It has said that it takes no messages for now: look at its alarms." if self.link.is_blocked else ""
        seconds = self.silence.total_seconds()
        return f"RabbitMQ: nothing was confirmed for {seconds:g} s, and {confirms.in_flight} messages are open.{reason}"

    def _blame(self, confirms: Confirms, error: amqp.exceptions.ChannelError) -> None:
        """Refuse the entry for which the broker closed the channel, when it can only be that one."""
        number = confirms.only_open
        if number is not None and error.reply_code in IMPOSSIBLE:
            self.receipts.refuse(number, PermanentError(f"RabbitMQ does not take this message: {error.reply_text}"))

    def _settle_nacked(self, confirms: Confirms) -> None:
        if not confirms.nacked:
            return
        problem = Unavailable(f"RabbitMQ could not take {len(confirms.nacked)} messages (nack): is a queue full?")
        if not self.refuse_nacked:
            raise problem
        for number in confirms.nacked:
            self.receipts.refuse(number, problem)
