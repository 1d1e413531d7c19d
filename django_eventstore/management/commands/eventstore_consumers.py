"""List, pause and resume consumers, and skip the event that stopped one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ...consumers import declared_consumer, pause, resume, skip
from ...inspection import consumer_statuses
from ..command import EventStoreCommand


class Command(EventStoreCommand):
    help = "Lists the consumers, pauses and resumes one, or skips the event that one fails at."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        self.add_database(actions.add_parser("list", help="Show every consumer with its state and failure."))
        stop = actions.add_parser("pause", help="Stop delivering after the batch in hand.")
        go_on = actions.add_parser("resume", help="Deliver again at once, also when it waits after a failure.")
        leave = actions.add_parser("skip", help="Move the offset past the failing event, which is never delivered.")
        for each in (stop, go_on, leave):
            each.add_argument("name", help="The consumer.")
            self.add_database(each)
        stop.add_argument("--reason", default="", help="Why, for those who look at the consumer later.")
        leave.add_argument("--position", type=int, metavar="N", help="Skip only if this is the failing position.")

    def perform(self, using: str, options: dict[str, Any]) -> None:
        action = options["action"]
        if action == "list":
            self._list(using)
            return
        name = declared_consumer(options["name"]).name
        if action == "pause":
            pause(name, reason=options["reason"], using=using)
            self.stdout.write(f"Paused {name}.")
        elif action == "resume":
            resume(name, using=using)
            self.stdout.write(f"Resumed {name}.")
        elif action == "skip":
            entry = skip(name, using=using, position=options["position"])
            stream = f" of stream {entry.stream!r}" if entry.stream else ""
            self.stdout.write(
                f"Skipped position {entry.position}: {entry.type}{stream}, event id {entry.event_id}. "
                f"{name} will not receive it."
            )

    def _list(self, using: str) -> None:
        statuses = consumer_statuses(using)
        if not statuses:
            self.stdout.write("No consumers.")
            return
        self.write_table(
            ("CONSUMER", "STATE", "OFFSET", "FAILS AT", "ATTEMPTS", "RETRY AT", "HELD BY", "WHY"),
            [
                (
                    each.name,
                    each.state,
                    "-" if each.offset is None else str(each.offset),
                    "-" if each.failed_position is None else str(each.failed_position),
                    str(each.attempts),
                    each.retry_at.isoformat(timespec="seconds") if each.retry_at else "-",
                    each.held_by or "-",
                    each.reason,
                )
                for each in statuses
            ],
        )
