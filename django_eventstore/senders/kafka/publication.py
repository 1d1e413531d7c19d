"""One batch on its way: produced without waiting, reported in any order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException

from ...delivery import Batch, DeliveredEntry
from ...exceptions import EventStoreError, LeaseLost, PermanentError, Unavailable
from ..base import Receipts
from .link import Link, TopicTrouble
from .options import BATCH_BYTES
from .verdicts import Fenced, Verdict, verdict_of

__all__ = ["Publication", "Ready"]

CHUNK = 100
"""How many are produced between two looks at the lease and at the reports."""
LOOK = 1.0
"""Seconds between two looks at the lease while waiting."""
GRACE = 2.0
"""Seconds that the answers to what is in flight are waited for, when one of them was an error."""


class Ready(NamedTuple):
    """A message, and where it goes. Texts leave as UTF-8."""

    topic: str
    key: str | None
    value: bytes
    headers: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Publication:
    """Produces a batch on a link and keeps its receipts.

    ``make`` makes the message of an entry, or raises PermanentError, which refuses the entry and none else. ``constant``: all
    go to one topic, so that its trouble is the sender's. ``careful``: the first entry is produced and awaited alone, since
    there was trouble: so each try gets on by one at least, and repeats no more. ``one_by_one``: how the link sends.
    """

    link: Link
    batch: Batch
    receipts: Receipts
    make: Callable[[DeliveredEntry], Ready]
    constant: bool
    max_in_flight: int
    silence: timedelta
    connect: timedelta
    careful: bool
    one_by_one: bool
    blames_several: bool = field(default=False, init=False)
    """Whether a request with several messages was refused because of one of them: one by one will show which."""
    _open: dict[int, bool] = field(default_factory=dict, init=False)
    _known: set[str] = field(default_factory=set, init=False)
    _missing: dict[str, str] = field(default_factory=dict, init=False)
    _failure: Unavailable | None = field(default=None, init=False)
    _only_stopped: bool = field(default=False, init=False)
    """Whether the failure says only that there was one before it."""
    _blamed: bool = field(default=False, init=False)
    """Whether the failure was the fault of an entry, which is refused now."""
    _stopped: set[str] = field(default_factory=set, init=False)
    """Streams with an entry that is refused: what is behind it must not arrive first."""

    def run(self) -> bool:
        """Produce all and wait for the reports, as long as the lease is held. Raises when the brokers are not available.

        False: what is not answered is to be published on another link. Then, and when it raises, nothing of the batch is left
        in the link, which is not to be used again.
        """
        self.link.begin()
        try:
            self.produce()
            self.wait(most=0)
        except BaseException as error:
            self._hear_out(error)
            self._drop()
            self._raise_better(error)
            raise
        return True

    def produce(self) -> bool:
        """All that is not answered yet, in order, as long as the lease is held. Whether it was.

        It ends before an entry whose stream has a refused one before it: the consumer knows what becomes of that stream.
        """
        for number, entry in enumerate(self.batch.entries):
            if number % CHUNK == 0:
                if not self.batch.still_held():
                    return False
                self._hear(0)
            if self.receipts.is_answered(number):
                if self.receipts.is_refused(number):  # on the link before this one
                    self._stopped |= {entry.stream} - {""}
                continue
            if entry.stream in self._stopped:
                break
            try:
                ready = self.make(entry)
                if ready.topic not in self._known:
                    self._look_for(ready.topic)
                self._produce(number, ready)
            except PermanentError as error:
                self._refuse(number, error)
                continue
            except TopicTrouble as error:
                if self.constant:
                    raise Unavailable(str(error)) from error
                self._refuse(number, EventStoreError(str(error)))
                continue
            if self.careful:
                self.wait(most=0)
                self.careful = False
            if len(self._open) >= self.max_in_flight:
                # Down to the half, so that one half is reported while the other is produced.
                self.wait(most=self.max_in_flight // 2)
        return True

    def wait(self, *, most: int) -> None:
        """Until no more than so many are without a report."""
        waiting, heard = len(self._open), time.monotonic()
        while len(self._open) > most:
            self._hear(min(LOOK, self._patience), all=not most)
            now = time.monotonic()
            if len(self._open) != waiting:
                waiting, heard = len(self._open), now
            elif now - heard > self._patience:
                raise Unavailable(self._silent())
            # Reports of what was produced are worth a look, also when the lease has just ended.
            elif not self.batch.still_held() and now - heard >= LOOK:
                raise Unavailable("Kafka: the lease ended while reports were awaited.")

    def accepted(self, number: int) -> None:
        """The brokers have it."""
        self.receipts.accept(number)

    @property
    def _patience(self) -> float:
        return (self.connect if self.link.is_down else self.silence).total_seconds()

    def _produce(self, number: int, ready: Ready) -> None:
        self._open[number] = len(ready.value) > BATCH_BYTES
        full_since: float | None = None
        while True:
            try:
                self.link.produce(number, ready.topic, ready.key, ready.value, ready.headers)
                return
            except BufferError:
                full_since = full_since or time.monotonic()
            except KafkaException as error:
                del self._open[number]
                raise self._unsendable(error, ready) from error
            self._hear(0.1)
            if time.monotonic() - full_since > self._patience:
                raise Unavailable(self._silent())

    def _unsendable(self, error: KafkaException, ready: Ready) -> Exception:
        """What an error of ``produce()`` means: nothing of the message has left."""
        reason: KafkaError = error.args[0]
        verdict = verdict_of(reason)
        if verdict is Verdict.MESSAGE:
            return PermanentError(f"Kafka: the message has {len(ready.value)} bytes and headers: {reason.str()}")
        if verdict is Verdict.TOPIC:
            return TopicTrouble(f"Kafka: topic {ready.topic!r}: {reason.str()}")
        return Unavailable(f"Kafka: {reason.str()}{self.link.trouble}")

    def _look_for(self, topic: str) -> None:
        if topic in self._missing:
            raise TopicTrouble(self._missing[topic])
        try:
            self.link.look_for(topic)
            self._known.add(topic)
        except TopicTrouble as error:
            self._missing[topic] = str(error)
            raise

    def _hear(self, seconds: float, *, all: bool = False) -> None:
        """Take the reports that are there, after a wait for the first, or for all of them. Raises the first failure."""
        self.link.poll(seconds, all=all)
        self._settle_answers()
        if self._failure is not None:
            raise self._failure

    def _settle_answers(self) -> None:
        for number, error in self.link.answers():
            large = self._open.pop(number)
            if error is None:
                self.accepted(number)
            else:
                self._failed(number, error, alone=large or self.one_by_one or len(self.batch.entries) == 1)

    def _failed(self, number: int, error: KafkaError, *, alone: bool) -> None:
        verdict, reason = verdict_of(error), error.str()
        if verdict is Verdict.TOPIC and not self.constant:
            self._blame(number, EventStoreError(f"Kafka: {reason}"))
        elif verdict is Verdict.MESSAGE and alone:
            self._blame(number, PermanentError(f"Kafka does not take this message: {reason}"))
        elif verdict is Verdict.MESSAGE:
            self.blames_several = True
        # The producer stops at any error, so that nothing comes before what has failed. What stopped it is not always
        # what is heard first.
        fenced, stopped = verdict is Verdict.FENCE, verdict is Verdict.STOPPED
        if fenced or self._failure is None or (self._only_stopped and not stopped):
            self._failure = (Fenced if fenced else Unavailable)(f"Kafka: {reason}{self.link.trouble}")
            self._only_stopped = stopped

    def _blame(self, number: int, error: EventStoreError) -> None:
        self._refuse(number, error)
        self._blamed = True

    def _refuse(self, number: int, error: EventStoreError) -> None:
        self.receipts.refuse(number, error)
        self._stopped |= {self.batch.entries[number].stream} - {""}

    def _silent(self) -> str:
        state = "the brokers cannot be reached" if self.link.is_down else "nothing was reported"
        count = len(self._open)
        return f"Kafka: {state} for {self._patience:g} s, and {count} messages are open.{self.link.trouble}"

    def _hear_out(self, error: BaseException) -> None:
        """Take the answers that are still to come, unless the brokers are silent or the lease is over."""
        if self._failure is not None or not isinstance(error, EventStoreError):
            self.link.hear_out(GRACE)
            self._settle_answers()

    def _drop(self) -> None:
        """Nothing of the batch leaves any more."""
        self.link.drop()
        self._settle_answers()

    def _raise_better(self, error: BaseException) -> None:
        """Raise what the answers said, when that tells more than the error that ended it."""
        if isinstance(error, LeaseLost) or not isinstance(error, Exception) or isinstance(error, Fenced):
            return
        if self.link.is_fenced:
            raise Fenced(f"Kafka: another producer has the transactional id.{self.link.trouble}") from error
        if self._failure not in (None, error) and not self._only_stopped:
            raise self._failure from error
