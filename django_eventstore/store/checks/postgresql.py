"""PostgreSQL: triggers, the procedure, the sequence of ids, privileges."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .statements import created_objects

__all__ = ["check_postgresql"]

STAMP = "eventstore_entry_stamp"
ENABLE_STAMP = f"ALTER TABLE eventstore_entry ENABLE ALWAYS TRIGGER {STAMP};"
PROCEDURE = "eventstore_sequence"

TRIGGERS = """
    SELECT t.tgname, t.tgenabled::text, t.tgrelid::regclass::text FROM pg_trigger t
    WHERE NOT t.tgisinternal AND t.tgrelid IN (to_regclass('eventstore_entry'), to_regclass('eventstore_position'))
"""
ROUTINES = "SELECT proname FROM pg_proc WHERE pg_function_is_visible(oid) AND proname LIKE 'eventstore\\_%%'"
CACHE = """
    SELECT seqrelid::regclass::text, seqcache FROM pg_sequence
    WHERE seqrelid = pg_get_serial_sequence('eventstore_entry', 'id')::regclass
"""
# What a pass of the sequencer does to each table.
NEEDED = {
    "eventstore_entry": ("SELECT", "INSERT"),
    "eventstore_position": ("SELECT", "INSERT"),
    "eventstore_type": ("SELECT", "INSERT"),
    "eventstore_tick": ("SELECT", "INSERT", "DELETE"),
    "eventstore_epoch": ("SELECT", "INSERT"),
}
TABLE_PRIVILEGE = "SELECT has_table_privilege(to_regclass(%s), %s)"
ROUTINE_PRIVILEGE = """
    SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc
    WHERE pg_function_is_visible(oid) AND proname = %s
"""


def check_postgresql(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    """Look into the catalog of one database."""
    alias = connection.alias
    return [
        *_check_routines(connection, alias),
        *_check_triggers(connection, alias),
        *_check_cache(connection, alias),
        *_check_privileges(connection, alias),
    ]


def _query(connection: BaseDatabaseWrapper, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or [])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _created(kind: str) -> dict[str, str]:
    objects = created_objects("postgresql")
    return {
        name: statement for name, statement in objects.items() if (" TRIGGER " in statement[:40]) == (kind == "TRIGGER")
    }


def _check_routines(connection: BaseDatabaseWrapper, alias: str) -> list[CheckMessage]:
    present = {name for (name,) in _query(connection, ROUTINES)}
    return [
        Error(
            f"Database alias {alias!r} lacks the routine {name}, without which the log does not work.",
            hint=f"`migrate` does not make it again. Run this statement:\n{statement}",
            id="django_eventstore.E011",
        )
        for name, statement in _created("ROUTINE").items()
        if name not in present
    ]


def _check_triggers(connection: BaseDatabaseWrapper, alias: str) -> list[CheckMessage]:
    present = {name: (enabled, table) for name, enabled, table in _query(connection, TRIGGERS)}
    messages: list[CheckMessage] = []
    for name, statement in _created("TRIGGER").items():
        if name not in present:
            missing = f"{statement}\n{ENABLE_STAMP}" if name == STAMP else statement
            messages.append(
                Error(
                    f"Database alias {alias!r} lacks the trigger {name}.",
                    hint=f"`migrate` does not make it again. Run this statement:\n{missing}",
                    id="django_eventstore.E011",
                )
            )
        else:
            messages += _check_enabled(alias, name, *present[name])
    return messages


def _check_enabled(alias: str, name: str, enabled: str, table: str) -> list[CheckMessage]:
    if name == STAMP and enabled != "A":
        return [
            Error(
                f"The trigger {name} of database alias {alias!r} does not fire always: entries that are restored or "
                "replicated keep foreign transaction ids, and the sequencer never finds them.",
                hint=f"Run: {ENABLE_STAMP} Then run `manage.py eventstore_verify --repair`.",
                id="django_eventstore.E012",
            )
        ]
    if enabled in ("D", "R"):
        return [
            Error(
                f"The trigger {name} of database alias {alias!r} is disabled: the log can be changed.",
                hint=f"Run: ALTER TABLE {table} ENABLE TRIGGER {name};",
                id="django_eventstore.E012",
            )
        ]
    return []


def _check_cache(connection: BaseDatabaseWrapper, alias: str) -> list[CheckMessage]:
    return [
        Error(
            f"The sequence {name} of database alias {alias!r} has CACHE {cache}: each session draws its ids ahead, and the "
            "order inside a stream is lost.",
            hint=f"Run: ALTER SEQUENCE {name} CACHE 1;",
            id="django_eventstore.E013",
        )
        for name, cache in _query(connection, CACHE)
        if cache > 1
    ]


def _check_privileges(connection: BaseDatabaseWrapper, alias: str) -> list[CheckMessage]:
    ((user,),) = _query(connection, "SELECT quote_ident(current_user)")
    grants = []
    for table, privileges in NEEDED.items():
        held = {each: _query(connection, TABLE_PRIVILEGE, [table, each])[0][0] for each in privileges}
        lacking = [each for each in privileges if held[each] is False]  # NULL: there is no such table
        if lacking:
            grants.append(f"GRANT {', '.join(lacking)} ON {table} TO {user};")
    if _query(connection, ROUTINE_PRIVILEGE, [PROCEDURE])[0][0] is False:
        grants.append(f"GRANT EXECUTE ON PROCEDURE {PROCEDURE} TO {user};")
    if not grants:
        return []
    return [
        Error(
            f"The account {user} of database alias {alias!r} lacks privileges that the log needs.",
            hint=f"Run as the owner of the tables:\n{chr(10).join(grants)}",
            id="django_eventstore.E014",
        )
    ]
