"""Show the log and its consumers."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...inspection import ConsumerStatus, LogStatus, log_status
from ..command import EventStoreCommand

MOST_LAG = 10_000


class Command(EventStoreCommand):
    help = "Shows the log's head, its consumers and how far they are behind. Changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="Write one JSON document.")
        parser.add_argument(
            "--fail-lag",
            type=int,
            metavar="N",
            help=f"Exit with status 1 when a consumer is more than N events behind; N is at most {MOST_LAG}.",
        )

    def perform(self, using: str, options: dict[str, Any]) -> None:
        most = options["fail_lag"]
        if most is not None and not 0 <= most <= MOST_LAG:
            raise CommandError(f"--fail-lag takes a number from 0 to {MOST_LAG}: events are counted no further.")
        status = log_status(using)
        if options["json"]:
            self.write_json(status)
        else:
            self._write(status)
        if most is None:
            return
        late = [each for each in status.consumers if each.lag is not None and (each.lag_is_capped or each.lag > most)]
        if late:
            names = ", ".join(f"{each.name} ({_lag(each)})" for each in late)
            raise CommandError(f"More than {most} events behind: {names}.")

    def _write(self, status: LogStatus) -> None:
        without = f"{status.unsequenced}{' or more' if status.unsequenced_is_capped else ''}"
        self.stdout.write(f"Log {status.log}, epoch {status.epoch}")
        self.stdout.write(f"Head {status.head}, entries without a position {without}")
        beats = (
            ("Celery worker", status.worker_seen_at),
            ("Celery beat", status.beat_seen_at),
            ("Follower", status.follower_seen_at),
        )
        for name, seen in beats:
            self.stdout.write(f"{name} last seen: {seen.isoformat(timespec='seconds') if seen else 'never'}")
        if not status.consumers:
            self.stdout.write("No consumers.")
            return
        self.stdout.write("")
        header = ("CONSUMER", "STATE", "OFFSET", "LAG", "BEHIND", "WHY")
        self.write_table(header, [_row(each) for each in status.consumers])


def _row(status: ConsumerStatus) -> tuple[str, ...]:
    return (
        status.name,
        status.state,
        "-" if status.offset is None else str(status.offset),
        _lag(status),
        "-" if status.lag_seconds is None else f"{status.lag_seconds:.0f} s",
        status.reason,
    )


def _lag(status: ConsumerStatus) -> str:
    if status.lag is None:
        return "-"
    return f"{status.lag}+" if status.lag_is_capped else str(status.lag)
