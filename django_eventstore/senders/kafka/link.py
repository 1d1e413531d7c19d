"""A producer of librdkafka, with what it has heard of its brokers; every wait on it ends."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from ...exceptions import Unavailable
from .options import reason_of
from .verdicts import Verdict, is_fence, verdict_of

__all__ = ["Answer", "Link", "TopicTrouble"]

Answer = tuple[int, KafkaError | None]
"""The number that a message was produced with, and why it was not taken; None: it was."""
PURGED: Final = 1.0
"""Seconds that the reports of purged messages may take; they are here already, or never come."""

_logger = logging.getLogger("django_eventstore.senders.kafka")


class _Log:
    """What librdkafka has to say goes to logging as information: what it means for the events is raised."""

    def log(self, level: int, message: str, *arguments: object) -> None:
        _logger.info(message, *arguments)


class TopicTrouble(Exception):
    """The topic is not there, or not for us."""


class _News:
    """What the producer last heard of its brokers. Apart from the link, so that the producer is in no reference cycle."""

    def __init__(self) -> None:
        self.trouble = ""
        self.all_down = False

    def hear(self, error: KafkaError) -> None:
        """librdkafka calls it from ``poll()``."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.all_down = True
        else:
            self.trouble = error.str()


class Link:
    """One producer and its topics. ``connect`` bounds the wait for a topic's metadata.

    ``one_by_one``: whether its config lets each message go in a request of its own.
    """

    def __init__(self, config: Mapping[str, object], *, connect: timedelta, one_by_one: bool = False) -> None:
        self.one_by_one = one_by_one
        self._connect = connect.total_seconds()
        self._news = _News()
        self._answers: dict[int, KafkaError | None] = {}
        self._topics: set[str] = set()
        self._broken = False
        self.is_fenced = False
        """Whether another producer has its transactional id."""
        try:
            self._producer: Any = Producer({**config, "error_cb": self._news.hear}, logger=_Log())
        except (KafkaException, TypeError, ValueError) as error:
            raise Unavailable(f"Kafka: {reason_of(error)}") from error

    # --- producing ---

    def begin(self) -> None:
        """A new batch: what is known of its brokers' state begins anew."""
        self._answers = {}
        self._news.all_down = False

    def look_for(self, topic: str) -> None:
        """See that the topic is there: once per producer. Raises TopicTrouble when it is not, or Unavailable.

        A broker that makes topics by itself makes it.
        """
        if topic in self._topics:
            return
        try:
            found = self._producer.list_topics(topic, timeout=self._connect).topics[topic]
        except KafkaException as error:
            self._hear()
            raise Unavailable(f"Kafka: {reason_of(error)}{self.trouble}") from error
        if found.error is not None and verdict_of(found.error) is Verdict.TOPIC:
            raise TopicTrouble(f"Kafka: topic {topic!r}: {found.error.str()}")
        self._topics.add(topic)

    def produce(self, number: int, topic: str, key: str | None, value: bytes, headers: Mapping[str, str]) -> None:
        """Put the message on its way and wait for nothing; its answer comes by ``answers`` under this number.

        Raises BufferError while there is no room for it, and KafkaException when it can never be sent.
        """
        answers = self._answers

        def report(error: KafkaError | None, message: object) -> None:
            # Nothing but this: it may be called while an error is on its way out of poll(), when any call fails.
            answers[number] = error

        self._producer.produce(topic, value, key, on_delivery=report, headers=headers)

    def poll(self, seconds: float, *, all: bool = False) -> None:
        """Hear the reports that are there, after waiting for the first of them at most so long. Raises when it is broken.

        With ``all`` the wait is for every one that is to come, and what is gathered for a request leaves at once.
        """
        try:
            (self._producer.flush if all else self._producer.poll)(seconds)
        except Exception as error:
            self._distrust(error)
            raise

    def answers(self) -> list[Answer]:
        """The reports that were heard since this was asked last, each once."""
        found = list(self._answers.items())
        if found:
            self._answers.clear()
            self._news.all_down = False
        return found

    # --- transactions ---

    def begin_transactions(self, seconds: float) -> None:
        """Take the transactional id over: who had it is fenced, and its open transaction ends. Raises Unavailable."""
        try:
            self._producer.init_transactions(seconds)
        except KafkaException as error:
            self._hear()
            raise Unavailable(f"Kafka: {reason_of(error)}{self.trouble}") from error

    def begin_transaction(self) -> None:
        self._producer.begin_transaction()

    def commit_transaction(self, seconds: float) -> None:
        """Returns when it is committed. Raises KafkaException when it is not, or nobody knows."""
        self._producer.commit_transaction(seconds)

    def abort_transaction(self, seconds: float) -> None:
        """Returns when it is aborted; the reports of what was not sent come by ``poll``. Raises KafkaException."""
        self._producer.abort_transaction(seconds)

    # --- the end ---

    @property
    def is_down(self) -> bool:
        """Whether all brokers were unreachable, and nothing was reported since."""
        return self._news.all_down

    @property
    def trouble(self) -> str:
        """What was last heard of a broker, in parentheses; empty when that was nothing bad."""
        return f" ({self._news.trouble})" if self._news.trouble else ""

    def is_usable(self) -> bool:
        """Whether nothing is known against it."""
        self._hear()
        return not self._broken

    def hear_out(self, seconds: float) -> None:
        """Hear the answers to what is on its way, at most so long; also of a producer that is broken."""
        deadline = time.monotonic() + seconds
        while len(self._producer) and (left := deadline - time.monotonic()) > 0:
            self._hear(min(left, 0.1))

    def drop(self) -> None:
        """Nothing of what is on its way leaves any more. What the brokers have already may still be taken by them."""
        self._producer.purge()
        self.hear_out(PURGED)
        self._broken = True

    def close(self) -> None:
        """Drop what is on its way, and let go of the connections."""
        self._producer.purge()
        self._producer = None  # its destructor ends its threads

    def _hear(self, seconds: float = 0.0) -> None:
        """Like ``poll``, for one that may be broken."""
        with contextlib.suppress(Exception):
            self.poll(seconds)

    def _distrust(self, error: Exception) -> None:
        """It was a fatal error, or SystemError where one was on its way already."""
        self._broken = True
        self._news.trouble = reason_of(error)
        self.is_fenced = self.is_fenced or is_fence(error)
