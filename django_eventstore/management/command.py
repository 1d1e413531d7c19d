"""What the commands share: the database they speak of, and how they say that something is wrong."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, connections, router

from ..exceptions import EventStoreError
from ..models import EventEntry

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["EventStoreCommand", "TableCommand", "printable"]

# What a terminal obeys, C1 codes too: texts that come from events and their errors are shown, not obeyed.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class TableCommand(BaseCommand):
    """Can write tables."""

    def write_table(self, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        """Write columns as wide as their widest cell."""
        rows = [tuple(printable(cell).replace("\n", " ") for cell in row) for row in rows]
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        for row in (header, *rows):
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class EventStoreCommand(TableCommand, ABC):
    """Has ``--database``; what goes wrong in ``perform`` is a CommandError: exit status 1 and one sentence."""

    def add_database(self, parser: CommandParser) -> None:
        """Add the option ``--database``."""
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="Alias of the log's database; by default where the routers write events.",
        )

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_database(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(EventEntry)
        try:
            self.perform(using, options)
        except (DatabaseError, EventStoreError, ImproperlyConfigured, ValueError) as error:
            raise CommandError(str(error).strip() or repr(error)) from error

    @abstractmethod
    def perform(self, using: str, options: dict[str, Any]) -> None:
        """Do what the command is for."""

    def write_json(self, value: DataclassInstance | Sequence[DataclassInstance]) -> None:
        """Write one JSON document to standard output, and nothing else."""
        plain: object = [asdict(each) for each in value] if isinstance(value, Sequence) else asdict(value)
        self.stdout.write(json.dumps(plain, cls=DjangoJSONEncoder, indent=2))

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask, and go on after a y only. ``yes``: it was answered before. Raises CommandError."""
        if yes:
            return
        self.stdout.write(f"{question} [y/N] ", ending="")
        self.stdout.flush()
        try:
            answer = input()
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was done. Answer y, or add --yes.")


def printable(text: str) -> str:
    """The text with its control characters spelt out; line breaks and tabs stay."""
    return CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
