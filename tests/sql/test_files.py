"""Every SQL file belongs to a migration, has its reverse, and the way to zero and back is open."""

from __future__ import annotations

import importlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from django_eventstore import EventStore
from django_eventstore.sql import RunVendorSQL, sql_text
from django_eventstore.store.sequencing import mysql, postgresql, sqlite
from tests.conftest import RegisterDatabase
from tests.store.log import execute, log_numbers, save

VENDORS = ("postgresql", "mysql", "sqlite")
SLOTS = {
    "postgresql": (r"\(hashtextextended\((?:\w\.)?stream, 0\) & 63\)::smallint", postgresql, 3),
    "mysql": (r"CRC32\((?:\w\.)?stream\) & 63", mysql, 2),
    "sqlite": (r"\(coalesce\(unicode\(substr.*?& 63", sqlite, 2),
}


def _names_in_migrations() -> list[str]:
    folder = Path(importlib.import_module("django_eventstore.migrations").__path__[0])
    names = sorted(path.stem for path in folder.glob("[0-9]*.py"))
    migrations = [importlib.import_module(f"django_eventstore.migrations.{name}").Migration for name in names]
    return [
        operation.name
        for migration in migrations
        for operation in migration.operations
        if isinstance(operation, RunVendorSQL)
    ]


@pytest.mark.no_database
def test_every_file_is_used_by_a_migration_and_every_migration_finds_its_files() -> None:
    used = {
        f"{name}{way}.{vendor}.sql" for name in _names_in_migrations() for way in ("", ".reverse") for vendor in VENDORS
    }

    assert used == {path.name for path in files("django_eventstore.sql").iterdir() if path.name.endswith(".sql")}


@pytest.mark.no_database
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("kind", ["TRIGGER", "FUNCTION", "PROCEDURE", "TABLE"])
def test_what_a_file_creates_its_reverse_drops(vendor: str, kind: str) -> None:
    for name in _names_in_migrations():
        created = re.findall(rf"^CREATE {kind} (\w+)", sql_text(name, vendor), re.MULTILINE)
        dropped = re.findall(rf"^DROP {kind} (\w+)", sql_text(f"{name}.reverse", vendor), re.MULTILINE)
        if (kind, vendor) == ("TRIGGER", "postgresql"):
            assert [] == dropped  # they go with their functions
            assert "CASCADE" in sql_text(f"{name}.reverse", vendor)
        else:
            assert sorted(created) == sorted(dropped)


@pytest.mark.no_database
@pytest.mark.parametrize("vendor", VENDORS)
def test_the_slot_of_a_stream_is_the_same_expression_wherever_it_stands(vendor: str) -> None:
    pattern, module, times = SLOTS[vendor]
    texts = [sql_text(name, vendor) for name in _names_in_migrations()] + [Path(module.__file__).read_text()]
    found = [
        re.sub(r"\b(NEW|e|f)\.|\s+", "", one) for text in texts for one in re.findall(pattern, _joined(text), re.DOTALL)
    ]

    assert times == len(found)
    assert 1 == len(set(found))


def _joined(text: str) -> str:
    """Python's adjacent string literals as one."""
    return re.sub(r'"\s*\n\s*f?"', "", text)


def _schema(alias: str) -> Any:
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return sorted(
            execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name LIKE '%%eventstore%%'", using=alias)
        )
    names = "SELECT table_name, column_name, data_type FROM information_schema.columns"
    triggers = "SELECT trigger_name, event_object_table, event_manipulation FROM information_schema.triggers"
    routines = "SELECT routine_name, routine_type FROM information_schema.routines"
    here = "current_schema()" if connection.vendor == "postgresql" else "database()"
    found = [
        *execute(f"{names} WHERE table_schema = {here} AND table_name LIKE 'eventstore%%'", using=alias),
        *execute(f"{triggers} WHERE trigger_schema = {here}", using=alias),
        *execute(f"{routines} WHERE routine_schema = {here} AND routine_name LIKE 'eventstore%%'", using=alias),
    ]
    return sorted(tuple(str(value) for value in row) for row in found)


@pytest.fixture
def fresh(register_database: RegisterDatabase, tmp_path: Path, django_db_setup: None) -> Any:
    """A new, empty database of this run's server, with every migration run."""
    entry = connections["default"].settings_dict
    connection = connections["default"]
    if connection.vendor == "sqlite":
        yield register_database({**entry, "NAME": str(tmp_path / "fresh.sqlite3")}, alias="fresh")
        return
    name = f"{entry['NAME']}_fresh"
    execute(f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if connection.vendor == "mysql" else ""))
    try:
        yield register_database({**entry, "NAME": name}, alias="fresh")
    finally:
        connections["fresh"].close()
        execute(f"DROP DATABASE {name}")


def test_the_migrations_can_be_undone_and_done_again(fresh: str) -> None:
    before = _schema(fresh)
    save(1, 2, using=fresh)
    assert [1, 2] == log_numbers(fresh)
    log = EventStore(fresh).get().log

    call_command("migrate", "django_eventstore", "zero", database=fresh, verbosity=0)
    assert [] == _schema(fresh)
    call_command("migrate", database=fresh, verbosity=0)

    assert before == _schema(fresh)
    save(3, using=fresh)
    assert [3] == log_numbers(fresh)
    assert log != EventStore(fresh).get().log


def test_the_migrations_leave_a_database_alone_whose_router_says_so(
    fresh: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
            return False if (db, app_label) == ("fresh", "django_eventstore") else None

    settings.DATABASE_ROUTERS = [Elsewhere()]
    call_command("migrate", "django_eventstore", "zero", database=fresh, verbosity=0, fake=True)
    settings.DATABASE_ROUTERS = []
    before = _schema(fresh)
    settings.DATABASE_ROUTERS = [Elsewhere()]

    call_command("migrate", "django_eventstore", database=fresh, verbosity=0)

    assert before == _schema(fresh)
