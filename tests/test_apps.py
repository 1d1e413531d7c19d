"""What happens when Django starts, after migrate, and after a flush."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import DatabaseError, connections
from django.test import override_settings

from django_eventstore import EventStore, OffsetStore, handles
from django_eventstore.events import registry
from django_eventstore.forwarding import forward_all
from django_eventstore.forwarding.celery import wake_up
from django_eventstore.handlers import handler_registry
from django_eventstore.models import ConsumerOffset, Epoch, EventEntry, Heartbeat
from django_eventstore.signals import events_committed
from tests import databases
from tests.delivery import COUNTED, clean_process, offset_of, record_numbers, refunds
from tests.shop.models import Refund

__all__ = ["clean_process"]


# --- start ---


def test_the_events_modules_of_the_apps_have_been_imported():
    assert registry.by_type("shop.OrderPlaced") is not None


APP = {
    "__init__.py": "",
    "events.py": (
        "from dataclasses import dataclass\nfrom django_eventstore import event\n"
        "@event('found.Sold')\n@dataclass(frozen=True)\nclass Sold:\n    n: int\n"
    ),
    "handlers.py": (
        "from django_eventstore import handles\nfrom .events import Sold\n"
        "@handles(Sold, name='found')\ndef follow(event): ...\n"
    ),
    "models.py": "from django.db import models\n",
}
FIND = """
import sys
sys.path.insert(0, {path!r})
from django.conf import settings
import tests.settings as given
names = [name for name in dir(given) if name.isupper()]
settings.configure(**{{**{{name: getattr(given, name) for name in names}}, "INSTALLED_APPS": {apps}}})
import django
django.setup()
from django_eventstore.events import registry
from django_eventstore.handlers import handler_registry
print(registry.by_type("found.Sold") is not None, [handler.name for handler in handler_registry.durable()])
"""


def an_app(directory: Path, **changed: str) -> None:
    package = directory / "found"
    package.mkdir()
    for name, text in {**APP, **{f"{key}.py": text for key, text in changed.items()}}.items():
        (package / name).write_text(text)


@pytest.mark.no_database
@pytest.mark.parametrize(
    "apps", ["['found', *given.INSTALLED_APPS]", "[*given.INSTALLED_APPS, 'found']"], ids=["before", "after"]
)
def test_the_events_and_handlers_modules_of_an_app_are_found_wherever_it_is_listed(tmp_path, spawn, apps):
    an_app(tmp_path)
    process = spawn("-c", FIND.format(path=str(tmp_path), apps=apps))
    process.wait()
    assert "True ['found']\n" == process.output


@pytest.mark.no_database
def test_an_error_in_a_handlers_module_is_not_swallowed(tmp_path, spawn):
    an_app(tmp_path, handlers="raise RuntimeError('broken handlers module')")
    process = spawn("-c", FIND.format(path=str(tmp_path), apps="[*given.INSTALLED_APPS, 'found']"))
    assert 0 != process.wait(check=False)
    assert "broken handlers module" in process.errors


@pytest.mark.no_database
def test_starting_asks_no_database(tmp_path, spawn):
    an_app(tmp_path)
    missing = tmp_path / "nowhere" / "no.sqlite3"
    environment = {"EVENTSTORE_TEST_DATABASE_NAME": str(missing)}
    spawn("-c", FIND.format(path=str(tmp_path), apps="given.INSTALLED_APPS"), environment=environment).wait()
    assert not missing.exists()


def test_a_commit_wakes_the_forwarder():
    assert wake_up in events_committed._live_receivers(object)[0]


# --- migrate ---


def migrated(using: str = "default") -> None:
    """What every migrate ends with."""
    emit_post_migrate_signal(verbosity=0, interactive=False, db=using)


@pytest.mark.django_db
def test_migrating_gives_the_log_its_id_once():
    (epoch,) = Epoch.objects.all()
    assert (1, 0) == (epoch.number, epoch.began_after)
    migrated()
    assert epoch.log == Epoch.objects.get().log


@pytest.mark.django_db
def test_migrating_fixes_the_start_of_new_consumers():
    @handles(COUNTED, name="numbers")
    def follow(event): ...

    record_numbers(1)
    ConsumerOffset.objects.all().delete()
    EventStore().get()
    migrated()
    assert EventStore().get().head == offset_of()


@pytest.mark.django_db(databases=["default", "other"])
def test_each_database_has_a_log_of_its_own():
    assert Epoch.objects.using("default").get().log != Epoch.objects.using("other").get().log


class NotOnOther:
    def allow_migrate(self, db, app_label, **hints):
        return False if app_label == "django_eventstore" and db == "other" else None


@pytest.mark.django_db(databases=["default", "other"])
def test_a_database_that_the_log_is_not_for_gets_none():
    Epoch.objects.using("other").all().delete()
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.NotOnOther"]):
        migrated("other")
    assert not Epoch.objects.using("other").exists()


def empty(tmp_path: Path) -> dict[str, object]:
    return databases.sqlite_settings(tmp_path / "empty.sqlite3")


@pytest.mark.no_database
def test_migrating_another_app_first_does_not_fail(register_database, tmp_path):
    alias = register_database(empty(tmp_path), migrate=False)
    call_command("migrate", "contenttypes", database=alias, verbosity=0)


@pytest.mark.no_database
def test_migrating_back_to_nothing_and_forth_does_not_fail(register_database, tmp_path):
    alias = register_database(empty(tmp_path))
    call_command("migrate", "django_eventstore", "zero", database=alias, verbosity=0)
    call_command("migrate", database=alias, verbosity=0)
    assert 1 == Epoch.objects.using(alias).count()


@pytest.mark.no_database
def test_migrating_the_log_alone_makes_no_periodic_task_and_does_not_fail(register_database, tmp_path):
    alias = register_database(empty(tmp_path), migrate=False)
    call_command("migrate", "django_eventstore", database=alias, verbosity=0)
    assert 1 == Epoch.objects.using(alias).count()
    assert "django_celery_beat_periodictask" not in connections[alias].introspection.table_names()


@pytest.mark.no_database
def test_migrating_another_database_before_the_one_of_the_scheduler_does_not_fail(tmp_path, spawn):
    environment = {
        "EVENTSTORE_TEST_DATABASE_NAME": str(tmp_path / "default.sqlite3"),
        "EVENTSTORE_TEST_OTHER_NAME": str(tmp_path / "other.sqlite3"),
    }
    spawn("-m", "django", "migrate", "--database", "other", environment=environment).wait()
    spawn("-m", "django", "migrate", environment=environment).wait()


# --- flush ---


def flush(**options: object) -> None:
    call_command("flush", **{"interactive": False, "verbosity": 0, **options})


@pytest.mark.django_db(transaction=True)
def test_a_flush_empties_the_log_and_what_belongs_to_it():
    record_numbers(1, 2)
    EventStore().get()
    Heartbeat.objects.create(name="worker", at="2026-01-01T00:00Z")
    log = Epoch.objects.get().log
    flush()
    assert not EventEntry.objects.exists()
    assert not Heartbeat.objects.exists()
    assert 0 == EventStore().get().head
    assert log != Epoch.objects.get().log


@pytest.mark.django_db(transaction=True)
def test_after_a_flush_the_log_begins_at_position_one():
    record_numbers(1, 2)
    EventStore().get()
    flush()
    record_numbers(3)
    assert [1] == [entry.position for entry in EventStore().get().entries]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("reset_sequences", [True, False])
def test_after_a_flush_new_consumers_start_at_the_head_of_the_empty_log(reset_sequences):
    @handles(COUNTED, name="numbers")
    def follow(event):
        Refund.objects.create(order_id=event["n"])

    record_numbers(1, 2)
    forward_all()
    try:
        flush(reset_sequences=reset_sequences)
        assert 0 == offset_of()
        record_numbers(3)
        assert 1 == forward_all().delivered
        assert [3] == refunds()
    finally:
        handler_registry.unregister("numbers")
        flush()


@pytest.mark.django_db(transaction=True)
def test_after_a_flush_the_process_looks_again_where_consumers_start():
    @handles(COUNTED, name="numbers")
    def follow(event): ...

    record_numbers(1)
    flush(inhibit_post_migrate=True)
    assert offset_of() is None
    record_numbers(2)
    assert 0 == offset_of()
    handler_registry.unregister("numbers")  # before the flush at the end of the test


@pytest.mark.django_db(transaction=True)
def test_after_a_flush_the_log_is_append_only_again():
    flush()
    record_numbers(1)
    with pytest.raises(DatabaseError), connections["default"].cursor() as cursor:
        cursor.execute("DELETE FROM eventstore_entry")


@pytest.mark.django_db(transaction=True)
def test_a_flush_that_is_cancelled_changes_nothing(monkeypatch):
    record_numbers(1, 2)
    head = EventStore().get().head
    monkeypatch.setattr("builtins.input", lambda *args: "no")
    call_command("flush", interactive=True, stdout=io.StringIO())
    assert head == EventStore().get().head == 2


@pytest.mark.no_database
def test_a_flush_of_a_database_without_a_log_is_djangos(register_database, tmp_path):
    alias = register_database(empty(tmp_path), migrate=False)
    flush(database=alias, inhibit_post_migrate=True)


@pytest.mark.django_db(databases=["default", "other"])
def test_offsets_are_found_on_the_database_that_was_asked_for():
    assert OffsetStore("other").load("nobody") is None
