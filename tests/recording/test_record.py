from __future__ import annotations

import warnings
from dataclasses import dataclass
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, connections, models, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, isolate_apps

from django_eventstore import EventStore, arecord, event, handles, record
from django_eventstore.events import registry
from django_eventstore.exceptions import EventDecodingError, EventStoreError
from django_eventstore.models import EventEntry
from django_eventstore.signals import event_recorded
from tests.delivery import COUNTED, numbers_of, rolled_back
from tests.shop.events import OrderCancelled, OrderPlaced
from tests.shop.models import Order, Refund

pytestmark = pytest.mark.django_db(transaction=True)


class Veto(Exception):
    pass


def stored() -> list[EventEntry]:
    return list(EventEntry.objects.order_by("id"))


def test_an_event_is_in_the_log_when_its_transaction_committed():
    with transaction.atomic():
        entries = record(COUNTED, {"n": 1})
        assert entries[0].position is None
    page = EventStore().get()
    assert [entries[0].event_id] == [entry.event_id for entry in page.entries]
    assert [1] == [entry.position for entry in page.entries]


def test_an_event_is_not_in_the_log_when_its_transaction_was_rolled_back():
    with rolled_back():
        record(COUNTED, {"n": 1})
    assert () == EventStore().get().entries


def test_an_event_of_a_rolled_back_savepoint_is_not_in_the_log():
    with transaction.atomic():
        record(COUNTED, {"n": 1})
        with rolled_back():
            record(COUNTED, {"n": 2})
        record(COUNTED, {"n": 3})
    assert [1, 3] == numbers_of(EventStore().get().entries)


def test_outside_a_transaction_it_warns_at_the_line_of_the_caller_and_records():
    with pytest.warns(RuntimeWarning, match="was called outside transaction") as warned:
        record(COUNTED, {"n": 1})
    assert __file__ == warned[0].filename
    assert 1 == len(stored())


@override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": "error"})
def test_outside_a_transaction_it_refuses_when_told_to():
    with pytest.raises(EventStoreError, match="was called outside transaction"):
        record(COUNTED, {"n": 1})
    assert [] == stored()


@override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": "allow"})
def test_outside_a_transaction_it_is_silent_when_told_to():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record(COUNTED, {"n": 1})
    assert 1 == len(stored())


@pytest.mark.parametrize("choice", ["warn", "error"])
def test_without_autocommit_a_transaction_is_open_and_nothing_is_amiss(choice):
    with override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": choice}), warnings.catch_warnings():
        warnings.simplefilter("error")
        transaction.set_autocommit(False)
        try:
            Order.objects.create(total=1)
            record(COUNTED, {"n": 1})
            transaction.rollback()
            Order.objects.create(total=2)
            record(COUNTED, {"n": 2})
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
    assert [2] == numbers_of(stored())


@pytest.mark.parametrize("count", [1, 2, 40])
def test_several_events_are_one_insert_statement_in_their_order(count):
    events = [OrderCancelled(order_id=number, reason="") for number in range(count)]
    with transaction.atomic():
        record(COUNTED, {"n": 0})  # where consumers start is looked up once
        with CaptureQueriesContext(connection) as captured:
            entries = record(*events)
    assert 1 == sum(query["sql"].count("INSERT INTO eventstore_entry") for query in captured)
    assert list(range(count)) == [entry.data["order_id"] for entry in entries]
    assert [entry.pk for entry in entries] == [entry.pk for entry in stored()[1:]]


def test_one_event_in_a_process_that_knows_its_consumers_is_one_statement():
    with transaction.atomic():
        record(COUNTED, {"n": 0})
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        record(COUNTED, {"n": 1})
    assert 1 == len(captured)


def test_an_event_without_a_class_has_version_one_and_its_mapping_as_payload():
    with transaction.atomic():
        (entry,) = record("billing.Paid", {"amount": "1.50", "deep": {"list": [1, None]}})
    assert ("billing.Paid", 1) == (entry.type, entry.version)
    assert {"amount": "1.50", "deep": {"list": [1, None]}} == EventStore().get().entries[0].data


def test_metadata_subject_and_event_id_are_kept():
    event_id = uuid4()
    with transaction.atomic():
        record(COUNTED, {"n": 1}, metadata={"actor": "ann"}, subject="customer-7", event_id=event_id)
    (entry,) = EventStore().get().entries
    assert ('{"actor":"ann"}', "customer-7", event_id) == (entry.metadata, entry.subject, entry.event_id)


