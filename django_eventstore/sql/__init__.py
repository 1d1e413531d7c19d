"""SQL that the ORM cannot say: one file per migration and database, never edited after its release."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

__all__ = ["RunVendorSQL", "sql_text"]


def sql_text(name: str, vendor: str) -> str:
    """The text of ``sql/<name>.<vendor>.sql``."""
    return files(__package__).joinpath(f"{name}.{vendor}.sql").read_text(encoding="utf-8")


def _statements(text: str, connection: BaseDatabaseWrapper) -> Iterator[str]:
    if connection.vendor != "sqlite":
        yield text  # the server splits it; trigger bodies included
        return
    buffer = ""
    for line in text.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            yield buffer
            buffer = ""


def _run(name: str, editor: BaseDatabaseSchemaEditor) -> None:
    connection = editor.connection
    with connection.cursor() as cursor:
        for statement in _statements(sql_text(name, connection.vendor), connection):
            cursor.execute(statement)
            while connection.vendor == "mysql" and cursor.nextset():
                pass  # an error of a later statement is raised when its result is read


class RunVendorSQL(Operation):
    """Run ``sql/<name>.<vendor>.sql``, and ``sql/<name>.reverse.<vendor>.sql`` backwards."""

    reduces_to_sql = True
    reversible = True
    elidable = False

    def __init__(self, name: str) -> None:
        self.name = name

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if self.allowed(app_label, schema_editor):
            _run(self.name, schema_editor)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if self.allowed(app_label, schema_editor):
            _run(f"{self.name}.reverse", schema_editor)

    def allowed(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        """Whether the log lives on this database: the routers are asked as they are for its main table."""
        alias = schema_editor.connection.alias
        return router.allow_migrate(alias, app_label, model_name="evententry")

    def describe(self) -> str:
        return f"SQL of {self.name} for this database"
