"""MariaDB: triggers and who may make them, and the flush of the log."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.db.backends.base.base import BaseDatabaseWrapper

from .statements import created_objects

__all__ = ["check_mariadb"]

TRIGGERS = "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()"
SERVER = "SELECT @@global.innodb_flush_log_at_trx_commit, @@global.log_bin, @@global.log_bin_trust_function_creators"


def check_mariadb(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    """Look into the catalog and at the server's variables."""
    ((flush, log_bin, trusts),) = _query(connection, SERVER)
    return [
        *_check_triggers(connection, may_need_super=bool(log_bin and not trusts)),
        *_check_flush(connection.alias, int(flush)),
    ]


def _query(connection: BaseDatabaseWrapper, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _check_triggers(connection: BaseDatabaseWrapper, *, may_need_super: bool) -> list[CheckMessage]:
    alias = connection.alias
    # Any privilege on the tables is enough to see that a trigger is there.
    present = {name for (name,) in _query(connection, TRIGGERS)}
    note = (
        " The server writes a binary log and trusts no ordinary account with triggers: as an administrator run SET GLOBAL "
        "log_bin_trust_function_creators = 1 before."
        if may_need_super
        else ""
    )
    return [
        Error(
            f"Database alias {alias!r} lacks the trigger {name}.",
            hint=f"`migrate` does not make it again.{note} In the mariadb client set DELIMITER //, then run this statement "
            f"and `manage.py eventstore_verify --repair`:\n{statement}",
            id="django_eventstore.E011",
        )
        for name, statement in created_objects("mysql").items()
        if name not in present
    ]


def _check_flush(alias: str, flush: int) -> list[CheckMessage]:
    if flush == 1:
        return []
    return [
        Warning(
            f"The server of database alias {alias!r} has innodb_flush_log_at_trx_commit = {flush}: a power cut can take "
            "back committed events, and positions that readers have seen then name other events.",
            hint="Run SET GLOBAL innodb_flush_log_at_trx_commit = 1; and put the same into the server's configuration.",
            id="django_eventstore.W013",
        )
    ]
