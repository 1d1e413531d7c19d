from __future__ import annotations

import json
from concurrent.futures import TimeoutError as NotYet
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Upper
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext, isolate_apps

from django_eventstore import EventStore, capture, handles
from django_eventstore.exceptions import EventEncodingError, EventStoreError
from django_eventstore.models import EventEntry
from tests.captured.models import (
    Country,
    Customer,
    Invoice,
    Numbered,
    Order,
    Place,
    Reminder,
    Restaurant,
    Ticket,
    UrgentOrder,
)
from tests.delivery import rolled_back
from tests.recording.capturing import changes, created, deleted, kinds, told, updated
from tests.shop.events import OrderPlaced

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Veto(Exception):
    pass


def placed(order):
    return OrderPlaced(order_id=order.pk, total=order.total)


# --- created ---


def test_a_created_instance_is_told_on_its_own_stream():
    capture(Order, created=placed)
    order = Order.objects.create(total=Decimal("9.50"))
    assert [("shop.OrderPlaced", f"order-{order.pk}", {"order_id": order.pk, "total": "9.50"})] == told()
    assert ["shop.OrderPlaced"] == [entry.type for entry in EventStore().get().entries]


def test_outside_a_transaction_the_change_and_its_event_are_one_transaction():
    def veto(order):
        raise Veto

    capture(Order, created=veto)
    with pytest.raises(Veto):
        Order.objects.create()
    assert 0 == Order.objects.count()


def test_without_a_transaction_nobody_warns():
    capture(Order, created=created, updated=updated)
    order = Order.objects.create()
    order.note = "x"
    order.save()  # a warning would be an error here
    assert ["Created", "Updated"] == kinds()


def test_a_change_whose_event_was_refused_cannot_be_committed_by_a_caller_that_goes_on():
    capture(Order, created=lambda order: ("test.Bad", {"value": object()}))
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():  # noqa: PT012
        with pytest.raises(EventEncodingError):
            Order.objects.create()
        Order.objects.count()
    assert 0 == Order.objects.count()


def test_a_sync_handler_refuses_the_change_itself():
    capture(Order, updated=updated)
    order = Order.objects.create()

    @handles("test.Updated", mode="sync")
    def veto(event):
        raise Veto

    order.status = "cancelled"
    with pytest.raises(Veto):
        order.save()
    assert "placed" == Order.objects.get().status


def test_a_rolled_back_save_is_not_told():
    capture(Order, created=created)
    with rolled_back():
        Order.objects.create()
    assert [] == told()


def test_get_or_create_tells_once_and_only_what_it_creates():
    capture(Order, created=created, updated=updated)
    Order.objects.get_or_create(note="x")
    Order.objects.get_or_create(note="x")
    assert ["Created"] == kinds()


def test_update_or_create_tells_the_creation_and_then_the_changes():
    capture(Order, created=created, updated=updated)
    for status in ("placed", "cancelled", "cancelled"):
        Order.objects.update_or_create(note="x", defaults={"status": status})
    assert ["Created", "Updated"] == kinds()
    assert [{"status": ["placed", "cancelled"]}] == changes()


def test_a_builder_may_tell_several_events_or_none():
    def build(order):
        if order.note == "quiet":
            return None
        return [placed(order), None, ("test.Noted", {"note": order.note})]

    capture(Order, created=build)
    Order.objects.create(note="quiet")
    order = Order.objects.create(note="loud")
    assert [("shop.OrderPlaced", f"order-{order.pk}"), ("Noted", f"order-{order.pk}")] == [
        (kind, stream) for kind, stream, _ in told()
    ]


def test_a_creation_can_be_told_with_the_values_in_the_database():
    capture(Order, created=updated, fields=["total", "customer"], updated=updated)
    Order.objects.create(total="1.5", customer=None)
    assert [{"total": [None, "1.50"], "customer": [None, None]}] == changes()


