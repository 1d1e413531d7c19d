"""Each system check is there when something is wrong, and silent when it is right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any

import celery
import pytest
from django.core.checks import CheckMessage, Error, Tags, registry
from django.core.management import call_command
from django.db import DatabaseError, connection, connections
from django.test import override_settings

from django_eventstore import event, events, handles
from django_eventstore.checks import TAG, check_settings, register_checks
from django_eventstore.consumers import OffsetStore, declared_consumers
from django_eventstore.consumers.checks import check_consumers, check_stored_consumers
from django_eventstore.forwarding import celery_checks, forward_all
from django_eventstore.forwarding.celery_checks import SCHEDULER, check_beat, check_broker
from django_eventstore.forwarding.checks import check_listening, check_senders
from django_eventstore.handlers import handler_registry
from django_eventstore.inspection.event_checks import check_events, check_stored_types
from django_eventstore.models import ConsumerOffset, ConsumerState
from django_eventstore.recording.capture_checks import check_captures
from django_eventstore.recording.checks import check_handler_modes, check_routing
from django_eventstore.store.checks import check_databases
from django_eventstore.store.checks.statements import created_objects
from tests.conftest import MariaDBFactory, PostgresFactory, RegisterDatabase
from tests.inspection.planting import ENTRY
from tests.store.log import execute, log_numbers, save

RECORDER = "tests.inspection.senders.Recorder"
EVENTSTORE_ID = "django_eventstore."


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix(EVENTSTORE_ID) for message in messages]


def database_ids(alias: str = "default") -> list[str]:
    return ids(check_databases(databases=[alias]))


@contextmanager
def consumers(**given: dict[str, Any]) -> Iterator[None]:
    with override_settings(EVENTSTORE={"CONSUMERS": given}):
        yield


@contextmanager
def handler(**arguments: Any) -> Iterator[None]:
    def function(event: object) -> None: ...

    handles("test.Counted", **arguments)(function)
    try:
        yield
    finally:
        handler_registry.unregister(arguments["name"])


# --- settings, consumers and senders


def test_right_settings_are_silent() -> None:
    with consumers(billing={"SENDER": RECORDER}):
        assert [] == ids(check_settings()) == ids(check_consumers()) == ids(check_senders())


def test_each_wrong_setting_is_an_error_of_its_own_that_names_the_likely_key() -> None:
    with override_settings(EVENTSTORE={"PAGE_LIMITS": 5, "LEASE": 60}):
        messages = check_settings()
        # Nothing else stumbles over settings that cannot be read.
        assert [] == check_consumers() == check_senders() == check_beat()

    assert ["E001", "E001"] == ids(messages)
    assert "Did you mean 'PAGE_LIMIT'?" in messages[0].msg
    assert "EVENTSTORE['LEASE']" in messages[1].msg


def test_handlers_that_share_a_consumer_and_differ_are_an_error() -> None:
    with handler(name="one", consumer="shared"), handler(name="two", consumer="shared"):
        assert [] == check_consumers()
    with handler(name="one", consumer="shared"), handler(name="two", consumer="shared", transaction="batch"):
        assert ["E002"] == ids(check_consumers())
        assert [] == check_senders()


def test_a_handler_with_the_name_of_a_consumer_is_an_error() -> None:
    with consumers(billing={"SENDER": RECORDER}), handler(name="one", consumer="billing"):
        assert ["E002"] == ids(check_consumers())


@pytest.mark.parametrize(
    "given",
    [
        {"SENDER": "tests.inspection.senders.Nobody"},
        {"SENDER": "tests.nowhere.Sender"},
        {"SENDER": "datetime.date"},
        {"SENDER": RECORDER, "OPTIONS": {"fails": 3}},
    ],
    ids=["no such class", "no such module", "no sender", "unknown option"],
)
def test_a_sender_that_cannot_be_made_is_an_error_that_names_the_consumer(given: dict[str, Any]) -> None:
    with consumers(billing=given, mail={"SENDER": RECORDER}):
        (message,) = check_senders()

    assert "django_eventstore.E003" == message.id
    assert "'billing'" in message.msg
    assert "EVENTSTORE['CONSUMERS']['billing']" in str(message.hint)


def test_what_a_sender_complains_of_is_passed_on() -> None:
    with consumers(billing={"SENDER": "tests.inspection.senders.Complaining"}):
        assert ["tests.W001"] == [message.id for message in check_senders()]


# --- what the database knows of the consumers


def stored_messages(*databases: str) -> list[CheckMessage]:
    return check_stored_consumers(databases=databases or ["default"])


@pytest.mark.django_db(transaction=True)
def test_declared_consumers_are_silent_before_and_after_they_have_run() -> None:
    with consumers(billing={"SENDER": RECORDER, "EVENTS": ["test.*"], "START": "beginning"}):
        assert [] == stored_messages()
        save(1)
        forward_all()
        assert "billing" == ConsumerState.objects.get().consumer
        assert [] == stored_messages()


@pytest.mark.django_db
def test_an_offset_of_a_consumer_that_nobody_declares_is_a_warning_with_what_to_run() -> None:
    ConsumerOffset.objects.create(consumer="former", offset=7, epoch=1, token=3)
    with consumers(billing={"SENDER": RECORDER}):
        OffsetStore().register(declared_consumers().values())
        (message,) = stored_messages()

    assert ("django_eventstore.W005", True) == (message.id, "'former'" in message.msg)
    assert "eventstore_consumers rename former NEW" in str(message.hint)
    assert "eventstore_consumers retire former" in str(message.hint)
    call_command("eventstore_consumers", "retire", "former", "--yes", stdout=StringIO())
    with consumers(billing={"SENDER": RECORDER}):
        assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "before, now, added",
    [
        (["test.Counted"], ["test.Counted", "test.Other"], "test.Other"),
        (["test.Counted"], ["test.*"], "test.*"),
        (["test.*"], ["*"], "*"),
        (["test.*"], ["other.*", "test.Counted", "more.Things"], "other.*, more.Things"),
        (["test.*"], ["test.Counted"], None),
        (["test.*"], ["test.deeper.*"], None),
        (["*"], ["test.*"], None),
        (["a.B", "test.*"], ["test.*", "a.B"], None),
    ],
    ids=["one more", "a prefix", "all", "several", "fewer", "a part", "not all", "another order"],
)
def test_newly_wanted_events_are_a_warning_until_the_consumer_has_run(
    before: list[str], now: list[str], added: str | None
) -> None:
    with consumers(billing={"SENDER": RECORDER, "EVENTS": before, "START": "beginning"}):
        save(1)
        save(2, type="a.B")
        forward_all()
    with consumers(billing={"SENDER": RECORDER, "EVENTS": now}):
        messages = stored_messages()
        assert ([] if added is None else ["W006"]) == ids(messages)
        for message in messages:
            assert message.msg.endswith(f": {added}. Of these it gets what lies after its offset only.")
            assert "eventstore_consumers move billing --to-beginning" in str(message.hint)
        save(3, type=EXAMPLES[now[0]])
        forward_all()
        assert [] == stored_messages()


EXAMPLES = {
    "test.Counted": "test.Counted",
    "test.*": "test.Counted",
    "*": "test.Counted",
    "other.*": "other.Thing",
    "test.deeper.*": "test.deeper.Thing",
}


@pytest.mark.django_db
def test_the_new_name_of_an_event_is_nothing_newly_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    ConsumerOffset.objects.create(consumer="billing", offset=7, epoch=1, token=3)
    ConsumerState.objects.create(consumer="billing", events='["test.FormerName"]')
    with consumers(billing={"SENDER": RECORDER, "EVENTS": ["test.PresentName"]}):
        assert ["W006"] == ids(stored_messages())
        monkeypatch.setattr(events.registry, "_by_type", {**events.registry._by_type})
        monkeypatch.setattr(events.registry, "_by_class", {**events.registry._by_class})
        event("test.PresentName", aliases=["test.FormerName"])(dataclass(frozen=True)(type("Present", (), {})))
        assert [] == stored_messages()


@pytest.mark.django_db
def test_two_statements_are_enough_for_what_is_stored(django_assert_num_queries: Any) -> None:
    for number in range(5):
        ConsumerOffset.objects.create(consumer=f"former{number}", offset=7, epoch=1, token=3)

    with django_assert_num_queries(2 + TABLES_STATEMENTS[connection.vendor]):
        assert ["W005"] * 5 == ids(stored_messages())
    with django_assert_num_queries(0):
        assert [] == check_stored_consumers() == check_stored_consumers(databases=[])


TABLES_STATEMENTS = {"sqlite": 1, "postgresql": 1, "mysql": 1}


@pytest.mark.django_db
def test_what_is_stored_is_not_asked_for_when_it_cannot_be_compared(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ConsumerOffset.objects.create(consumer="former", offset=7, epoch=1, token=3)
    with override_settings(EVENTSTORE={"CONSUMER": {}}):
        assert [] == stored_messages()
    with handler(name="one", consumer="shared"), handler(name="two", consumer="shared", transaction="batch"):
        assert [] == stored_messages()
    assert ["W005"] == ids(stored_messages())
    monkeypatch.setattr(connection.introspection, "table_names", list)
    assert [] == stored_messages()
    monkeypatch.setattr(connection.introspection, "table_names", _refuse)
    assert [] == stored_messages()
    settings.DATABASE_ROUTERS = ["tests.test_checks.NoLogRouter"]
    assert [] == stored_messages()


def _refuse() -> None:
    raise DatabaseError("no catalog")


# --- recording


def test_several_databases_and_no_router_are_a_warning(settings: Any) -> None:
    (message,) = check_routing()

    assert "django_eventstore.W020" == message.id
    assert "'default', 'other'" in message.msg
    assert "DATABASE_ROUTERS" in str(message.hint)
    settings.DATABASE_ROUTERS = ["tests.test_checks.NoLogRouter"]
    assert [] == check_routing()


def test_one_database_needs_no_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "settings", {"default": connections.settings["default"]})
    assert [] == check_routing()


def test_what_a_handlers_mode_leaves_without_effect_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_registry, "_handlers", {})
    handles("test.A", name="durable", start="beginning", transaction="batch", consumer="c")(lambda event: None)
    handles("test.A", name="plain", mode="after_commit")(lambda event: None)
    assert [] == check_handler_modes()
    handles("test.A", name="later", mode="after_commit", start=7)(lambda event: None)
    handles("test.A", name="inside", mode="sync", consumer="c", transaction="batch")(lambda event: None)

    later, inside = check_handler_modes()

    assert {"django_eventstore.W021"} == {later.id, inside.id}
    assert "'later' has mode='after_commit', in which start has no effect" in later.msg
    assert "consumer and transaction have no effect" in inside.msg


# --- Celery


@pytest.fixture
def no_celery_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a project whose Celery app is not loaded: Django's settings are all there is."""
    monkeypatch.setattr(celery_checks, "current_app", celery.Celery("default", set_as_current=False))


