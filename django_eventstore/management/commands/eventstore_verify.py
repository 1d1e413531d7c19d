"""Check that the log keeps its promises."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...inspection import Report, verify
from ..command import EventStoreCommand


class Command(EventStoreCommand):
    help = (
        "Runs the sequencer, then looks at every entry and every position. Exits with status 1 when something is wrong."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--repair", action="store_true", help="Give a position to every entry that has none, then look again."
        )
        parser.add_argument("--json", action="store_true", help="Write one JSON document.")

    def perform(self, using: str, options: dict[str, Any]) -> None:
        report = verify(using, repair=options["repair"])
        if options["json"]:
            self.write_json(report)
        else:
            self._write(report)
        if not report.is_sound:
            kinds = ", ".join(sorted({finding.kind for finding in report.findings}))
            raise CommandError(f"The log is not sound: {kinds}.")

    def _write(self, report: Report) -> None:
        self.stdout.write(f"Log {report.log}, epoch {report.epoch}, head {report.head}, {report.seconds:.1f} s")
        if report.pruned_through:
            self.stdout.write(f"Pruned through position {report.pruned_through}.")
        if report.repaired is not None:
            self.stdout.write(f"Repaired: {report.repaired} entries were given a position.")
        for finding in report.findings:
            self.stdout.write(f"{finding.kind}: {finding.count} × {finding.message}")
            for example in finding.examples:
                self.stdout.write(f"    {example}")
        if report.is_sound:
            self.stdout.write("Nothing is wrong.")
