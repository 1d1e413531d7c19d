"""Each check of the declared events and the stored types is there when something is wrong, and silent when it is right."""

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_eventstore import EventStore, event, upcast
from django_eventstore.events import registry, retire
from django_eventstore.inspection.event_checks import check_events, check_stored_types
from django_eventstore.models import EventEntry, EventType
from tests.declarations import declarations

pytestmark = pytest.mark.usefixtures("only_these")

__all__ = ["declarations"]


@pytest.fixture
def only_these(declarations: None) -> None:
    for declared in (registry._by_type, registry._by_class, registry._upcasters, registry._retired):
        declared.clear()  # type: ignore[attr-defined]


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("django_eventstore.") for message in messages]


def declare(type_name: str, *, version: int = 1, aliases: tuple[str, ...] = (), **fields: Any) -> None:
    event(type_name, version=version, aliases=aliases)(make_dataclass("Example", fields.items(), frozen=True))


def unchanged(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


# --- what is declared


def test_right_declarations_are_silent() -> None:
    declare("a.A", n=int)
    declare("a.B", version=3, n=int)
    declare("a.C", version=2, aliases=("b.C",), n=int)
    upcast("a.C", from_version=1)(unchanged)
    assert [] == check_events()


def test_a_class_that_cannot_be_read_back_is_an_error() -> None:
    declare("a.A", n="NowhereToBeFound")
    (message,) = check_events()
    assert ["E030"] == ids([message])
    assert "'a.A'" in message.msg
    assert "NowhereToBeFound" in message.msg


@pytest.mark.parametrize("declared, missing", [((1, 3), "2"), ((3,), "1, 2"), ((1,), "2, 3")])
def test_a_gap_in_a_chain_is_an_error_that_names_the_step(declared: tuple[int, ...], missing: str) -> None:
    declare("a.A", version=4, n=int)
    for step in declared:
        upcast("a.A", from_version=step)(unchanged)
    (message,) = check_events()
    assert ["E031"] == ids([message])
    assert message.msg.endswith(f"no upcaster from version {missing}.")
    assert f"from_version={missing[0]})" in (message.hint or "")


@pytest.mark.parametrize("type_name, step", [("a.A", 2), ("a.Misspelt", 1)])
def test_an_upcaster_that_never_runs_is_an_error(type_name: str, step: int) -> None:
    declare("a.A", version=2, n=int)
    upcast("a.A", from_version=1)(unchanged)
    upcast(type_name, from_version=step)(unchanged)
    (message,) = check_events()
    assert ["E032"] == ids([message])
    assert f"{type_name!r} from version {step} never runs" in message.msg


# --- what is stored


def store(*stored: tuple[str, int], using: str = "default") -> None:
    EventEntry.objects.using(using).bulk_create(
        [EventEntry(type=name, version=version, payload="{}") for name, version in stored]
    )
    EventStore(using).get()


def stored_messages(*aliases: str) -> list[CheckMessage]:
    return check_stored_types(databases=list(aliases or ("default",)))


@pytest.mark.django_db(transaction=True)
def test_stored_types_that_are_declared_are_silent() -> None:
    declare("a.A", version=2, aliases=("b.A",), n=int)
    store(("a.A", 1), ("a.A", 2), ("b.A", 1))
    assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
def test_types_that_are_recorded_by_name_alone_are_silent() -> None:
    declare("a.A", n=int)
    store(("a.Other", 1), ("far.Thing", 1))
    assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("stored", ["a.A", "b.A"])
def test_a_newer_version_than_the_declared_is_a_warning(stored: str) -> None:
    declare("a.A", version=2, aliases=("b.A",), n=int)
    store((stored, 2), (stored, 3))
    (message,) = stored_messages()
    assert ["W030"] == ids([message])
    assert f"type {stored!r} on 'default' has version 3, and this code declares 2" in message.msg


@pytest.mark.django_db(transaction=True)
def test_only_the_newest_event_of_a_type_counts() -> None:
    declare("a.A", n=int)
    store(("a.A", 2), ("a.A", 1))
    assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
def test_a_type_that_must_have_had_a_class_is_a_warning() -> None:
    store(("a.Gone", 2))
    (message,) = stored_messages()
    assert ["W031"] == ids([message])
    assert "'a.Gone'" in message.msg
    assert "retire('a.Gone')" in (message.hint or "")


@pytest.mark.django_db(transaction=True)
def test_a_type_whose_class_seems_to_have_moved_is_a_warning_that_an_alias_cures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declare("orders.Placed", n=int)
    store(("shop.Placed", 1))
    (message,) = stored_messages()
    assert ["W031"] == ids([message])
    assert "'orders.Placed' is declared" in message.msg

    registry._by_type.clear()
    declare("orders.Placed", aliases=("shop.Placed",), n=int)
    assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
def test_a_retired_type_is_silent() -> None:
    declare("orders.Placed", n=int)
    store(("a.Gone", 2), ("shop.Placed", 1))
    retire("a.Gone", "shop.Placed")
    assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
def test_a_type_whose_events_are_all_gone_is_silent() -> None:
    declare("a.A", n=int)
    EventType.objects.create(name="a.A")
    EventType.objects.create(name="a.Gone")
    assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
def test_the_log_is_looked_at_in_one_statement_however_many_types_there_are() -> None:
    store(*((f"a.T{number}", 1) for number in range(20)))
    with CaptureQueriesContext(connection) as captured:
        assert [] == stored_messages()
    looks = [query["sql"] for query in captured if "eventstore_type" in query["sql"] and "FROM" in query["sql"]]
    assert 1 == sum("eventstore_position" in sql for sql in looks)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_named_database_is_looked_at_and_no_other() -> None:
    declare("a.A", n=int)
    store(("a.A", 2), using="other")
    assert [] == stored_messages("default") == check_stored_types() == check_stored_types(databases=[])
    (message,) = stored_messages("default", "other")
    assert "on 'other'" in message.msg


@pytest.mark.django_db(transaction=True)
def test_a_database_without_the_tables_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    store(("a.Gone", 2))
    monkeypatch.setattr(connection.introspection, "table_names", lambda *args, **kwargs: ["auth_user"])
    assert [] == stored_messages()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_cannot_be_asked_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventType._meta, "db_table", "eventstore_position")
    (message,) = stored_messages()
    assert ["W032"] == ids([message])
