"""List the log's epochs, or begin a new one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...models import Epoch
from ...store import begin_epoch, ensure_log
from ..command import EventStoreCommand


class Command(EventStoreCommand):
    help = (
        "Lists the epochs of the log. With --new begins one: after a restore that the database cannot tell by itself, so "
        "that outside readers are told instead of skipping events."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--new", action="store_true", help="Begin a new epoch.")
        parser.add_argument(
            "--after",
            type=int,
            metavar="N",
            help="The last position whose meaning has not changed for readers; by default the head.",
        )
        parser.add_argument("--reason", default="", help="Why, for those who read the list later.")

    def perform(self, using: str, options: dict[str, Any]) -> None:
        if options["new"]:
            epoch = begin_epoch(using, after=options["after"], reason=options["reason"] or "eventstore_epoch --new")
            self.stdout.write(f"Epoch {epoch.number} began after position {epoch.began_after}.")
            return
        if options["after"] is not None or options["reason"]:
            raise CommandError("--after and --reason belong to a new epoch: add --new.")
        ensure_log(using)
        epochs = list(Epoch.objects.using(using).order_by("number"))
        self.stdout.write(f"Log {epochs[-1].log}")
        self.write_table(
            ("EPOCH", "BEGAN AFTER", "BEGAN AT", "REASON"),
            [
                (str(each.number), str(each.began_after), each.began_at.isoformat(timespec="seconds"), each.reason)
                for each in epochs
            ],
        )
