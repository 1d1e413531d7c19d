"""List what could not be delivered, and ask for another try, or for going on without it."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...consumers import declared_consumers, discard, retry, skip
from ...events import decode_mapping
from ...inspection import (
    decision_status,
    delivered_entry,
    delivery_decisions,
    failed_deliveries,
    failure_status,
    queued_behind,
)
from ...models import ConsumerState, DeliveryState, FailedDelivery
from ..command import EventStoreCommand, printable

QUESTIONS = {
    "retry": "Try {these} again?",
    "skip": "Pass over {these}? Their consumers never get these events.",
    "discard": "Pass over {these}, and over all that waits behind them? Their consumers never get these events.",
}


class Command(EventStoreCommand):
    help = (
        "Lists the failed deliveries and what was decided about them, and asks for decisions. A worker carries them out "
        "with its next tick."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        shown = actions.add_parser("list", help="Show the failed deliveries, or those that match.")
        one = actions.add_parser("show", help="Show one with its error and payload.")
        again = actions.add_parser("retry", help="Try again, with all attempts.")
        without = actions.add_parser("skip", help="Pass over the events; their streams go on.")
        thrown = actions.add_parser("discard", help="Pass over the events and what waits behind them.")
        audit = actions.add_parser("decisions", help="Show what was decided and carried out, the newest first.")
        one.add_argument("consumer", metavar="CONSUMER")
        one.add_argument("position", metavar="POSITION", type=int)
        for each in (again, without, thrown):
            each.add_argument("one", nargs="*", metavar="CONSUMER POSITION", help="The one at this position.")
            each.add_argument("--all", action="store_true", help="All of them, without a filter.")
            each.add_argument("--yes", action="store_true", help="Do not ask.")
            each.add_argument("--reason", default="", required=each is thrown, help="Why; it is kept.")
            each.add_argument("--by", default=None, help="Who decides; by default the system's user.")
        for each in (shown, again, without, thrown, audit):
            _add_filters(each)
        for each in (shown, again, without, thrown):
            states = [state for state in DeliveryState.values if each is shown or state != DeliveryState.TRYING]
            each.add_argument("--state", choices=states, help="Of this state.")
        for each in (shown, audit):
            each.add_argument("--json", action="store_true", help="Write one JSON document.")
        form = again.add_mutually_exclusive_group()
        form.add_argument("--per-second", type=int, metavar="N", help="Spread: so many in each second.")
        form.add_argument(
            "--payload",
            metavar="FILE",
            help="Deliver this JSON object in place of the payload; - reads standard input.",
        )
        audit.add_argument("--limit", type=int, default=100, metavar="N", help="So many; 100 by default.")
        for each in (shown, one, again, without, thrown, audit):
            self.add_database(each)

    def perform(self, using: str, options: dict[str, Any]) -> None:
        action = options["action"]
        if action == "list":
            self._list(using, options)
        elif action == "show":
            self._show(_one(options["consumer"], options["position"], using=using))
        elif action == "decisions":
            self._decisions(using, options)
        else:
            self._decide(using, options)

    def _list(self, using: str, options: dict[str, Any]) -> None:
        failures = [failure_status(row) for row in _matching(using, options).iterator()]
        if options["json"]:
            self.write_json(failures)
            return
        if not failures:
            self.stdout.write("No failed deliveries.")
            return
        self.write_table(
            ("CONSUMER", "POSITION", "STREAM", "TYPE", "STATE", "ATTEMPTS", "RETRY AT", "ASKED FOR", "ERROR"),
            [
                (
                    each.consumer,
                    str(each.position),
                    each.stream or "-",
                    each.type,
                    each.state,
                    str(each.attempts),
                    each.retry_at.isoformat(timespec="seconds") if each.retry_at else "-",
                    each.request or "-",
                    _last_line(each.error),
                )
                for each in failures
            ],
        )

    def _show(self, failure: FailedDelivery) -> None:
        status = failure_status(failure)
        entry = delivered_entry(failure)
        for name in status.__dataclass_fields__:
            value = getattr(status, name)
            if name != "error" and value not in ("", None):
                self.stdout.write(printable(f"{name}: {value}"))
        self.stdout.write(f"waiting behind it: {queued_behind(failure)}")
        decided = delivery_decisions(consumer=failure.consumer, using=str(failure._state.db))
        for decision in decided.filter(position=failure.position).order_by("id"):
            self.stdout.write(printable(f"decided: {decision.decision} by {decision.by}: {decision.reason}"))
        self.stdout.write(f"\npayload: {printable(entry.payload) if entry else 'the event is not in the log any more'}")
        if failure.edited_payload is not None:
            self.stdout.write(f"edited payload: {printable(failure.edited_payload)}")
        if failure.error:
            self.stdout.write(f"\n{printable(failure.error)}")

    def _decisions(self, using: str, options: dict[str, Any]) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit takes a positive number.")
        matching = delivery_decisions(
            consumer=options["consumer"], stream=options["stream"], types=options["type"], using=using
        )
        rows = [decision_status(row) for row in matching[: options["limit"]]]
        if options["json"]:
            self.write_json(rows)
            return
        if not rows:
            self.stdout.write("No decisions.")
            return
        self.write_table(
            ("AT", "CONSUMER", "POSITION", "STREAM", "TYPE", "DECISION", "BY", "BECAUSE"),
            [
                (
                    each.at.isoformat(timespec="seconds"),
                    each.consumer,
                    str(each.position),
                    each.stream or "-",
                    each.type,
                    each.decision,
                    each.by or "-",
                    each.reason,
                )
                for each in rows
            ],
        )

    def _decide(self, using: str, options: dict[str, Any]) -> None:
        failures = self._chosen(using, options)
        if not failures:
            self.stdout.write("No failed deliveries match.")
            return
        payload = _payload(options["payload"], failures) if options.get("payload") is not None else None
        self._warn(using, failures)
        counts = Counter(failure.consumer for failure in failures)
        for name, count in sorted(counts.items()):
            self.stdout.write(f"{name}: {count}")
        these = f"{len(failures)} failed {'delivery' if len(failures) == 1 else 'deliveries'}"
        action = options["action"]
        self.confirm(QUESTIONS[action].format(these=these), yes=options["yes"])
        who = {"by": options["by"] if options["by"] is not None else _system_user(), "reason": options["reason"]}
        if action == "retry":
            asked = retry(failures, payload=payload, per_second=options["per_second"], **who)
        else:
            asked = {"skip": skip, "discard": discard}[action](failures, **who)
        self.stdout.write(f"Asked for {asked}: {action}. The next tick carries it out.")
        if asked < len(failures):
            self.stdout.write(f"{len(failures) - asked} did not wait for it: they were delivered meanwhile.")

    def _chosen(self, using: str, options: dict[str, Any]) -> list[FailedDelivery]:
        """The rows as they are now; what comes after them in their streams is not meant."""
        named, filtered = options["one"], any(options[name] for name in ("consumer", "stream", "type", "state", "all"))
        if named and filtered:
            raise CommandError("Name one failed delivery, or filter them, not both.")
        if named:
            if len(named) != 2 or not named[1].isdecimal():
                raise CommandError("One failed delivery is named by its CONSUMER and POSITION.")
            return [_one(named[0], int(named[1]), using=using)]
        if not filtered:
            raise CommandError("Name CONSUMER and POSITION, or a filter, or --all.")
        if options.get("payload") is not None:
            raise CommandError("--payload is for one failed delivery: name its CONSUMER and POSITION.")
        rows = _matching(using, options).exclude(state=DeliveryState.TRYING)
        return list(rows.defer("error", "edited_payload"))

    def _warn(self, using: str, failures: Sequence[FailedDelivery]) -> None:
        """Say when nobody will carry it out, or not soon."""
        names = {failure.consumer for failure in failures}
        unknown = sorted(names - set(declared_consumers()))
        if unknown:
            raise CommandError(
                f"Not declared, so that no worker carries it out: {', '.join(unknown)}. See eventstore_consumers, rename and "
                "retire."
            )
        paused = ConsumerState.objects.using(using).filter(pk__in=names, paused_at__isnull=False)
        for name in paused.order_by("pk").values_list("pk", flat=True):
            self.stdout.write(f"{name} is paused: it is carried out when it is resumed.")


def _add_filters(parser: ArgumentParser) -> None:
    parser.add_argument("--consumer", metavar="NAME", help="Of this consumer.")
    parser.add_argument("--stream", metavar="STREAM", help="Of this stream.")
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="TYPE",
        help="Of this type, or prefix such as orders.*; repeatable.",
    )


def _matching(using: str, options: Mapping[str, Any]) -> Any:
    return failed_deliveries(
        consumer=options["consumer"],
        stream=options["stream"],
        types=options["type"],
        state=options["state"],
        using=using,
    )


def _one(consumer: str, position: int, *, using: str) -> FailedDelivery:
    rows = FailedDelivery.objects.using(using).filter(consumer=consumer, position=position)
    failure: FailedDelivery | None = rows.first()
    if failure is None:
        raise CommandError(f"No failed delivery of {consumer!r} at position {position}.")
    return failure


def _payload(path: str, failures: Sequence[FailedDelivery]) -> dict[str, object]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--payload {path}: {error}") from error
    return decode_mapping(text, type=failures[0].type)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container that runs under a number
        return f"uid {os.getuid()}"
