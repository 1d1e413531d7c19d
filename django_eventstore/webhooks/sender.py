"""WebhookSender: options, and how a batch and the ticks between batches reach the endpoints."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import ClassVar

from django.core.checks import CheckMessage
from django.db import connections

from ..conf import get_settings
from ..delivery import Batch, DeliveryPolicy, Outcome
from ..events import selects
from ..events.cloudevents import DEFAULT_DATASCHEMA
from ..events.wire import Shape, WireFormat
from ..exceptions import PermanentError, Unavailable
from ..models import ConsumerState, Endpoint
from ..senders.base import Capabilities, EventSender, ProcessLocal, Receipts, position_of
from ..store.sequencing import in_test_case
from .attempts import AttemptBook
from .catching_up import CatchUp
from .checks import check_options
from .client import Limits
from .connections import Connections
from .posting import Item, Poster, Try
from .round import Job, Round
from .standings import Claim, Standings
from .targets import Rules
from .threads import Threads

__all__ = ["WebhookSender"]

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
OURS = ("host", "content-", "webhook-", "connection", "transfer-", "user-agent", "accept-encoding", "expect", "upgrade")


class WebhookSender(EventSender):
    """Posts events to the endpoints of its consumer, signed as Standard Webhooks say.

    An event is accepted by an endpoint with an answer from 200 to 299. The consumer goes on when each endpoint has the
    events of the batch or, failing or slow, an offset of its own: see the docstring of ``django_eventstore.webhooks``.
    The consumer cannot be divided into partitions.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        *,
        format: Shape = "structured",
        source: str = "",
        dataschema: str = DEFAULT_DATASCHEMA,
        headers: Mapping[str, str] | None = None,
        allow_http: bool = False,
        allow_private: bool = False,
        ports: Collection[int] = (80, 443),
        tls: Mapping[str, str] | None = None,
        timeout: timedelta = timedelta(seconds=10),
        connect_timeout: timedelta = timedelta(seconds=5),
        patience: timedelta = timedelta(milliseconds=500),
        max_answer: int = 64 * 1024,
        max_in_flight: int = 32,
        max_behind: int = 8,
        retry_base: timedelta = timedelta(seconds=5),
        retry_cap: timedelta = timedelta(hours=1),
        disable_after: timedelta | None = timedelta(days=5),
    ) -> None:
        _require(format != "binary", "format must not be 'binary': headers are not signed.")
        self.format = WireFormat(shape=format, source=source, dataschema=dataschema)
        durations = {
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "patience": patience,
            "retry_base": retry_base,
            "retry_cap": retry_cap,
        }
        if disable_after is not None:
            durations["disable_after"] = disable_after
        for name, duration in durations.items():
            positive = isinstance(duration, timedelta) and duration > timedelta(0)
            _require(positive, f"{name} must be a positive timedelta, got {duration!r}.")
        _require(max_answer > 0, f"max_answer must be positive, got {max_answer!r}.")
        _require(max_in_flight > 0, f"max_in_flight must be positive, got {max_in_flight!r}.")
        _require(max_behind > 0, f"max_behind must be positive, got {max_behind!r}.")
        numbers = not isinstance(ports, str) and all(isinstance(port, int) and 0 < port < 65_536 for port in ports)
        _require(bool(numbers and ports), f"ports must be a list of port numbers, got {ports!r}.")
        self.headers = _headers(headers or {})
        self.rules = Rules(allow_http=allow_http, allow_private=allow_private, ports=frozenset(ports))
        self.tls = dict(tls or {})
        _require(
            set(self.tls) <= {"ca_certs"}, "tls takes 'ca_certs', the file of a certificate authority of your own."
        )
        self.limits = Limits(timeout=timeout, connect_timeout=connect_timeout, max_answer=max_answer)
        self.patience, self.max_in_flight, self.max_behind = patience, max_in_flight, max_behind
        self.policy = DeliveryPolicy(base=retry_base, cap=retry_cap)
        self.disable_after = disable_after
        self._desk = ProcessLocal(self._make_desk, close=_Desk.close)

    def send(self, batch: Batch) -> Outcome:
        if not batch.still_held():
            return Outcome(done=0)
        _require_whole(batch)
        desk, receipts = self._at_desk(), Receipts(batch.entries)
        standings = self._standings(batch.consumer, batch.using)
        first, saved = position_of(batch.entries[0]), standings.saved()
        if first <= saved or any(entry.is_replay for entry in batch.entries):
            standings.set_back(first)
        jobs = self._jobs(standings.going_along(saved, batch), batch, receipts)
        if jobs:
            self._run(desk, standings, jobs, batch)
        for number in range(len(batch.entries)):
            receipts.accept(number)
        desk.attempts.write_if_due(using=batch.using)
        return receipts.outcome()

    def tend(self, consumer: str, *, events: Sequence[str], using: str) -> None:
        """Begin to catch up endpoints that are behind and due, on threads; those that ran before write their attempts."""
        desk, standings = self._at_desk(), self._standings(consumer, using)
        desk.attempts.write_if_due(using=using)
        if in_test_case(connections[using]):  # a thread would see nothing of its transaction
            return
        room = self.max_behind - desk.catching_up
        for claim in standings.claim_due(most=room) if room > 0 else []:
            job = CatchUp(
                claim=claim,
                standings=standings,
                events=events,
                format=self.format,
                poster=desk.poster,
                attempts=desk.attempts,
                may_go_on=lambda: not desk.threads.stopping.is_set(),
            )
            desk.catch_up(job)

    def try_out(self, endpoint: Endpoint, item: Item, *, using: str) -> Try:
        """Post one item now, beside everything else, and keep the try with the endpoint's attempts."""
        desk = self._at_desk()
        found = desk.poster.post(endpoint, item)
        desk.attempts.add(endpoint.pk, [found])
        desk.attempts.write(using=using)
        return found

    def check(self) -> list[CheckMessage]:
        return check_options(self.rules, self.limits)

    def close(self) -> None:
        """End the threads, each after the request in hand, and close the connections."""
        self._desk.close()

    def _run(self, desk: _Desk, standings: Standings, jobs: Sequence[Job], batch: Batch) -> None:
        """Send, and give an offset of their own to the endpoints that do not have it all."""
        until = time.monotonic() + get_settings().LEASE.total_seconds() / 2

        def settle(claim: Claim, job: Job) -> None:
            failure = job.failed.failure if job.failed is not None else None
            milliseconds = int(job.tries[-1].seconds * 1_000) if job.tries else None
            standings.release(claim, offset=job.offset, failure=failure, milliseconds=milliseconds)

        course = Round(
            poster=desk.poster,
            threads=desk.threads,
            attempts=desk.attempts,
            most=self.max_in_flight,
            patience=self.patience,
            may_go_on=lambda: batch.still_held() and time.monotonic() < until and not desk.threads.stopping.is_set(),
            settle=settle,
        )
        left = course.run(jobs)
        is_saved = False
        try:
            if left:
                standings.leave_behind([behind for _, behind in left], epoch=batch.epoch)
            is_saved = True
        finally:
            for job, behind in left:
                course.tell(job, behind.claim if is_saved else None)

    def _jobs(self, endpoints: Sequence[Endpoint], batch: Batch, receipts: Receipts) -> list[Job]:
        """What each endpoint is to get. An entry that somebody wants and that cannot be written is refused."""
        write = self.format.writer(log=batch.log, epoch=batch.epoch)
        written: dict[int, Item | None] = {}
        wanted: dict[tuple[str, ...], list[int]] = {}
        jobs = []
        for endpoint in endpoints:
            patterns = endpoint.patterns
            if patterns not in wanted:
                wanted[patterns] = [n for n, entry in enumerate(batch.entries) if selects(patterns, entry.type)]
            numbers = wanted[patterns]
            if endpoint.offset is not None:
                numbers = [n for n in numbers if position_of(batch.entries[n]) > endpoint.offset]
            for number in numbers:
                if number not in written:
                    try:
                        written[number] = Item.of(batch.entries[number], write(batch.entries[number]))
                    except PermanentError as error:
                        receipts.refuse(number, error)
                        written[number] = None
            items = [item for item in map(written.get, numbers) if item is not None]
            if items:
                jobs.append(Job(endpoint, items))
        return jobs

    def _standings(self, consumer: str, using: str) -> Standings:
        return Standings(
            consumer=consumer,
            policy=self.policy,
            disable_after=self.disable_after,
            patience=self.patience,
            using=using,
        )

    def _at_desk(self) -> _Desk:
        with self._desk.use() as desk:  # its threads may share it, so nobody waits for a batch of another thread
            return desk

    def _make_desk(self) -> _Desk:
        tls = ssl.create_default_context(cafile=self.tls.get("ca_certs"))
        connections = Connections(rules=self.rules, limits=self.limits, tls=tls)
        poster = Poster(connections=connections, headers=self.headers)
        return _Desk(poster, Threads(longest=self.limits.timeout + timedelta(seconds=1)))


