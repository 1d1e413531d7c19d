"""Nobody changes what is in the log, by the ORM or in SQL; the one door is open for one transaction of one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connections, transaction

from django_eventstore import EventEntry, EventStore
from django_eventstore.exceptions import AppendOnlyError
from django_eventstore.models import LogPosition
from django_eventstore.store.door import open_door

from .log import execute, log_numbers, placed, save

pytestmark = pytest.mark.django_db(transaction=True)


def _entry() -> EventEntry:
    return EventEntry.objects.earliest("id")


def _copy_of(entry: EventEntry) -> EventEntry:
    return EventEntry(**{field.attname: getattr(entry, field.attname) for field in entry._meta.concrete_fields})


def _contents() -> tuple[list[tuple], list[tuple]]:
    return (
        execute("SELECT id, event_id, type, payload, stream FROM eventstore_entry ORDER BY id"),
        execute("SELECT position, entry_id, type_id, slot FROM eventstore_position ORDER BY position"),
    )


@pytest.fixture
def log() -> tuple[list[tuple], list[tuple]]:
    """A log of two entries, and what its tables hold."""
    save(1, 2, stream="s")
    assert [1, 2] == log_numbers()
    return _contents()


def _awaited(function: Callable[[], Coroutine[object, object, object]]) -> object:
    async def call() -> object:
        return await function()

    return async_to_sync(call)()


ORM: dict[str, Callable[[], object]] = {
    "save": lambda: _entry().save(),
    "save with update_fields": lambda: _entry().save(update_fields=["payload"]),
    "save with force_update": lambda: _entry().save(force_update=True),
    "asave": lambda: _awaited(_entry().asave),
    "delete": lambda: _entry().delete(),
    "adelete": lambda: _awaited(_entry().adelete),
    "queryset update": lambda: EventEntry.objects.all().update(payload="{}"),
    "manager update": lambda: EventEntry.objects.update(payload="{}"),
    "manager aupdate": lambda: _awaited(lambda: EventEntry.objects.aupdate(payload="{}")),
    "filtered update": lambda: EventEntry.objects.filter(stream="s").exclude(type="x").update(payload="{}"),
    "queryset delete": lambda: EventEntry.objects.all().delete(),
    "queryset adelete": lambda: _awaited(lambda: EventEntry.objects.all().adelete()),
    "filtered delete": lambda: EventEntry.objects.filter(stream="s").delete(),
    "raw delete": lambda: EventEntry.objects.all()._raw_delete("default"),
    "bulk_update": lambda: EventEntry.objects.bulk_update([_entry()], ["payload"]),
    "abulk_update": lambda: _awaited(partial(EventEntry.objects.abulk_update, [_entry()], ["payload"])),
    "update_or_create": lambda: EventEntry.objects.update_or_create(id=_entry().id, defaults={"payload": "{}"}),
    "aupdate_or_create": lambda: _awaited(
        lambda: EventEntry.objects.aupdate_or_create(id=1, defaults={"payload": "{}"})
    ),
    "bulk_create with update_conflicts": lambda: EventEntry.objects.bulk_create(
        [_copy_of(_entry())], update_conflicts=True, update_fields=["payload"], unique_fields=["id"]
    ),
    "abulk_create with update_conflicts": lambda: _awaited(
        lambda: EventEntry.objects.abulk_create([EventEntry()], update_conflicts=True, update_fields=["payload"])
    ),
}


@pytest.mark.parametrize("attempt", ORM.values(), ids=ORM)
def test_the_orm_refuses_to_change_an_entry(attempt: Callable[[], object], log: tuple) -> None:
    with pytest.raises(AppendOnlyError, match="append-only"):
        attempt()

    assert log == _contents()


def test_an_entry_saved_under_a_used_id_is_refused(log: tuple) -> None:
    with pytest.raises(DatabaseError):
        _copy_of(_entry()).save()

    assert log == _contents()


def _conflict_target() -> list[list[str]]:
    return [["id"]] if connections["default"].features.supports_update_conflicts_with_target else []


BELOW: dict[str, Callable[[], object]] = {
    "base manager update": lambda: EventEntry._base_manager.update(payload="{}"),
    "base manager delete": lambda: EventEntry._base_manager.all().delete(),
    "base manager bulk_update": lambda: EventEntry._base_manager.bulk_update([_entry()], ["payload"]),
    "save_base, as loaddata does": lambda: _entry().save_base(raw=True),
    "bulk_create with update_conflicts by place": lambda: EventEntry.objects.bulk_create(
        [_copy_of(_entry())], None, False, True, ["payload"], *_conflict_target()
    ),
    "position update": lambda: LogPosition.objects.update(slot=1),
    "position save": lambda: LogPosition.objects.get(position=1).save(),
    "position delete": lambda: LogPosition.objects.get(position=1).delete(),
    "positions delete": lambda: LogPosition.objects.all().delete(),
}


@pytest.mark.parametrize("attempt", BELOW.values(), ids=BELOW)
def test_the_database_refuses_what_goes_around_our_manager(attempt: Callable[[], object], log: tuple) -> None:
    with pytest.raises((DatabaseError, AppendOnlyError), match="append-only"):
        attempt()

    assert log == _contents()


def test_related_rows_do_not_take_entries_along(log: tuple) -> None:
    """No cascade and no SET NULL ends in the log."""
    with pytest.raises(DatabaseError, match="append-only"):
        EventEntry._base_manager.filter(log_position__position=1).delete()

    assert log == _contents()


SQL = [
    "UPDATE eventstore_entry SET payload = '{}'",
    "UPDATE eventstore_entry SET payload = payload",
    "UPDATE eventstore_entry SET id = id + 100",
    "DELETE FROM eventstore_entry",
    "DELETE FROM eventstore_entry WHERE stream = 's'",
    "UPDATE eventstore_position SET slot = 1",
    "UPDATE eventstore_position SET type_id = 999",
    "UPDATE eventstore_position SET position = position + 100",
    "DELETE FROM eventstore_position",
]
VENDOR_SQL = {
    "postgresql": [
        "TRUNCATE eventstore_entry",
        "TRUNCATE eventstore_position",
        "TRUNCATE eventstore_entry, eventstore_position CASCADE",
        (
            "INSERT INTO eventstore_entry (id, type, payload) SELECT id, type, '{}' FROM eventstore_entry "
            "ON CONFLICT (id) DO UPDATE SET payload = '{}'"
        ),
        "INSERT INTO eventstore_position SELECT * FROM eventstore_position ON CONFLICT (entry_id) DO UPDATE SET slot = 1",
        "MERGE INTO eventstore_entry e USING (SELECT 1) q ON true WHEN MATCHED THEN DELETE",
    ],
    "mysql": [
        "REPLACE INTO eventstore_entry (id, type, payload) SELECT id, type, '{}' FROM eventstore_entry",
        "REPLACE INTO eventstore_position SELECT position, 99, type_id, slot FROM eventstore_position LIMIT 1",
        "REPLACE INTO eventstore_position SELECT 99, slot, entry_id, type_id FROM eventstore_position LIMIT 1",
        (
            "INSERT INTO eventstore_entry (id, type, payload) SELECT id, type, payload FROM eventstore_entry "
            "ON DUPLICATE KEY UPDATE payload = '{}'"
        ),
        (
            "INSERT INTO eventstore_position (position, entry_id, type_id, slot) SELECT position, entry_id, type_id, slot "
            "FROM eventstore_position ON DUPLICATE KEY UPDATE eventstore_position.slot = 1"
        ),
        "DELETE e, p FROM eventstore_entry e JOIN eventstore_position p ON p.entry_id = e.id",
        "UPDATE eventstore_entry e JOIN eventstore_position p ON p.entry_id = e.id SET e.payload = '{}'",
    ],
    "sqlite": [
        "REPLACE INTO eventstore_entry (id, type, payload) SELECT id, type, '{}' FROM eventstore_entry",
        "INSERT OR REPLACE INTO eventstore_entry (id, type, payload) VALUES (<id>, 'a.b', '{}')",
        (
            "INSERT INTO eventstore_entry (id, type, payload) VALUES (<id>, 'a.b', '{}') "
            "ON CONFLICT (id) DO UPDATE SET payload = '{}'"
        ),
        "UPDATE OR REPLACE eventstore_entry SET id = <id> + 1 WHERE id = <id>",
        "REPLACE INTO eventstore_position (position, entry_id, type_id, slot) VALUES (<position>, 99, 1, 1)",
        (
            "INSERT OR REPLACE INTO eventstore_position (position, entry_id, type_id, slot) "
            "SELECT 99, entry_id, type_id, slot FROM eventstore_position WHERE position = <position>"
        ),
        (
            "INSERT INTO eventstore_position (position, entry_id, type_id, slot) SELECT position, entry_id, type_id, slot "
            "FROM eventstore_position WHERE true ON CONFLICT (position) DO UPDATE SET slot = 1"
        ),
    ],
}


@pytest.mark.parametrize("number", range(len(SQL) + max(map(len, VENDOR_SQL.values()))))
def test_sql_is_refused(number: int, log: tuple) -> None:
    statements = SQL + VENDOR_SQL[connections["default"].vendor]
    if number >= len(statements):
        return  # this database has fewer ways
    statement = statements[number].replace("<id>", str(_entry().id)).replace("<position>", str(placed()[0][0]))

    with pytest.raises(DatabaseError, match="append-only"):
        execute(statement)

    assert log == _contents()


def _change() -> None:
    execute("UPDATE eventstore_entry SET payload = '{\"n\":9}'")


def _refused(using: str = "default") -> bool:
    try:
        with transaction.atomic(using=using):
            execute("UPDATE eventstore_entry SET payload = '{\"n\":8}'", using=using)
    except DatabaseError as error:
        return "append-only" in str(error)
    return False


def test_the_door_lets_its_own_statements_change_and_remove(log: tuple) -> None:
    with open_door("default"):
        _change()
        execute("DELETE FROM eventstore_position WHERE position = %s", [placed()[0][0]])
        execute("DELETE FROM eventstore_entry WHERE id = %s", [_entry().id])

    assert ['{"n":9}'] == [entry.payload for entry in EventEntry.objects.all()]
    assert _refused()


def test_the_door_is_closed_after_its_block_though_the_transaction_goes_on(log: tuple) -> None:
    with transaction.atomic():
        with open_door("default"):
            _change()
        assert _refused()
        save(3)

    assert _refused()
    assert [9, 9, 3] == log_numbers()


def test_the_door_is_closed_after_an_error_inside(log: tuple) -> None:
    with suppress(ZeroDivisionError), open_door("default"):
        _change()
        raise ZeroDivisionError
    assert _refused()

    with transaction.atomic():
        with suppress(ZeroDivisionError), open_door("default"):
            _change()
            raise ZeroDivisionError
        assert _refused()

    assert log == _contents()


def test_the_door_is_closed_after_a_rollback_of_everything(log: tuple) -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        with open_door("default"):
            _change()
        raise ZeroDivisionError

    assert log == _contents()
    assert _refused()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_the_door_is_closed_for_everybody_else(second: str, log: tuple) -> None:
    first, other = (entry.id for entry in EventEntry.objects.order_by("id"))
    with open_door("default"):
        execute("UPDATE eventstore_entry SET payload = '{\"n\":9}' WHERE id = %s", [first])
        for statement in ("UPDATE eventstore_entry SET payload = '{}'", "DELETE FROM eventstore_entry"):
            with pytest.raises(DatabaseError, match="append-only"):
                execute(f"{statement} WHERE id = %s", [other], using=second)

    assert _refused(second)
    assert [9, 2] == log_numbers()


def test_the_door_of_a_connection_that_died_is_closed(second: str, log: tuple) -> None:
    with suppress(DatabaseError), open_door(second):
        execute("UPDATE eventstore_entry SET payload = '{}'", using=second)
        connections[second].connection.close()
    connections[second].close()

    assert log == _contents()
    assert _refused()
    assert _refused(second)


def test_reads_and_inserts_are_not_refused(log: tuple) -> None:
    first = _entry()
    EventEntry.objects.bulk_create([EventEntry(type="test.Counted", payload='{"n":3}')])
    EventEntry.objects.create(type="test.Counted", payload='{"n":4}')
    EventEntry.objects.get_or_create(event_id=first.event_id, defaults={"type": "never.Used", "payload": "{}"})

    assert [1, 2, 3, 4] == log_numbers()


def test_an_entry_read_from_the_log_is_refused_too(log: tuple) -> None:
    [entry, _] = EventStore().get().entries

    with pytest.raises(AppendOnlyError):
        entry.save()
    with pytest.raises(AppendOnlyError):
        asyncio.run(entry.adelete())