def test_the_stream_of_an_instance_is_its_model_and_key():
    with transaction.atomic():
        order = Order.objects.create(total=1)
        (entry,) = record(COUNTED, {"n": 1}, stream=order)
    assert f"order-{order.pk}" == entry.stream


def test_a_proxy_has_the_stream_of_its_model():
    with isolate_apps("tests.shop"):

        class RushOrder(Order):
            class Meta:
                proxy = True
                app_label = "shop"

        with transaction.atomic():
            order = RushOrder.objects.create(total=1)
            (entry,) = record(COUNTED, {"n": 1}, stream=order)
    assert f"order-{order.pk}" == entry.stream


def test_a_text_is_a_stream_as_it_is_and_none_is_no_stream():
    with transaction.atomic():
        assert "Ünïcode stream " == record(COUNTED, {"n": 1}, stream="Ünïcode stream ")[0].stream
        assert "" == record(COUNTED, {"n": 1})[0].stream


def test_an_unsaved_instance_is_no_stream_and_nothing_is_recorded():
    with transaction.atomic(), pytest.raises(ValueError, match="no primary key"):
        record(COUNTED, {"n": 1}, stream=Order(total=1))
    assert [] == stored()


def test_a_deferred_key_of_zero_is_a_key():
    class Keyed(models.Model):
        class Meta:
            app_label = "shop"
            managed = False

    try:
        with transaction.atomic():
            assert "keyed-0" == record(COUNTED, {"n": 1}, stream=Keyed(pk=0))[0].stream
    finally:
        from django.apps import apps

        del apps.all_models["shop"]["keyed"]
        apps.clear_cache()


def test_no_event_at_all_is_an_error():
    with transaction.atomic(), pytest.raises(ValueError, match="no event"):
        record()


def test_what_is_not_an_event_is_an_error():
    with transaction.atomic(), pytest.raises(TypeError, match="is not an event"):
        record({"n": 1})


def test_a_repeated_event_id_returns_the_first_entry_and_runs_no_handler():
    seen = []

    @handles(COUNTED, mode="sync")
    def note(event):
        seen.append(event["n"])

    event_id = uuid4()
    with transaction.atomic():
        (first,) = record(COUNTED, {"n": 1}, event_id=event_id)
    with transaction.atomic():
        (second,) = record(COUNTED, {"n": 1}, event_id=event_id)
    assert first.pk == second.pk
    assert [1] == seen
    assert 1 == len(stored())


def test_arecord_records_as_record_does():
    with override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": "allow"}):
        (entry,) = async_to_sync(arecord)(COUNTED, {"n": 1}, stream="s")
    assert [("s", 1)] == [(found.stream, found.data["n"]) for found in stored()]
    assert entry.pk == stored()[0].pk


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_using_names_the_database_of_the_transaction():
    with transaction.atomic(using="other"):
        record(COUNTED, {"n": 1}, using="other")
    assert [] == stored()
    assert [1] == numbers_of(EventStore("other").get().entries)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_transaction_of_another_database_is_no_transaction():
    with pytest.warns(RuntimeWarning), transaction.atomic(using="other"):
        record(COUNTED, {"n": 1}, using="default")
    assert connections["default"].get_autocommit()


# --- handlers inside the transaction ---


def test_a_sync_handler_runs_before_the_insert_and_in_the_transaction():
    seen = []

    @handles(OrderCancelled, mode="sync")
    def refund(event):
        seen.append((event, len(stored()), connection.in_atomic_block))
        Refund.objects.create(order_id=event.order_id)

    cancelled = OrderCancelled(order_id=7, reason="late")
    with transaction.atomic():
        record(cancelled)
    assert [(cancelled, 0, True)] == seen
    assert [7] == list(Refund.objects.values_list("order_id", flat=True))


def test_a_sync_handler_runs_in_a_transaction_also_where_the_caller_opened_none():
    @handles(OrderCancelled, mode="sync")
    def refund(event):
        Refund.objects.create(order_id=event.order_id)
        raise Veto

    with override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": "allow"}), pytest.raises(Veto):
        record(OrderCancelled(order_id=7, reason="late"))
    assert 0 == Refund.objects.count()
    assert [] == stored()


