"""Django's flush, for a database with an append-only log."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush
from django.db import connections, router

from ...capture import forget_known_consumers
from ...models import EventEntry
from ...store.door import open_door


class Command(flush.Command):
    """Emptying the whole database is the one time when the log may go as well; ``TransactionTestCase`` does it."""

    def handle(self, **options: Any) -> None:
        alias = options["database"]
        connection = connections[alias]
        if not router.allow_migrate_model(alias, EventEntry) or not _has_log(alias):
            super().handle(**options)
            return
        with open_door(alias):
            super().handle(**options)
            if connection.vendor == "sqlite":
                with (
                    connection.cursor() as cursor
                ):  # an empty log begins at position 1 again, as on the other databases
                    cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'eventstore_position'")
        forget_known_consumers()


def _has_log(alias: str) -> bool:
    return EventEntry._meta.db_table in connections[alias].introspection.table_names()