def test_an_instance_with_an_expression_reaches_the_builder_with_its_value():
    capture(Order, created=lambda order: ("test.Noted", {"note": order.note}))
    order = Order(note=Upper(Value("loud")))
    order.save()
    assert [{"note": "LOUD"}] == [payload for _, _, payload in told()]


def test_a_copy_is_a_creation():
    capture(Order, created=created, updated=updated)
    order = Order.objects.create()
    order.pk = None
    order.save()
    assert ["Created", "Created"] == kinds()
    assert 2 == len({stream for _, stream, _ in told()})


def test_another_key_on_a_loaded_instance_is_a_creation():
    capture(Country, created=created, updated=updated)
    country = Country.objects.create(code="de", name="Germany")
    country.code = "fr"
    country.save()
    assert [("Created", "country-de"), ("Created", "country-fr")] == [(kind, stream) for kind, stream, _ in told()]


def test_a_new_instance_under_a_known_key_is_an_update():
    capture(Country, created=created, updated=updated)
    Country.objects.create(code="de", name="Germany")
    Country(code="de", name="Deutschland").save()
    assert ["Created", "Updated"] == kinds()
    assert [{"name": ["Germany", "Deutschland"]}] == changes()


def test_a_key_with_a_default_costs_no_question_before_the_insert():
    capture(Ticket, created=created, updated=updated)
    with CaptureQueriesContext(connection) as captured:
        Ticket(title="x").save()
    assert [] == [
        query for query in captured if query["sql"].startswith("SELECT") and "captured_ticket" in query["sql"]
    ]
    assert ["Created"] == kinds()


def test_a_fixture_is_not_told(tmp_path):
    capture(Order, created=created, updated=updated, fields=["note", "tags"])
    fixture = tmp_path / "orders.json"
    rows = [
        {"model": "captured.tag", "pk": 1, "fields": {"name": "t"}},
        {"model": "captured.order", "pk": 1, "fields": {"note": "x", "tags": [1]}},
    ]
    fixture.write_text(json.dumps(rows))
    call_command("loaddata", str(fixture), verbosity=0)
    assert (1, 1) == (Order.objects.count(), Order.objects.get().tags.count())
    assert [] == told()


def test_the_event_is_in_the_log_of_the_database_that_was_written():
    capture(Order, created=created, updated=updated, deleted=deleted)
    order = Order(note="x")
    order.save(using="other")
    order.note = "y"
    order.save(using="other")
    order.delete(using="other")
    assert ["Created", "Updated", "Deleted"] == kinds("other")
    assert [] == told()


# --- updated ---


@pytest.fixture
def order():
    """An order, and captured updates from then on."""
    order = Order.objects.create()
    capture(Order, updated=updated)
    return order


def test_the_changes_are_the_fields_that_differ(order):
    order.status, order.total = Order.Status.CANCELLED, "7"
    order.save()
    assert [{"status": ["placed", "cancelled"], "total": ["0.00", "7.00"]}] == changes()
    assert [f"order-{order.pk}"] == [stream for _, stream, _ in told()]


def test_a_save_that_changes_nothing_tells_nothing(order):
    order.stock, order.total = "10", 0
    order.save()
    assert [] == told()


def test_what_was_there_before_is_asked_of_the_database_not_of_an_old_instance(order):
    stale = Order.objects.get()
    Order.objects.filter(pk=order.pk).update(status="cancelled")
    stale.note = "x"
    stale.save()
    # The stale instance has put the status back, which it did not know itself.
    assert [{"status": ["placed", "cancelled"]}, {"status": ["cancelled", "placed"], "note": ["", "x"]}] == changes()


def test_update_fields_bounds_what_changes(order):
    order.status, order.note = "cancelled", "x"
    order.save(update_fields=["note"])
    assert [{"note": ["", "x"]}] == changes()


