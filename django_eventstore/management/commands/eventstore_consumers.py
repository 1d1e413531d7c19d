"""List, pause, resume, move, divide, rename and retire consumers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from ...consumers import declared_consumer, forget_keys, move, pause, rename, resume, retire, set_partitions
from ...inspection import consumer_statuses
from ...store import log_state, position_before
from ..command import EventStoreCommand


class Command(EventStoreCommand):
    help = (
        "Lists the consumers; pauses and resumes one, moves its offset, divides it into partitions, gives it another name, "
        "or forgets it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        self.add_database(actions.add_parser("list", help="Show every consumer with its state."))
        stop = actions.add_parser("pause", help="Stop delivering after the batch in hand.")
        go_on = actions.add_parser("resume", help="Deliver again at once, also when it waits for its sender.")
        go_to = actions.add_parser("move", help="Go on elsewhere: back, to have events again, or forwards, past some.")
        divide = actions.add_parser("partition", help="Divide it, so that several workers can deliver for it at once.")
        follow = actions.add_parser("rename", help="Go on under another name, which the code declares now.")
        forget = actions.add_parser("retire", help="Forget a consumer that the code does not declare any more.")
        keys = actions.add_parser("forget-keys", help="Remove old keys of once(), of all handlers.")
        self.add_database(keys)
        keys.add_argument("--days", type=int, required=True, metavar="N", help="Those that are older than N days.")
        for each in (stop, go_on, go_to, divide, follow, forget):
            each.add_argument("name", help="The consumer.")
            self.add_database(each)
        stop.add_argument("--reason", default="", help="Why, for those who look at the consumer later.")
        place = go_to.add_mutually_exclusive_group(required=True)
        place.add_argument("--to", type=int, metavar="OFFSET", help="After this position.")
        place.add_argument("--to-time", metavar="TIME", help="Before the first event of this time, in ISO 8601.")
        place.add_argument("--to-beginning", action="store_true", help="To the beginning of the log.")
        place.add_argument("--to-end", action="store_true", help="To the end of the log.")
        follow.add_argument("new", help="The name it has now.")
        follow.add_argument(
            "--again", action="store_true", help="Also when the new one has been at work: it has events again."
        )
        forget.add_argument("--yes", action="store_true", help="Do not ask.")
        divide.add_argument("count", type=int, help="How many partitions, 1 to 64.")

    def perform(self, using: str, options: dict[str, Any]) -> None:
        action = options["action"]
        if action == "list":
            self._list(using)
            return
        if action == "forget-keys":
            self._forget_keys(using, options["days"])
            return
        if action in ("rename", "retire"):
            self._rename_or_retire(using, options)
            return
        consumer = declared_consumer(options["name"])
        if action == "pause":
            pause(consumer.name, reason=options["reason"], using=using)
            self.stdout.write(f"Paused {consumer.name}.")
        elif action == "resume":
            resume(consumer.name, using=using)
            self.stdout.write(f"Resumed {consumer.name}.")
        elif action == "move":
            offset = self._offset(using, options)
            before = move(consumer, offset, using=using)
            self.stdout.write(f"Moved {consumer.name} from offset {before} to {offset}.")
        elif action == "partition":
            set_partitions(consumer, options["count"], using=using)
            self.stdout.write(f"Partitions of {consumer.name}: {options['count']}.")

    def _rename_or_retire(self, using: str, options: dict[str, Any]) -> None:
        name = options["name"]
        if options["action"] == "rename":
            new = declared_consumer(options["new"])
            standing = rename(name, new, using=using, again=options["again"])
            self.stdout.write(
                f"Renamed {name} to {new.name}, at offset {standing.offset}, with {standing.failures} failed deliveries."
            )
            return
        self.confirm(
            f"Forget the offset of {name}, and what of it has failed? Should it come back, it is a new consumer.",
            yes=options["yes"],
        )
        standing = retire(name, using=using)
        self.stdout.write(f"Retired {name} at offset {standing.offset}, with {standing.failures} failed deliveries.")

    def _forget_keys(self, using: str, days: int) -> None:
        if days < 0:
            raise CommandError("--days takes 0 or more.")
        removed = forget_keys(older_than=timedelta(days=days), using=using)
        self.stdout.write(f"Removed {removed} keys.")

    def _offset(self, using: str, options: dict[str, Any]) -> int:
        if options["to"] is not None:
            return int(options["to"])
        if options["to_beginning"]:
            return 0
        head = log_state(using).head
        return head if options["to_end"] else position_before(self._moment(options["to_time"]), head=head, using=using)

    def _moment(self, text: str) -> datetime:
        try:
            # Python 3.10 reads no Z.
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError as error:
            raise CommandError(f"--to-time takes a time like 2026-01-31T12:00:00+00:00; got {text!r}.") from error
        return moment if timezone.is_aware(moment) else timezone.make_aware(moment)

    def _list(self, using: str) -> None:
        statuses = consumer_statuses(using)
        if not statuses:
            self.stdout.write("No consumers.")
            return
        self.write_table(
            (
                "CONSUMER",
                "STATE",
                "OFFSET",
                "PARTITIONS",
                "BLOCKED",
                "PARKED",
                "ATTEMPTS",
                "RETRY AT",
                "HELD BY",
                "WHY",
            ),
            [
                (
                    each.name,
                    each.state,
                    "-" if each.offset is None else str(each.offset),
                    str(each.partitions),
                    str(each.blocked),
                    str(each.parked),
                    str(each.attempts),
                    each.retry_at.isoformat(timespec="seconds") if each.retry_at else "-",
                    each.held_by or "-",
                    each.reason,
                )
                for each in statuses
            ],
        )
