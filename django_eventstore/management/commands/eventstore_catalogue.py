"""The events of the project: which there are, in which form, who wants them, and what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from ...exceptions import EventStoreError
from ...inspection import Catalogue, Wanted, asyncapi, catalogue, changes_since
from ...recording.producers import producers
from ..command import TableCommand


class Command(TableCommand):
    help = (
        "Lists the events that the project declares, with versions, schemas and who wants them. With --check compares them "
        "with an earlier catalogue, and exits with status 1 when a change breaks a reader. No database is needed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=("text", "json", "asyncapi"),
            default="text",
            help="A table, the catalogue as JSON, or an AsyncAPI 3 document. Default: text.",
        )
        parser.add_argument("--output", type=Path, metavar="FILE", help="Write to this file.")
        parser.add_argument(
            "--check", type=Path, metavar="FILE", help="An earlier catalogue, in JSON, to compare the code with."
        )
        parser.add_argument(
            "--exact", action="store_true", help="With --check: any difference between FILE and the code is a failure."
        )
        parser.add_argument("--title", default="Domain events", help="Of the AsyncAPI document.")
        parser.add_argument("--api-version", default="1", help="Of the AsyncAPI document.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["exact"] and options["check"] is None:
            raise CommandError("--exact belongs to --check: name the FILE to compare with.")
        if options["output"] is not None and options["format"] == "text":
            raise CommandError("A file is written as --format json or --format asyncapi.")
        if options["output"] is not None and options["check"] is not None:
            raise CommandError("--check compares and writes nothing: leave --output out.")
        try:
            found = catalogue(producers=producers())
            if options["check"] is not None:
                self._check(options["check"], found, exact=options["exact"])
            else:
                self._write(found, options)
        except (EventStoreError, ImproperlyConfigured, OSError, ValueError) as error:
            raise CommandError(str(error).strip() or repr(error)) from error

    def _write(self, found: Catalogue, options: dict[str, Any]) -> None:
        if options["format"] == "text":
            self._write_tables(found)
            return
        document = (
            found.document()
            if options["format"] == "json"
            else asyncapi(found, title=options["title"], version=options["api_version"])
        )
        if options["output"] is None:
            self.stdout.write(_json(document), ending="")
        else:
            options["output"].write_text(_json(document), encoding="utf-8")

    def _write_tables(self, found: Catalogue) -> None:
        rows: list[tuple[str, ...]] = [
            (each.type, str(each.version), each.cls, ", ".join(each.aliases), *_names(each.wanted))
            for each in found.events
        ]
        rows += [(name, "", "", "", *_names(wanted)) for name, wanted in found.by_name.items()]
        if not rows and not found.retired:
            self.stdout.write("No events are declared.")
        if rows:
            self.write_table(("TYPE", "VERSION", "CLASS", "ALIASES", "HANDLERS", "CONSUMERS"), rows)
        for name, reason in found.retired.items():
            self.stdout.write(f"Retired: {name}{f' ({reason})' if reason else ''}")

    def _check(self, path: Path, found: Catalogue, *, exact: bool) -> None:
        text = path.read_text(encoding="utf-8")
        try:
            changes = changes_since(json.loads(text), found)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"{path}: {error}") from error
        for change in changes:
            self.stdout.write(str(change))
        breaking = sum(change.breaks for change in changes)
        if breaking:
            raise CommandError(f"{breaking} breaking change{'s' if breaking > 1 else ''} since {path}.")
        if text == _json(found.document()):
            self.stdout.write("Nothing changed.")
            return
        advice = f"Renew it: eventstore_catalogue --format json --output {path}"
        if exact:
            raise CommandError(f"{path} is not up to date. {advice}")
        self.stdout.write(f"Nothing breaks, and {path} is not up to date. {advice}")


def _json(document: dict[str, Any]) -> str:
    """The same text for the same document, with a line for each fact, so that a diff shows what changed."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _names(wanted: Wanted) -> tuple[str, str]:
    return ", ".join(each.name for each in wanted.handlers), ", ".join(wanted.consumers)