def test_a_save_of_other_fields_asks_nothing_of_the_row():
    order = Order.objects.create()
    capture(Order, updated=updated, fields=["status"])
    order.note = "x"
    with CaptureQueriesContext(connection) as captured:
        order.save(update_fields=["note"])
    assert ["UPDATE"] == [query["sql"].split()[0] for query in captured if "captured_order" in query["sql"]]
    assert [] == told()


def test_an_expression_is_told_by_its_value(order):
    seen = []

    def look(order, changes):
        seen.append((order.stock, changes["stock"]))

    capture(UrgentOrder, updated=look)
    urgent = UrgentOrder.objects.get()
    urgent.stock = F("stock") - 3
    urgent.save()
    assert [(7, (10, 7))] == seen


def test_deferred_fields_are_not_loaded_and_not_told(order):
    order = Order.objects.only("note").get()
    order.note = "x"
    order.save()
    assert [{"note": ["", "x"]}] == changes()
    assert "status" in order.get_deferred_fields()


def test_a_foreign_key_is_told_by_its_key(order):
    customer = Customer.objects.create(name="ada")
    order.customer = customer
    order.save()
    assert [{"customer": [None, customer.pk]}] == changes()


def test_a_file_is_told_by_its_name(order):
    order.attachment = "a.pdf"
    order.save()
    assert [{"attachment": ["", "a.pdf"]}] == changes()


def test_only_the_named_fields_count():
    order = Order.objects.create()
    capture(Order, updated=updated, fields=["status", "customer_id"])
    order.note = "x"
    order.save()
    assert [] == told()
    order.status, order.note = "cancelled", "y"
    order.save()
    assert [{"status": ["placed", "cancelled"]}] == changes()


def test_a_builder_may_leave_the_changes_out():
    order = Order.objects.create()
    capture(Order, updated=lambda order: ("test.Seen", {"note": order.note}))
    order.note = "x"
    order.save()
    order.save()
    assert [{"note": "x"}] == [payload for _, _, payload in told()]


def test_changes_cannot_be_changed(order):
    def spoil(order, changes):
        changes["note"] = None

    capture(UrgentOrder, updated=spoil)
    urgent = UrgentOrder.objects.get()
    urgent.note = "x"
    with pytest.raises(TypeError):
        urgent.save()


def test_a_receiver_that_saves_the_instance_again_tells_its_own_change(order):
    def once_more(instance, **kwargs):
        if instance.note == "x":
            instance.note = "y"
            instance.save()

    post_save.connect(once_more, sender=Order)
    try:
        order.note = "x"
        order.save()
    finally:
        post_save.disconnect(once_more, sender=Order)
    assert [["", "x"], ["x", "y"]] == sorted(change["note"] for change in changes())


def test_a_receiver_of_pre_save_may_save_another_instance(order):
    other = Order.objects.create(note="b")

    def another(instance, **kwargs):
        if instance.pk == order.pk:
            other.note = "c"
            other.save()

    pre_save.connect(another, sender=Order)
    try:
        order.note = "x"
        order.save()
    finally:
        pre_save.disconnect(another, sender=Order)
    assert [(f"order-{other.pk}", ["b", "c"]), (f"order-{order.pk}", ["", "x"])] == [
        (stream, payload["note"]) for _, stream, payload in told()
    ]


def test_a_save_of_an_instance_that_was_deleted_meanwhile_is_told_as_the_creation_that_it_is(order):
    capture(Order, created=created)
    Order.objects.filter(pk=order.pk).delete()
    order.save()
    assert ["Created"] == kinds()


def test_asave_tells(order):
    order.note = "x"
    async_to_sync(order.asave)()
    assert [{"note": ["", "x"]}] == changes()