@pytest.mark.parametrize("alias", ["nowhere", pytest.param("other", marks=(pytest.mark.sqlite, pytest.mark.mariadb))])
def test_an_alias_to_listen_that_is_no_postgresql_database_is_an_error(alias: str) -> None:
    with override_settings(EVENTSTORE={"LISTEN_ALIAS": alias}):
        assert ["E040"] == ids(check_listening())


@pytest.mark.postgresql
def test_an_alias_to_listen_of_another_database_is_a_warning() -> None:
    with override_settings(EVENTSTORE={"LISTEN_ALIAS": "other"}):
        assert ["W040"] == ids(check_listening())
    for right in ({"LISTEN_ALIAS": "default"}, {}):
        with override_settings(EVENTSTORE=right):
            assert [] == check_listening()


@pytest.mark.usefixtures("no_celery_app")
def test_beat_and_its_database_scheduler_are_silent() -> None:
    with override_settings(CELERY_BEAT_SCHEDULER=SCHEDULER):
        assert [] == check_beat()


@pytest.mark.usefixtures("no_celery_app")
def test_without_beat_a_warning_gives_the_line_to_add(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_celery_beat"]

    (message,) = check_beat()

    assert "django_eventstore.W001" == message.id
    assert "'django_celery_beat'" in str(message.hint)


@pytest.mark.usefixtures("no_celery_app")
@pytest.mark.parametrize("scheduler", ["celery.beat:PersistentScheduler", None])
def test_another_scheduler_is_a_warning_with_the_snippet(scheduler: str | None) -> None:
    with override_settings(CELERY_BEAT_SCHEDULER=scheduler):
        (message,) = check_beat()

    assert "django_eventstore.W002" == message.id
    assert f"CELERY_BEAT_SCHEDULER = {SCHEDULER!r}" in str(message.hint)
    assert '"task": "django_eventstore.forward"' in str(message.hint)


@pytest.mark.usefixtures("no_celery_app")
def test_a_project_that_schedules_by_itself_is_not_asked_for_beat(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_celery_beat"]
    with override_settings(EVENTSTORE={"CREATE_BEAT_SCHEDULE": False}, CELERY_BEAT_SCHEDULER=None):
        assert [] == check_beat()


@pytest.mark.usefixtures("no_celery_app")
def test_a_broker_inside_one_process_is_a_warning() -> None:
    with override_settings(CELERY_BROKER_URL="memory://"):
        assert ["W003"] == ids(check_broker())
    with override_settings(CELERY_BROKER_URL="redis://localhost"):
        assert [] == check_broker()


def test_the_projects_celery_app_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    app = celery.Celery("shop", set_as_current=False, broker="memory://")
    monkeypatch.setattr(celery_checks, "current_app", app)
    with override_settings(CELERY_BROKER_URL="redis://localhost", CELERY_BEAT_SCHEDULER=SCHEDULER):
        assert ["W002"] == ids(check_beat())
        assert ["W003"] == ids(check_broker())
    app.conf.update(beat_scheduler="django", broker_url="amqp://localhost")
    with override_settings(CELERY_BROKER_URL="memory://", CELERY_BEAT_SCHEDULER=None):
        assert [] == check_beat() == check_broker()


# --- the database: on every one


@pytest.mark.django_db
def test_a_migrated_database_is_silent() -> None:
    assert [] == check_databases(databases=["default"])


@pytest.mark.django_db
def test_a_database_that_is_not_named_is_not_touched(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert [] == check_databases() == check_databases(databases=None) == check_databases(databases=[])


@pytest.mark.django_db
def test_a_database_without_a_log_is_not_touched(settings: Any, django_assert_num_queries: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_checks.NoLogRouter"]
    with django_assert_num_queries(0):
        assert [] == check_databases(databases=["default"])


class NoLogRouter:
    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return False if app_label == "django_eventstore" else None


@pytest.mark.django_db(transaction=True)
def test_the_check_passes_through_manage_py() -> None:
    call_command("check", databases=["default"], tags=["database"], fail_level="WARNING")


@pytest.mark.django_db(transaction=True)
def test_the_check_does_not_mind_a_flushed_log() -> None:
    save(1, 2)
    call_command("flush", interactive=False, verbosity=0)

    assert [] == check_databases(databases=["default"])


@pytest.mark.django_db
def test_autocommit_off_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)

    assert ["W010"] == database_ids()


def _triggers() -> list[str]:
    vendor = connection.vendor
    return [name for name, statement in created_objects(vendor).items() if statement.startswith("CREATE TRIGGER")]


@pytest.mark.django_db(transaction=True)
def test_each_missing_trigger_is_an_error_whose_hint_makes_it_again() -> None:
    on = {
        name: f" ON {'eventstore_entry' if name.startswith('eventstore_entry') else 'eventstore_position'}"
        for name in _triggers()
    }
    for name in on:
        execute(f"DROP TRIGGER {name}{on[name] if connection.vendor == 'postgresql' else ''}")
        try:
            (message,) = check_databases(databases=["default"])
        finally:
            execute(created_objects(connection.vendor)[name])
            if name == "eventstore_entry_stamp":
                execute("ALTER TABLE eventstore_entry ENABLE ALWAYS TRIGGER eventstore_entry_stamp")
        assert ("django_eventstore.E011", True) == (message.id, name in message.msg)
        assert created_objects(connection.vendor)[name] in str(message.hint)
        assert [] == check_databases(databases=["default"])
    assert len(on) >= 5
    save(1)
    assert [1] == log_numbers()


@pytest.mark.django_db
def test_a_database_without_the_tables_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.introspection, "table_names", lambda *args, **kwargs: ["auth_user"])

    assert [] == check_databases(databases=["default"])


@pytest.mark.django_db(transaction=True)
def test_a_database_that_cannot_be_reached_is_a_warning(register_database: RegisterDatabase) -> None:
    settings = {**connection.settings_dict, "NAME": "/nowhere/at/all/x"}
    alias = register_database(settings, alias="lost", migrate=False)

    assert ["W014"] == database_ids(alias)
    assert [] == check_databases(databases=["default"])


@pytest.mark.django_db
def test_a_database_the_log_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "oracle")

    assert ["E010"] == database_ids()


# --- PostgreSQL


@pytest.mark.postgresql
@pytest.mark.django_db
@pytest.mark.parametrize(
    "drop", ["PROCEDURE eventstore_sequence", "FUNCTION eventstore_stamp CASCADE", "FUNCTION eventstore_refuse CASCADE"]
)
def test_a_missing_routine_is_an_error_with_its_statement(drop: str) -> None:
    name = drop.split()[1]
    execute(f"DROP {drop}")

    messages = check_databases(databases=["default"])

    (message,) = [each for each in messages if f"the routine {name}" in each.msg]
    assert "django_eventstore.E011" == message.id
    for each in messages:
        execute(str(each.hint).partition("\n")[2])
    assert [] == check_databases(databases=["default"])


@pytest.mark.postgresql
@pytest.mark.django_db
@pytest.mark.parametrize(
    "state, expected",
    [("DISABLE", ["E012"]), ("ENABLE", ["E012"]), ("ENABLE REPLICA", ["E012"]), ("ENABLE ALWAYS", [])],
)
def test_a_stamp_trigger_that_does_not_always_fire_is_an_error(state: str, expected: list[str]) -> None:
    execute(f"ALTER TABLE eventstore_entry {state} TRIGGER eventstore_entry_stamp")

    assert expected == database_ids()


@pytest.mark.postgresql
@pytest.mark.django_db
@pytest.mark.parametrize(
    "state, expected", [("DISABLE", ["E012"]), ("ENABLE REPLICA", ["E012"]), ("ENABLE ALWAYS", [])]
)
def test_a_disabled_append_only_trigger_is_an_error(state: str, expected: list[str]) -> None:
    execute(f"ALTER TABLE eventstore_position {state} TRIGGER eventstore_position_refuse")

    messages = check_databases(databases=["default"])

    assert expected == ids(messages)
    if messages:
        execute(str(messages[0].hint).removeprefix("Run: "))
        assert [] == check_databases(databases=["default"])


@pytest.mark.postgresql
@pytest.mark.django_db
def test_a_sequence_cache_is_an_error_and_the_hint_mends_it() -> None:
    execute("ALTER TABLE eventstore_entry ALTER COLUMN id SET CACHE 20")

    (message,) = check_databases(databases=["default"])

    assert "django_eventstore.E013" == message.id
    execute(str(message.hint).removeprefix("Run: "))
    assert [] == check_databases(databases=["default"])


@pytest.mark.postgresql
@pytest.mark.django_db
def test_missing_privileges_are_an_error_whose_grants_are_enough() -> None:
    execute("CREATE ROLE eventstore_poor")
    execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO eventstore_poor")
    execute("REVOKE EXECUTE ON PROCEDURE eventstore_sequence FROM PUBLIC")
    execute("SET LOCAL ROLE eventstore_poor")

    (message,) = check_databases(databases=["default"])

    assert "django_eventstore.E014" == message.id
    grants = str(message.hint).splitlines()[1:]
    assert [
        "GRANT INSERT ON eventstore_entry TO eventstore_poor;",
        "GRANT INSERT ON eventstore_position TO eventstore_poor;",
        "GRANT INSERT ON eventstore_type TO eventstore_poor;",
        "GRANT INSERT, DELETE ON eventstore_tick TO eventstore_poor;",
        "GRANT INSERT ON eventstore_epoch TO eventstore_poor;",
        "GRANT EXECUTE ON PROCEDURE eventstore_sequence TO eventstore_poor;",
    ] == grants
    execute("RESET ROLE")
    for grant in grants:
        execute(grant)
    execute("SET LOCAL ROLE eventstore_poor")
    assert [] == check_databases(databases=["default"])


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_the_privileges_asked_for_are_enough_for_a_pass(
    postgres_cluster: PostgresFactory, register_database: Any
) -> None:
    cluster = postgres_cluster()
    cluster.create_database("shop")
    alias = register_database(cluster.django_settings("shop"))
    execute("CREATE ROLE poor LOGIN", using=alias)
    execute("REVOKE EXECUTE ON PROCEDURE eventstore_sequence FROM PUBLIC", using=alias)
    execute("SET ROLE poor", using=alias)
    (message,) = check_databases(databases=[alias])
    execute("RESET ROLE", using=alias)
    for grant in str(message.hint).splitlines()[1:]:
        execute(grant, using=alias)
    execute("SET ROLE poor", using=alias)

    execute(ENTRY, using=alias)
    execute("CALL eventstore_sequence(100, false, NULL, NULL, NULL)", using=alias)

    assert [(1,)] == execute("SELECT position FROM eventstore_position", using=alias)


# --- MariaDB


@pytest.mark.mariadb
@pytest.mark.django_db
def test_mysql_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "mysql_is_mariadb", False)

    (message,) = check_databases(databases=["default"])

    assert "django_eventstore.E010" == message.id
    assert "MariaDB's compound statements" in str(message.hint)


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_a_server_that_does_not_flush_is_a_warning_whose_hint_mends_it(
    mariadb_server: MariaDBFactory, register_database: RegisterDatabase
) -> None:
    server = mariadb_server()
    server.create_database("shop")
    alias = register_database(server.django_settings("shop"))
    assert [] == check_databases(databases=[alias])

    execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2", using=alias)
    (message,) = check_databases(databases=[alias])
    assert "django_eventstore.W013" == message.id
    execute(str(message.hint).removeprefix("Run ").partition(";")[0], using=alias)
    assert [] == check_databases(databases=[alias])


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_an_ordinary_account_sees_what_is_missing_and_what_an_administrator_must_do(
    mariadb_server: MariaDBFactory, register_database: RegisterDatabase
) -> None:
    server = mariadb_server(options=["--log-bin=binlog", "--log-bin-trust-function-creators=0"])
    server.create_database("shop")
    settings = server.django_settings("shop")
    root = register_database(settings)
    execute("CREATE USER poor@'%', poor@localhost", using=root)
    execute("GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO poor@'%', poor@localhost", using=root)
    poor = register_database({**settings, "USER": "poor"}, alias="poor", migrate=False)
    assert [] == check_databases(databases=[poor])

    execute("DROP TRIGGER eventstore_entry_pending", using=root)
    (message,) = check_databases(databases=[poor])
    assert "django_eventstore.E011" == message.id
    assert "SET GLOBAL log_bin_trust_function_creators = 1" in str(message.hint)
    execute("SET GLOBAL log_bin_trust_function_creators = 1", using=root)
    (message,) = check_databases(databases=[poor])
    assert "log_bin_trust_function_creators" not in str(message.hint)


