"""Deliver events without Celery: once, or for as long as it runs."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...conf import get_settings
from ...forwarding import Forwarded, forget_forwarders, forward_all, let_go
from ...forwarding.celery import beat_heart
from ...forwarding.follow import StopOnSignal, follow, tidy_connections
from ...forwarding.notifying import FOLLOWER
from ...signals import batch_delivered, delivery_failed
from ...store import waiter
from ..command import EventStoreCommand

# How long a tick may go on before connections and the heartbeat are looked after.
LONGEST_TICK = timedelta(seconds=5)


class Command(EventStoreCommand):
    help = "Delivers events to the consumers, or to the named ones. Safe beside any number of other workers."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        form = parser.add_mutually_exclusive_group(required=True)
        form.add_argument(
            "--once", action="store_true", help="Until nothing is left. Exits with 1 if a delivery failed."
        )
        form.add_argument("--follow", action="store_true", help="Until SIGTERM or SIGINT.")
        parser.add_argument(
            "--interval",
            type=float,
            default=1.0,
            metavar="SECONDS",
            help="With --follow: how often to look also when nothing tells of an event.",
        )
        parser.add_argument("consumers", nargs="*", metavar="consumer", help="By default every declared consumer.")

    def perform(self, using: str, options: dict[str, Any]) -> None:
        if options["interval"] <= 0:
            raise CommandError("--interval takes a positive number of seconds.")
        names = options["consumers"] or None
        if options["follow"]:
            self._follow(using, names, timedelta(seconds=options["interval"]))
        else:
            self._once(using, names)

    def _follow(self, using: str, names: list[str] | None, interval: timedelta) -> None:
        def forward() -> Forwarded:
            beat_heart(FOLLOWER, using=using)
            return forward_all(consumers=names, using=using, longest=LONGEST_TICK, stopping=stop.requested, keep=True)

        listen_alias = get_settings().LISTEN_ALIAS
        with StopOnSignal() as stop, waiter(using, pause=stop.pause, listen_alias=listen_alias) as waiting:
            self.stdout.write("Following the log.")
            self.stdout.flush()
            delivered = follow(
                forward,
                wait=waiting.wait,
                interval=interval,
                stop=stop.requested,
                pause=stop.pause,
                tidy=lambda: tidy_connections(using),
                let_go=let_go,
            )
        forget_forwarders()
        self.stdout.write(f"Stopped. Delivered {delivered} events.")

    def _once(self, using: str, names: list[str] | None) -> None:
        totals: Counter[str] = Counter()
        failed: dict[str, int | None] = {}

        def on_delivered(*, consumer: str, delivered: int, **kwargs: object) -> None:
            totals[consumer] += delivered

        def on_failed(*, consumer: str, position: int | None, **kwargs: object) -> None:
            failed[consumer] = position

        batch_delivered.connect(on_delivered)
        delivery_failed.connect(on_failed)
        try:
            while forward_all(consumers=names, using=using).more:
                pass
        finally:
            batch_delivered.disconnect(on_delivered)
            delivery_failed.disconnect(on_failed)
        for name, number in sorted(totals.items()):
            self.stdout.write(f"{name}: {number}")
        self.stdout.write(f"Delivered {totals.total()} events.")
        if failed:
            places = ", ".join(
                f"{name} ({'its sender' if position is None else f'position {position}'})"
                for name, position in sorted(failed.items())
            )
            raise CommandError(f"Deliveries failed and will be tried again: {places}. See eventstore_consumers list.")