def test_a_save_past_save_base_is_refused(order):
    order.note = "x"
    with pytest.raises(EventStoreError, match="past its save_base"):
        models.Model.save_base(order)

    def past_it(instance, **kwargs):
        if instance.pk != order.pk:
            models.Model.save_base(order)

    post_save.connect(past_it, sender=Order)
    try:
        with pytest.raises(EventStoreError, match="past its save_base"):
            Order.objects.create()
    finally:
        post_save.disconnect(past_it, sender=Order)


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_the_row_is_locked_before_it_is_compared(order, elsewhere):
    def change(note):
        mine = Order.objects.get()
        mine.note = note
        mine.save()

    with transaction.atomic():
        change("a")
        waiting = elsewhere(change, "b")
        with pytest.raises(NotYet):
            waiting.result(timeout=0.5)
    waiting.result(timeout=20)
    assert [{"note": ["", "a"]}, {"note": ["a", "b"]}] == changes()


# --- inheritance ---


def test_a_proxy_of_a_captured_model_is_captured_on_the_same_stream():
    capture(Order, created=created, updated=updated)
    urgent = UrgentOrder.objects.create()
    urgent.note = "x"
    urgent.save()
    assert [("Created", f"order-{urgent.pk}"), ("Updated", f"order-{urgent.pk}")] == [
        (kind, stream) for kind, stream, _ in told()
    ]


def test_a_captured_proxy_does_not_capture_its_model():
    capture(UrgentOrder, created=created)
    Order.objects.create()
    UrgentOrder.objects.create()
    assert ["Created"] == kinds()


def test_a_proxy_that_is_declared_later_is_captured():
    capture(Order, created=created, deleted=deleted)
    with isolate_apps("tests.captured"):

        class LateOrder(Order):
            class Meta:
                proxy = True
                app_label = "captured"

    LateOrder.objects.create()
    LateOrder.objects.all().delete()
    assert ["Created", "Deleted"] == kinds()


def test_a_child_is_told_once_by_what_its_parent_declares():
    capture(Place, created=created, updated=updated)
    restaurant = Restaurant.objects.create(name="a", stars=1)
    restaurant.name, restaurant.stars = "b", 2
    restaurant.save()
    assert [
        ("Created", f"place-{restaurant.pk}", {"pk": str(restaurant.pk)}),
        ("Updated", f"place-{restaurant.pk}", {"name": ["a", "b"]}),
    ] == told()


def test_the_nearest_declaration_tells():
    capture(Place, created=created, updated=updated)
    capture(Restaurant, updated=lambda restaurant, changes: ("test.Restaurant", {"fields": sorted(changes)}))
    restaurant = Restaurant.objects.create(name="a", stars=1)
    restaurant.name, restaurant.stars = "b", 2
    restaurant.save()
    assert [("Created", "place"), ("Restaurant", "restaurant")] == [
        (kind, stream.split("-")[0]) for kind, stream, _ in told()
    ]
    assert {"fields": ["name", "stars"]} == told()[1][2]


def test_a_child_for_an_existing_parent_is_no_creation_of_the_parent():
    capture(Place, created=created, updated=updated)
    place = Place.objects.create(name="a")
    Restaurant(place_ptr=place, name="b").save()
    assert [("Created", f"place-{place.pk}"), ("Updated", f"place-{place.pk}")] == [
        (kind, stream) for kind, stream, _ in told()
    ]


def test_an_abstract_model_captures_the_models_made_of_it():
    capture(Numbered, created=created, updated=updated)
    invoice = Invoice.objects.create(number=1)
    reminder = Reminder.objects.create(number=2)
    reminder.number = 3
    reminder.save()
    assert [
        ("Created", f"invoice-{invoice.pk}"),
        ("Created", f"invoice-{reminder.pk}"),
        ("Updated", f"invoice-{reminder.pk}"),
    ] == [(kind, stream) for kind, stream, _ in told()]


def test_a_model_without_captures_asks_nothing_of_the_database():
    with CaptureQueriesContext(connection) as captured:
        Customer.objects.create(name="x")
    assert 1 == len(captured)
    assert 0 == EventEntry.objects.count()