# --- SQLite


@pytest.fixture
def sqlite_file(tmp_path: Any, register_database: RegisterDatabase) -> Any:
    def make(**options: str) -> str:
        settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "x.sqlite3"), "OPTIONS": options}
        return register_database(settings)

    return make


FULL = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
NORMAL = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"


@pytest.mark.no_database
@pytest.mark.django_db
@pytest.mark.parametrize(
    "options, expected",
    [
        ({"transaction_mode": "IMMEDIATE", "init_command": FULL}, []),
        ({"transaction_mode": "exclusive", "init_command": FULL}, []),
        ({"transaction_mode": "IMMEDIATE", "init_command": NORMAL}, ["W011"]),
        ({"transaction_mode": "DEFERRED", "init_command": FULL}, ["W012"]),
        ({"init_command": FULL}, ["W012"]),
        ({"init_command": "PRAGMA synchronous=OFF;"}, ["W011", "W012"]),
    ],
)
def test_sqlite_must_flush_and_begin_immediate(sqlite_file: Any, options: dict[str, str], expected: list[str]) -> None:
    assert expected == database_ids(sqlite_file(**options))


# --- all together


def test_every_check_is_registered_and_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = registry.CheckRegistry()
    monkeypatch.setattr("django_eventstore.checks.register", fresh.register)

    register_checks()

    always = {
        check_captures,
        check_settings,
        check_consumers,
        check_senders,
        check_listening,
        check_beat,
        check_broker,
        check_events,
        check_routing,
        check_handler_modes,
    }
    of_databases = {check_databases, check_stored_consumers, check_stored_types}
    assert always | of_databases == set(fresh.get_checks())
    assert of_databases == {check for check in fresh.get_checks() if Tags.database in check.tags}
    with override_settings(EVENTSTORE={"LEASES": 1}):
        messages = fresh.run_checks(tags=[TAG])
    assert [Error] == [type(each) for each in messages if each.id == "django_eventstore.E001"]