class _Desk:
    """What a sender holds in one process."""

    def __init__(self, poster: Poster, threads: Threads) -> None:
        self.poster, self.threads, self.attempts = poster, threads, AttemptBook()
        self._catching_up: set[int] = set()

    @property
    def catching_up(self) -> int:
        return len(self._catching_up)

    def catch_up(self, job: CatchUp) -> None:
        number = job.claim.number

        def run() -> None:
            try:
                job.run()
            finally:
                self._catching_up.discard(number)

        self._catching_up.add(number)
        try:
            self.threads.start(run)
        except BaseException:
            self._catching_up.discard(number)
            raise

    def close(self) -> None:
        self.threads.end()
        self.poster.connections.close()


def _require_whole(batch: Batch) -> None:
    """One offset of an endpoint says nothing about several partitions."""
    divided = ConsumerState.objects.using(batch.using).filter(pk=batch.consumer, partitions__gt=1)
    if divided.exists():
        raise Unavailable(
            f"Consumer {batch.consumer!r} sends webhooks and cannot be divided: "
            f"manage.py eventstore_consumers partition {batch.consumer} 1"
        )


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    for name, value in given.items():
        fits = isinstance(name, str) and isinstance(value, str) and HEADER_NAME.fullmatch(name)
        _require(bool(fits and HEADER_VALUE.fullmatch(value)), f"headers: {name!r} is no header of one line of ASCII.")
        _require(not name.lower().startswith(OURS), f"headers: {name!r} is set by the sender.")
    return dict(given)


def _require(fact: bool, otherwise: str) -> None:
    if not fact:
        raise ValueError(otherwise)