def test_a_sync_handler_vetoes_by_raising_and_nothing_is_recorded():
    @handles(OrderCancelled, mode="sync")
    def refuse(event):
        if event.order_id == 2:
            raise Veto

    with transaction.atomic():
        with pytest.raises(Veto):
            record(OrderCancelled(order_id=1, reason=""), OrderCancelled(order_id=2, reason=""))
        record(COUNTED, {"n": 3})
    assert [COUNTED] == [entry.type for entry in stored()]


def test_sync_handlers_run_event_by_event_in_the_order_of_their_declaration():
    calls = []

    @handles("shop.*", mode="sync", name="second")
    def by_prefix(event, entry):
        calls.append(("prefix", entry.type, event["order_id"]))

    @handles(OrderCancelled, mode="sync", name="first")
    def by_class(event):
        calls.append(("class", event.order_id))

    with transaction.atomic():
        record(OrderPlaced(order_id=1, total=2), OrderCancelled(order_id=1, reason=""))
    assert [("prefix", "shop.OrderPlaced", 1), ("prefix", "shop.OrderCancelled", 1), ("class", 1)] == calls


def test_a_sync_handler_gets_the_entry_that_will_be_stored():
    got = []

    @handles(COUNTED, mode="sync")
    def look(event, entry):
        got.append((entry.event_id, entry.stream, entry.subject, entry.pk, entry.position))

    with transaction.atomic():
        (entry,) = record(COUNTED, {"n": 1}, stream="s", subject="who")
    assert [(entry.event_id, "s", "who", None, None)] == got


def test_a_sync_handler_may_be_async_and_its_queries_are_in_the_transaction():
    @handles(OrderCancelled, mode="sync")
    async def refund(event):
        await Refund.objects.acreate(order_id=event.order_id)

    with rolled_back():
        record(OrderCancelled(order_id=7, reason=""))
        assert 1 == Refund.objects.count()
    assert 0 == Refund.objects.count()


def test_what_a_sync_handler_records_stands_before_the_event_itself():
    @handles("test.Outer", mode="sync")
    def inner(event):
        record("test.Inner", {})

    with transaction.atomic():
        record("test.Outer", {})
    assert ["test.Inner", "test.Outer"] == [entry.type for entry in EventStore().get().entries]


def test_a_durable_handler_does_not_run_in_the_transaction():
    @handles(COUNTED)
    def fail(event):
        raise Veto

    with transaction.atomic():
        record(COUNTED, {"n": 1})
    assert 1 == len(stored())


def test_a_typed_sync_handler_refuses_a_mapping_that_does_not_fit_its_class(monkeypatch):
    monkeypatch.setattr(registry, "_by_type", dict(registry._by_type))
    monkeypatch.setattr(registry, "_by_class", dict(registry._by_class))

    @event("recorded.Typed")
    @dataclass(frozen=True)
    class Typed:
        n: int

    @handles(Typed, mode="sync")
    def look(event):
        raise AssertionError("never called")

    with transaction.atomic(), pytest.raises(EventDecodingError):
        record("recorded.Typed", {"n": "no number"})
    assert [] == stored()


# --- signals ---


def test_event_recorded_is_sent_in_the_transaction_with_the_stored_entries():
    got = []

    def receiver(*, entries, using, **kwargs):
        got.append(([entry.pk for entry in entries], using, connection.in_atomic_block))

    event_recorded.connect(receiver)
    try:
        with transaction.atomic():
            entries = record(OrderCancelled(order_id=1, reason=""), OrderCancelled(order_id=2, reason=""))
    finally:
        event_recorded.disconnect(receiver)
    assert [([entry.pk for entry in entries], "default", True)] == got


def test_a_receiver_that_raises_stops_neither_the_others_nor_the_caller(caplog):
    got = []

    def bad(**kwargs):
        raise Veto("bad receiver")

    def good(**kwargs):
        got.append(1)

    event_recorded.connect(bad)
    event_recorded.connect(good)
    try:
        with transaction.atomic():
            record(COUNTED, {"n": 1})
    finally:
        event_recorded.disconnect(bad)
        event_recorded.disconnect(good)
    assert [1] == got
    assert 1 == len(stored())
    assert "bad receiver" in caplog.text
