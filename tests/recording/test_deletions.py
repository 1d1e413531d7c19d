from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from django_eventstore import capture
from tests.captured.models import Customer, Line, Numbered, Order, Place, Reminder, Restaurant, UrgentOrder
from tests.delivery import rolled_back
from tests.recording.capturing import changes, created, deleted, kinds, plain, told, updated

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Veto(Exception):
    pass


def streams():
    return [stream for _, stream, _ in told()]


def test_a_deleted_instance_is_told_on_its_stream():
    capture(Order, deleted=deleted)
    order = Order.objects.create()
    stream = f"order-{order.pk}"
    order.delete()
    assert [("Deleted", stream)] == [(kind, stream) for kind, stream, _ in told()]


def test_the_builder_may_still_look_at_what_goes_with_it():
    def build(order):
        return "test.Deleted", {"lines": [line.sku for line in order.lines.all()]}

    capture(Order, deleted=build)
    order = Order.objects.create()
    Line.objects.create(order=order, sku="a")
    order.delete()
    assert [{"lines": ["a"]}] == [payload for _, _, payload in told()]


def test_the_changes_are_the_last_values_in_the_database():
    def build(order, changes):
        return "test.Deleted", {name: [plain(change.before), change.after] for name, change in changes.items()}

    capture(Order, deleted=build, fields=["note"], updated=updated)
    order = Order.objects.create(note="x")
    order.note = "never saved"
    order.delete()
    assert [{"note": ["x", None]}] == [payload for _, _, payload in told()]


def test_an_error_of_the_builder_keeps_the_row():
    def veto(order):
        raise Veto

    capture(Order, deleted=veto)
    order = Order.objects.create()
    with pytest.raises(Veto):
        order.delete()
    assert 1 == Order.objects.count()


def test_a_rolled_back_deletion_is_not_told():
    capture(Order, deleted=deleted)
    order = Order.objects.create()
    with rolled_back():
        order.delete()
    assert [] == told()


def test_a_row_that_is_gone_already_is_not_told_again():
    capture(Order, deleted=deleted)
    order = Order.objects.create()
    stale = Order.objects.get()
    order.delete()
    stale.delete()
    assert ["Deleted"] == kinds()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_of_two_transactions_that_delete_a_row_one_tells_it(elsewhere):
    capture(Order, deleted=deleted)
    order = Order.objects.create()
    stale = Order.objects.get()
    with transaction.atomic():
        order.delete()
        waiting = elsewhere(stale.delete)
    waiting.result(timeout=20)
    assert ["Deleted"] == kinds()


def test_what_a_cascade_takes_along_is_told():
    capture(Line, deleted=deleted)
    order = Order.objects.create()
    lines = [Line.objects.create(order=order, sku=sku) for sku in "ab"]
    expected = {f"line-{line.pk}" for line in lines}
    order.delete()
    assert expected == set(streams())


def test_a_proxy_is_told_as_its_model():
    capture(Order, deleted=deleted)
    urgent = UrgentOrder.objects.create()
    expected = [f"order-{urgent.pk}"]
    urgent.delete()
    assert expected == streams()


def test_a_model_that_is_not_captured_keeps_its_fast_deletion():
    capture(Order, deleted=deleted)
    with CaptureQueriesContext(connection) as captured:
        Line.objects.all().delete()
    # Neither asked for the rows first nor deleted one by one.
    assert ["DELETE"] == [query["sql"].split()[0] for query in captured if "captured_line" in query["sql"]]


# --- inheritance ---


def test_a_deleted_child_is_told_once_by_what_its_parent_declares():
    capture(Place, deleted=deleted)
    restaurant = Restaurant.objects.create(name="a")
    expected = [f"place-{restaurant.pk}"]
    restaurant.delete()
    assert expected == streams()


def test_of_a_parent_and_a_child_that_both_tell_only_the_child_does():
    capture(Place, deleted=deleted)
    capture(Restaurant, deleted=lambda restaurant: ("test.Closed", {"stars": restaurant.stars}))
    restaurant = Restaurant.objects.create(name="a", stars=3)
    place = Place.objects.create(name="b")
    expected = [f"restaurant-{restaurant.pk}", f"place-{place.pk}"]
    Place.objects.get(pk=restaurant.pk).delete()
    place.delete()
    assert expected == streams()


def test_a_child_deleted_without_its_parent_is_no_deletion_of_the_parent():
    capture(Place, deleted=deleted)
    restaurant = Restaurant.objects.create(name="a")
    restaurant.delete(keep_parents=True)
    assert [] == told()
    assert 1 == Place.objects.count()


def test_a_child_of_a_model_captured_by_its_abstract_parent_is_told_once():
    capture(Numbered, deleted=deleted)
    reminder = Reminder.objects.create()
    expected = [f"invoice-{reminder.pk}"]
    reminder.delete()
    assert expected == streams()


# --- querysets ---


def test_a_capturing_queryset_records_its_deletions_in_one_statement():
    capture(Order, deleted=deleted)
    capture(Line, deleted=deleted)
    orders = [Order.objects.create() for _ in range(3)]
    Line.objects.create(order=orders[0], sku="a")
    with CaptureQueriesContext(connection) as captured:
        count, by_model = Order.objects.all().delete()
    inserts = [query["sql"] for query in captured if "INSERT INTO eventstore_entry" in query["sql"]]
    assert 1 == len(inserts)
    assert (4, {"captured.Line": 1, "captured.Order": 3}) == (count, by_model)
    assert sorted([f"order-{order.pk}" for order in orders]) == sorted(s for s in streams() if s.startswith("order"))
    assert 4 == len(told())


def test_a_plain_queryset_tells_each_deletion_by_the_signals():
    capture(Line, deleted=deleted)
    order = Order.objects.create()
    for sku in "ab":
        Line.objects.create(order=order, sku=sku)
    Line.objects.filter(sku="a").delete()
    assert ["Deleted"] == kinds()


def test_what_is_told_for_another_database_during_a_deletion_goes_to_its_own_log():
    capture(Order, created=created, deleted=deleted)
    Order.objects.create()

    def archive(instance, using, **kwargs):
        Order(note="archived").save(using="other")

    pre_delete.connect(archive, sender=Order)
    try:
        Order.objects.all().delete()
    finally:
        pre_delete.disconnect(archive, sender=Order)
    assert (["Created", "Deleted"], ["Created"]) == (kinds(), kinds("other"))


@pytest.mark.parametrize(
    "wrong", [lambda: Order.objects.all()[:1].delete(), lambda: Order.objects.values("pk").delete()]
)
def test_what_django_refuses_to_delete_is_refused(wrong):
    capture(Order, deleted=deleted)
    with pytest.raises(TypeError):
        wrong()


def test_the_deletion_of_a_referred_row_is_no_update_that_can_be_seen():
    """As the guide says; a base manager that records sees it: tests of querysets."""
    capture(Order, updated=updated)
    customer = Customer.objects.create(name="ada")
    Order.objects.create(customer=customer)
    customer.delete()
    assert [] == changes()
