"""SQLite: triggers, which a rebuilt table has lost, and what the connection promises."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.db.backends.base.base import BaseDatabaseWrapper

from .statements import created_objects

__all__ = ["check_sqlite"]

FULL = 2
OPTIONS = (
    '"OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, '
    '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"}'
)


def check_sqlite(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    """Look into the schema and at the connection's settings."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        present = {name for (name,) in cursor.fetchall()}
        cursor.execute("PRAGMA synchronous")
        synchronous = cursor.fetchone()[0]
    return [
        *_check_triggers(connection.alias, present),
        *_check_synchronous(connection.alias, synchronous),
        *_check_transaction_mode(connection),
    ]


def _check_triggers(alias: str, present: set[str]) -> list[CheckMessage]:
    return [
        Error(
            f"Database alias {alias!r} lacks the trigger {name}.",
            hint="`migrate` does not make it again. In `manage.py dbshell` run this statement, then "
            f"`manage.py eventstore_verify --repair`:\n{statement}",
            id="django_eventstore.E011",
        )
        for name, statement in created_objects("sqlite").items()
        if name not in present
    ]


def _check_synchronous(alias: str, synchronous: int) -> list[CheckMessage]:
    if synchronous >= FULL:
        return []
    return [
        Warning(
            f"Database alias {alias!r} runs with PRAGMA synchronous = {synchronous}: a power cut can take back committed "
            "events, and positions that readers have seen then name other events.",
            hint=f"Put this into its entry of DATABASES: {OPTIONS}",
            id="django_eventstore.W011",
        )
    ]


def _check_transaction_mode(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or "DEFERRED"
    if mode.upper() in ("IMMEDIATE", "EXCLUSIVE"):
        return []
    return [
        Warning(
            f"Database alias {connection.alias!r} begins its transactions {mode.upper()}: a transaction that reads before "
            "it writes fails with “database is locked” beside another writer, without waiting.",
            hint=f"Put this into its entry of DATABASES: {OPTIONS}",
            id="django_eventstore.W012",
        )
    ]
