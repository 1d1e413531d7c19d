"""Django's flush, for a database with an append-only log."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush
from django.core.management.sql import emit_post_migrate_signal
from django.db import connections, router

from ...forwarding import forget_forwarders
from ...models import Epoch, EventEntry
from ...recording import forget_known_consumers
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
            super().handle(**{**options, "inhibit_post_migrate": True})
            emptied = not Epoch.objects.using(alias).exists()  # or the question was answered with no
            if emptied and connection.vendor == "sqlite":
                with connection.cursor() as cursor:
                    # An empty log begins at position 1 again, as on the other databases.
                    cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'eventstore_position'")
        if not emptied:
            return
        forget_known_consumers()
        forget_forwarders()
        if not options.get("inhibit_post_migrate", False):  # not before: receivers look at where the log ends
            emit_post_migrate_signal(options["verbosity"], options["interactive"], alias)


def _has_log(alias: str) -> bool:
    return EventEntry._meta.db_table in connections[alias].introspection.table_names()
