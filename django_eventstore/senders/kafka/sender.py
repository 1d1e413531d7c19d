"""KafkaSender: options, and what a message is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from django.core.checks import CheckMessage, Error

from ...delivery import Batch, DeliveredEntry, Outcome
from ...events.cloudevents import DEFAULT_DATASCHEMA
from ...events.templates import EntryTemplate
from ...events.wire import Shape, WireEvent, WireFormat
from ...exceptions import LeaseLost, PermanentError, Unavailable
from ..base import EventSender, ProcessLocal, Receipts, require, require_positive
from .link import Link
from .options import ProducerOptions, is_topic_name, reason_of
from .publication import Publication, Ready
from .transaction import Transaction
from .verdicts import Fenced, is_fence

__all__ = ["KafkaSender"]

MEBIBYTE = 1024 * 1024
SMALLEST = 1_000
"""Bytes of the smallest limit that librdkafka takes."""


class KafkaSender(EventSender):
    """Produces events to a topic of Kafka.

    An event is accepted when Kafka has reported it as delivered with ``acks=all``: then every replica that is in sync has it.
    The key of a message is the event's stream, so a stream's events lie in one partition, in their order. The producer is
    idempotent, and stops at the first message that fails, so that none is there before it. See the guide for the options.
    """

    batch_size = 1_000

    def __init__(
        self,
        *,
        topic: str,
        url: str,
        config: Mapping[str, object] | None = None,
        transactional_id: str | None = None,
        format: Shape = "binary",
        source: str = "",
        dataschema: str = DEFAULT_DATASCHEMA,
        headers: Mapping[str, str] | None = None,
        max_in_flight: int = 10_000,
        max_bytes: int = MEBIBYTE,
        timeout: timedelta = timedelta(seconds=30),
        connect_timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        self.topic = EntryTemplate(topic, option="topic", fields=("type", "version"))
        require(
            not self.topic.constant or is_topic_name(topic),
            f"topic must be a name of up to 249 letters, digits, '.', '_' and '-', or a template, got {topic!r}.",
        )
        self.format = WireFormat(shape=format, source=source, dataschema=dataschema, prefix="ce_")
        require(max_in_flight > 0, f"max_in_flight must be positive, got {max_in_flight!r}.")
        require(max_bytes >= SMALLEST, f"max_bytes must be {SMALLEST} or more, got {max_bytes!r}.")
        require_positive(timeout=timeout, connect_timeout=connect_timeout)
        self.options = ProducerOptions(
            url=url,
            config={} if config is None else config,
            max_in_flight=max_in_flight,
            max_bytes=max_bytes,
            connect_timeout=connect_timeout,
        )
        self.transactional_id = None if transactional_id is None else _transactional(transactional_id)
        self.headers = dict(headers or {})
        for key, value in self.headers.items():
            texts = isinstance(key, str) and bool(key) and isinstance(value, str)
            require(texts, f"headers must be texts by name, got {value!r} for {key!r}.")
        self.timeout, self.connect_timeout = timeout, connect_timeout
        self._links: dict[str | None, ProcessLocal[Link]] = {}
        self._careful = False
        self._one_by_one: set[str | None] = set()
        """Whose next producer is to send each message in a request of its own."""

    def send(self, batch: Batch) -> Outcome:
        if not batch.still_held():
            return Outcome(done=0)
        receipts = Receipts(batch.entries)
        try:
            self._send(batch, receipts)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - SystemError too, where librdkafka tells of a fatal error inside a callback
            self._careful = True
            return receipts.outcome(_unavailable(error))
        self._careful = False
        name = self._name_of(batch)
        if name in self._one_by_one:
            self._one_by_one.discard(name)
            self._link_of(name).close()  # the next is a quick one again
        return receipts.outcome()

    def _send(self, batch: Batch, receipts: Receipts) -> None:
        try:
            self._publish_all(batch, receipts)
        except Exception as error:
            # Another worker had the partition for a while. Who has it now may take the id back, and nobody else.
            if self.transactional_id is None or not isinstance(_unavailable(error), Fenced) or not batch.still_held():
                raise
            self._publish_all(batch, receipts)

    def check(self) -> list[CheckMessage]:
        problem = self.options.url_problem()
        if problem is not None:
            return [Error(problem, hint="Set 'url' in the consumer's OPTIONS.", id="django_eventstore.E062")]
        problem = self.options.problem()
        if problem is not None:
            hint = "Look at 'config' in the consumer's OPTIONS: these are options of librdkafka."
            return [Error(problem, hint=hint, id="django_eventstore.E063")]
        return []

    def close(self) -> None:
        for link in list(self._links.values()):
            link.close()

    def _publish_all(self, batch: Batch, receipts: Receipts) -> None:
        """On one link after the other: each but the last finds an entry that is refused, and is of no use after it."""
        link_of_partition = self._link_of(self._name_of(batch))
        while True:
            with link_of_partition.use() as link:
                if self._publish(link, batch, receipts):
                    return
            if not batch.still_held():  # another link would take the transactional id from who has the partition now
                return

    def _publish(self, link: Link, batch: Batch, receipts: Receipts) -> bool:
        publication = (Publication if self.transactional_id is None else Transaction)(
            link=link,
            batch=batch,
            receipts=receipts,
            make=self._maker(self.format.writer(log=batch.log, epoch=batch.epoch)),
            constant=self.topic.constant,
            max_in_flight=self.options.max_in_flight,
            silence=self.timeout,
            connect=self.connect_timeout,
            careful=self._careful,
            one_by_one=link.one_by_one,
        )
        try:
            return publication.run()
        finally:
            if publication.blames_several:
                self._one_by_one.add(self._name_of(batch))

    def _maker(self, write: Callable[[DeliveredEntry], WireEvent]) -> Callable[[DeliveredEntry], Ready]:
        constant = self.topic.text if self.topic.constant else None

        def make(entry: DeliveredEntry) -> Ready:
            topic = constant or self.topic.fill(entry)
            if constant is None and not is_topic_name(topic):
                raise PermanentError(f"Kafka has no topic by the name of {topic!r}.")
            wire = write(entry)
            headers = {**self.headers, "content-type": wire.content_type, **wire.headers}
            return Ready(topic, entry.stream or None, wire.body, headers)

        return make

    def _name_of(self, batch: Batch) -> str | None:
        """The transactional id of the batch's partition, where each has a producer of its own; None: all share one."""
        if self.transactional_id is None:
            return None
        return self.transactional_id.format(consumer=batch.consumer, partition=batch.partition)

    def _link_of(self, name: str | None) -> ProcessLocal[Link]:
        if name not in self._links:
            link = ProcessLocal(partial(self._open, name), close=Link.close, usable=Link.is_usable)
            self._links.setdefault(name, link)  # another thread may have been quicker
        return self._links[name]

    def _open(self, transactional_id: str | None) -> Link:
        problem = self.options.url_problem()
        if problem is not None:
            raise Unavailable(problem)
        one_by_one = transactional_id in self._one_by_one
        config = self.options.producer_config(one_by_one=one_by_one, transactional_id=transactional_id)
        link = Link(config, connect=self.connect_timeout, one_by_one=one_by_one)
        if transactional_id is not None:
            try:
                link.begin_transactions(self.timeout.total_seconds())
            except BaseException:
                link.close()
                raise
        return link


def _transactional(text: str) -> str:
    """The template. Raises ValueError unless it makes an id for each partition."""
    template = EntryTemplate(text, option="transactional_id", fields=("consumer", "partition"))
    if template.text.format(consumer="", partition=0) == template.text.format(consumer="", partition=1):
        raise ValueError(f"transactional_id must have the field {{partition}}: each has a producer, got {text!r}.")
    return text


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    problem = (Fenced if is_fence(error) else Unavailable)(f"Kafka: {reason_of(error)}")
    problem.__cause__ = error
    return problem
