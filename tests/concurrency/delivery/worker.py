"""One worker: what a process with ``forward_all()`` in a loop does, with a fault or a step to stop at, if it is told so."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from django.db import Error, close_old_connections

from tests.concurrency.delivery import faults, sinks, steps

IDLE = 0.005
DIRECTORY = "EVENTSTORE_TEST_DIRECTORY"
FAULT = "EVENTSTORE_TEST_DELIVERY_FAULT"
"""Plants one in every worker of a run, to see by hand which tests find it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``stop``: it ends when this file is there; without one, when nothing is left to do."""

    name: str
    directory: str
    consumers: tuple[str, ...] = ("effects", "outside")
    scope: Literal["event", "batch"] = "event"
    lease: float = 1.0
    step: str = ""
    hit: int = 1
    """The how manyeth time it comes to the step it stops."""
    fault: str = ""
    stop: str = ""
    slow: float = 0.0
    """Seconds that the handler takes for an event."""
    limit: int = sinks.LIMIT
    """Entries in a batch to the outside."""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return Path(self.directory) / "sink"

    @property
    def bad(self) -> Path:
        return Path(self.directory) / "bad"


def declare(options: Options) -> None:
    """Both consumers, in this process."""
    from django.test import override_settings

    from django_eventstore import handles
    from tests.shop.models import Refund

    sender = {"path": str(options.file), "bad": str(options.bad), "worker": options.name}
    outside = {
        "SENDER": "tests.concurrency.delivery.sinks.FileSender",
        "OPTIONS": sender,
        "EVENTS": [sinks.NUMBERED],
        "START": "beginning",
        "LIMIT": options.limit,
    }
    retries: dict[str, Any] = {
        "RETRY_BASE": timedelta(milliseconds=1),
        "RETRY_CAP": timedelta(milliseconds=20),
        "MAX_ATTEMPTS": 1_000,
    }
    # On a busy machine workers are killed at the same event again and again, which is not its fault.
    retries["MAX_CRASHES"] = 1_000
    override_settings(
        EVENTSTORE={
            "LEASE": timedelta(seconds=options.lease),
            "WAKE_UP": False,
            "CONSUMERS": {"outside": outside},
            **retries,
            **options.settings,
        }
    ).enable()

    @handles(sinks.NUMBERED, name="effects", start="beginning", transaction=options.scope)
    def refund(event: Any, entry: Any) -> None:
        Refund.objects.create(order_id=sinks.effect_of(entry.stream, event["n"]))
        if options.slow:
            time.sleep(options.slow)
        steps.reach("in handler")
        if entry.stream in sinks.bad_streams(options.bad):
            raise sinks.Refused(entry.stream)


def work(options: Options) -> None:
    from django_eventstore.forwarding import forward_all
    from django_eventstore.forwarding.follow import may_pass
    from django_eventstore.forwarding.forwarder import let_go

    declare(options)
    fault = options.fault or os.environ.get(FAULT)
    if fault:
        faults.plant(fault)
    if options.step:
        steps.stop_at(options.step, hit=options.hit)
    while True:
        stopping = options.stop and Path(options.stop).exists()
        try:
            # As one that follows the log does: it keeps its leases from look to look, until there is nothing to do.
            keeps = bool(options.stop) and not stopping
            done = forward_all(consumers=options.consumers, most_events=2_000, keep=keeps)
            if not done.delivered or not keeps:
                let_go()
        except Error as error:
            if not may_pass(error):
                raise
            print(f"lost: {error!r}", flush=True)
            close_old_connections()
            time.sleep(IDLE)
            continue
        if stopping or not (options.stop or done.more):
            return
        if not done.delivered:
            time.sleep(IDLE)
