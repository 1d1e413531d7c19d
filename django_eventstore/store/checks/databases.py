"""Which databases are looked at, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.db import DatabaseError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from ...models import EventEntry, LogPosition
from .mariadb import check_mariadb
from .postgresql import check_postgresql
from .sqlite import check_sqlite

__all__ = ["check_databases"]

CHECKS: dict[str, Callable[[BaseDatabaseWrapper], list[CheckMessage]]] = {
    "postgresql": check_postgresql,
    "mysql": check_mariadb,
    "sqlite": check_sqlite,
}


def check_databases(*, databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    """Check each of the named databases that holds a log; without names no database is touched."""
    return [
        message
        for alias in databases or ()
        if router.allow_migrate_model(alias, EventEntry)
        for message in _check(connections[alias])
    ]


def _check(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    try:
        supported = connection.vendor in CHECKS and getattr(connection, "mysql_is_mariadb", True)
        if not supported:
            return [_unsupported(connection)]
        messages = _check_autocommit(connection)
        tables = set(connection.introspection.table_names())
        if {EventEntry._meta.db_table, LogPosition._meta.db_table} <= tables:
            # Before the migration there is nothing to miss: `migrate` runs these checks first.
            messages += CHECKS[connection.vendor](connection)
        return messages
    except DatabaseError as error:
        return [
            Warning(
                f"Database alias {connection.alias!r} could not be checked: {str(error).strip()}",
                hint="Make sure that the server can be reached and that the account may read the catalog, and check again.",
                id="django_eventstore.W014",
            )
        ]


def _unsupported(connection: BaseDatabaseWrapper) -> CheckMessage:
    return Error(
        f"The event log does not support {connection.display_name}, the database of alias {connection.alias!r}.",
        hint=(
            "Use PostgreSQL, MariaDB or SQLite. MySQL is not supported: the sequencer uses MariaDB's compound statements "
            "and has not run there."
        ),
        id="django_eventstore.E010",
    )


def _check_autocommit(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    if connection.settings_dict["AUTOCOMMIT"]:
        return []
    return [
        Warning(
            f"Database alias {connection.alias!r} has AUTOCOMMIT False, so that every statement is inside a transaction: "
            "the log cannot be brought up to date, and nothing is forwarded.",
            hint=(
                "Remove AUTOCOMMIT from this entry of DATABASES, or give the event store an alias of its own, with the "
                "same database and AUTOCOMMIT True, for workers and readers."
            ),
            id="django_eventstore.W010",
        )
    ]
