"""Events that were recorded before their type was renamed or their form changed: read, selected, delivered."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from django.db import transaction

from django_eventstore import EventEntry, EventStore, event, handles, record, upcast
from django_eventstore.exceptions import EventDecodingError, EventIdConflict, UnknownEventType
from django_eventstore.forwarding import forward_all
from django_eventstore.models import EventKey
from tests.declarations import declarations
from tests.delivery import failure_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("declarations")]

__all__ = ["declarations"]

OLD, NEW = "shop.Sold", "orders.Sold"


def record_old(number: int, *, event_id: UUID | None = None) -> None:
    """As the code did before the rename, when there was a class of this name."""
    with transaction.atomic():
        record(OLD, {"number": number}, event_id=event_id, stream="s")


def declare_new() -> type:
    @event(NEW, version=2, aliases=[OLD])
    @dataclass(frozen=True)
    class Sold:
        n: int

    @upcast(NEW, from_version=1)
    def from_number(payload: dict[str, int]) -> dict[str, int]:
        return {"n": payload["number"]}

    return Sold


def types(*patterns: str) -> list[str]:
    return [entry.type for entry in EventStore().get(types=patterns).entries]


@pytest.mark.parametrize("pattern", [NEW, OLD, "orders.*", "shop.*", "*"])
def test_the_log_has_old_and_new_events_under_each_name(pattern: str) -> None:
    record_old(1)
    sold = declare_new()
    with transaction.atomic():
        record("shop.Other.Thing", {})
        record(sold(2))

    assert [OLD, NEW] == [name for name in types(pattern) if name != "shop.Other.Thing"]


def test_before_the_rename_the_old_name_is_not_the_new_one() -> None:
    record_old(1)
    assert [] == types(NEW)


def test_an_entry_is_read_as_its_class_of_today_and_its_data_as_it_was_recorded() -> None:
    record_old(1)
    sold = declare_new()
    with transaction.atomic():
        record(sold(2))

    first, second = EventStore().get().entries
    assert (OLD, 1, {"number": 1}, sold(1)) == (first.type, first.version, first.data, first.event)
    assert (NEW, 2, {"n": 2}, sold(2)) == (second.type, second.version, second.data, second.event)


def test_an_entry_without_a_class_has_data_and_no_event() -> None:
    record_old(1)
    (entry,) = EventStore().get().entries
    assert {"number": 1} == entry.data
    with pytest.raises(UnknownEventType, match=r"shop\.Sold"):
        _ = entry.event


def test_what_is_recorded_by_an_old_name_is_stored_under_the_new_one() -> None:
    declare_new()
    with transaction.atomic():
        (entry,) = record(OLD, {"n": 3})
    assert (NEW, 2) == (entry.type, entry.version)


def test_handlers_get_the_form_of_today_by_class_and_by_name() -> None:
    record_old(1)
    sold = declare_new()
    got: list[object] = []

    @handles(sold, start="beginning", consumer="both")
    def by_class(event: object) -> None:
        got.append(event)

    @handles("orders.*", start="beginning", consumer="both")
    def by_prefix(event: object, entry: EventEntry) -> None:
        got.append((event, entry.type))

    @handles(OLD, start="beginning", consumer="both")
    def by_old_name(event: object) -> None:
        got.append(event)

    with transaction.atomic():
        record(sold(2))
    forward_all()

    assert [sold(1), ({"n": 1}, OLD), {"n": 1}, sold(2), ({"n": 2}, NEW), {"n": 2}] == got


def test_a_handler_inside_the_transaction_is_called_by_the_new_name() -> None:
    sold = declare_new()
    got: list[object] = []

    @handles(sold, mode="sync")
    def check(event: object) -> None:
        got.append(event)

    with transaction.atomic():
        record(sold(1))
        record(OLD, {"n": 2})

    assert [sold(1), sold(2)] == got


@pytest.mark.parametrize("wanted", ["orders.*", NEW])
def test_a_worker_of_the_old_code_puts_an_event_of_the_new_one_aside_until_it_is_deployed(wanted: str) -> None:
    sold = declare_new()
    got: list[object] = []

    @handles(wanted, start="beginning", name="old")
    def follow(event: object) -> None:
        got.append(event)

    with transaction.atomic():
        record(sold(1))
    EventStore().get()
    EventEntry.objects.bulk_create([EventEntry(type=NEW, version=3, payload="{}")])
    forward_all()

    assert [{"n": 1}] == got
    failed = failure_of(2, consumer="old")
    assert "blocked" == failed.state
    assert EventDecodingError.__name__ in failed.error
    assert "newer than version 2" in failed.error


def test_an_event_id_from_before_the_rename_is_still_the_same_event() -> None:
    known = uuid4()
    record_old(1, event_id=known)
    sold = declare_new()

    with transaction.atomic():
        (entry,) = record(sold(1), stream="s", event_id=known)
        assert (OLD, known) == (entry.type, entry.event_id)
        (saved,) = EventStore().save(OLD, {"n": 1}, stream="s", event_id=known)
        assert entry == saved
    with transaction.atomic(), pytest.raises(EventIdConflict):
        record("orders.Other", {}, stream="s", event_id=known)
    assert 1 == EventEntry.objects.count()


def test_an_event_id_that_code_of_before_the_rename_recorded_meanwhile_is_the_same_event() -> None:
    known = uuid4()
    sold = declare_new()
    store = EventStore()
    prepared = store.prepare(sold(1), stream="s", event_id=known)
    with transaction.atomic():  # as a process of the old code does
        EventEntry.objects.bulk_create([EventEntry(event_id=known, type=OLD, payload='{"number":1}', stream="s")])
        EventKey.objects.create(event_id=known, entry=EventEntry.objects.get())

    with transaction.atomic():
        (entry,) = store.append(prepared, once=True)
    assert (OLD, known) == (entry.type, entry.event_id)
    assert 1 == EventEntry.objects.count()
