"""Deliver events without Celery: once, or for as long as it runs."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...forwarding import forward_all
from ...forwarding.follow import StopOnSignal, follow
from ...signals import batch_delivered, delivery_failed
from ..command import EventStoreCommand

# How long a tick may go on before it looks whether it is to stop; the batch in hand is finished in any case.
LONGEST_TICK = timedelta(seconds=1)


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
            "--interval", type=float, default=1.0, metavar="SECONDS", help="With --follow: sleep when nothing is left."
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
        with StopOnSignal() as stop:
            self.stdout.write("Following the log.")
            self.stdout.flush()
            delivered = follow(
                lambda: forward_all(consumers=names, using=using, longest=LONGEST_TICK),
                interval=interval,
                stop=stop.requested,
                sleep=stop.sleep,
            )
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
