"""Create the forwarder's periodic task."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS

from ...forwarding.schedule import PERIODIC_TASK, beat_is_ready, ensure_periodic_task


class Command(BaseCommand):
    help = "Creates the periodic task that forwards events, unless it exists. migrate does this too."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Alias of the database of django_celery_beat.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not beat_is_ready(using=options["database"]):
            raise CommandError(
                "django_celery_beat is not in INSTALLED_APPS, or its tables are not on this database: add it, then migrate."
            )
        if ensure_periodic_task(using=options["database"]):
            self.stdout.write(f"Created the periodic task {PERIODIC_TASK!r}.")
        else:
            self.stdout.write(f"The periodic task {PERIODIC_TASK!r} exists; it was left as it is.")
