from __future__ import annotations

from concurrent.futures import TimeoutError as NotYet

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import FieldDoesNotExist
from django.db import connection, transaction
from django.db.models import Count, F, Q, Value
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext

from django_eventstore import capture, handles
from django_eventstore.exceptions import EventEncodingError, EventStoreError
from tests.captured.models import Account, Country, Customer, Line, Order, Place, Restaurant, Seat, Tag, UrgentOrder
from tests.delivery import rolled_back
from tests.recording.capturing import changes, created, deleted, kinds, told, updated

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Veto(Exception):
    pass


def verbs(captured):
    """What was done to which table, by everything but savepoints."""
    found = []
    for query in captured:
        sql = query["sql"]
        if sql.startswith("COPY") or "INTO eventstore_entry" in sql:
            found.append("events")
        elif "captured_order" in sql:
            found.append(sql.split()[0])
    return found


def streams():
    return [stream for _, stream, _ in told()]


@pytest.fixture
def orders():
    """Three orders, and captured updates from then on."""
    found = [Order.objects.create(note=note) for note in "abc"]
    capture(Order, updated=updated)
    return found


# --- bulk_create ---


@pytest.mark.parametrize("count", [1, 3, 60])
def test_bulk_create_tells_each_instance_in_one_statement(count):
    capture(Order, created=created)
    with CaptureQueriesContext(connection) as captured:
        orders = Order.objects.bulk_create(Order(note=str(n)) for n in range(count))
    assert [f"order-{order.pk}" for order in orders] == streams()
    assert ["INSERT", "events"] == verbs(captured)


def test_bulk_create_of_nothing_tells_nothing():
    capture(Order, created=created)
    assert [] == Order.objects.bulk_create([])
    assert [] == told()


def test_bulk_create_is_undone_with_its_events():
    capture(Order, created=lambda order: ("test.Bad", {"value": object()}))
    with pytest.raises(EventEncodingError):
        Order.objects.bulk_create([Order()])
    assert 0 == Order.objects.count()
    capture(UrgentOrder, created=created)
    with rolled_back():
        UrgentOrder.objects.bulk_create([UrgentOrder()])
    assert [] == told()


def test_bulk_create_can_be_told_with_the_values_in_the_database():
    capture(Order, created=updated, updated=updated, fields=["total", "note"])
    Order.objects.bulk_create([Order(total="1.5", note=Upper(Value("x")))])
    assert [{"total": [None, "1.50"], "note": [None, "X"]}] == changes()


def test_bulk_create_gives_the_builder_values_in_place_of_expressions():
    capture(Order, created=lambda order: ("test.Noted", {"note": order.note}))
    Order.objects.bulk_create([Order(note=Upper(Value("x"))), Order(note="y")])
    assert [{"note": "X"}, {"note": "y"}] == [payload for _, _, payload in told()]


@pytest.mark.parametrize(
    "option",
    [
        {"ignore_conflicts": True},
        {"update_conflicts": True, "unique_fields": ["code"], "update_fields": ["name"]},
    ],
)
def test_bulk_create_that_cannot_say_what_is_new_is_refused(option):
    capture(Country, created=created)
    with pytest.raises(EventStoreError, match=next(iter(option))):
        Country.objects.bulk_create([Country(code="de", name="x")], **option)
    assert 0 == Country.objects.count()


def test_bulk_create_that_may_update_is_refused_when_updates_are_captured():
    capture(Country, updated=updated)
    with pytest.raises(EventStoreError, match="update_conflicts"):
        Country.objects.bulk_create([Country(code="de")], update_conflicts=True, update_fields=["name"])


def test_bulk_create_of_a_model_whose_creation_is_not_captured_is_djangos():
    capture(Country, deleted=created)
    Country.objects.bulk_create([Country(code="de")] * 1)
    Country.objects.bulk_create([Country(code="de")], ignore_conflicts=True)
    assert [] == told()


def test_abulk_create_tells():
    capture(Order, created=created)
    async_to_sync(Order.objects.all().abulk_create)([Order()])
    assert ["Created"] == kinds()


# --- update ---


def test_update_tells_each_row_that_changed(orders):
    assert 2 == Order.objects.filter(note__in="ab").update(note="b", status="cancelled")
    assert [
        ("Updated", f"order-{orders[0].pk}", {"status": ["placed", "cancelled"], "note": ["a", "b"]}),
        ("Updated", f"order-{orders[1].pk}", {"status": ["placed", "cancelled"]}),
    ] == told()


def test_update_reads_twice_and_records_once(orders):
    with CaptureQueriesContext(connection) as captured:
        Order.objects.update(note="x")
    assert ["SELECT", "UPDATE", "SELECT", "events"] == verbs(captured)


def test_update_tells_an_expression_by_its_value(orders):
    Order.objects.filter(note="a").update(stock=F("stock") + 1)
    assert [{"stock": [10, 11]}] == changes()


def test_update_gives_the_builder_the_instance_after_the_change(orders):
    capture(UrgentOrder, updated=lambda order: ("test.Seen", {"note": order.note}))
    UrgentOrder.objects.filter(note="a").update(note="x")
    assert [{"note": "x"}] == [payload for _, _, payload in told()]


def test_update_out_of_its_own_filter_is_told(orders):
    assert 3 == Order.objects.filter(status="placed").update(status="cancelled")
    assert 0 == Order.objects.filter(status="placed").update(status="cancelled")
    assert 3 == len(told())


def test_update_of_fields_that_do_not_count_is_djangos_one_statement():
    Order.objects.create()
    capture(Order, updated=updated, fields=["status"])
    with CaptureQueriesContext(connection) as captured:
        assert 1 == Order.objects.update(note="x")
    assert ["UPDATE"] == verbs(captured)


def test_update_is_undone_with_its_events(orders):
    @handles("test.Updated", mode="sync")
    def veto(event):
        raise Veto

    with pytest.raises(Veto):
        Order.objects.update(note="x")
    assert ["a", "b", "c"] == sorted(Order.objects.values_list("note", flat=True))


@pytest.mark.parametrize(
    "query",
    [
        lambda: Order.objects.filter(Q(customer__name="ada") | Q(customer=None)),
        lambda: Order.objects.filter(tags__name="t").distinct(),
        lambda: Order.objects.annotate(n=Count("tags")).filter(n=1),
        lambda: Order.objects.values("note"),
        lambda: Order.objects.values_list("pk", flat=True),
        lambda: Order.objects.select_related("customer").prefetch_related("tags").order_by("-note"),
        lambda: Order.objects.only("note"),
        lambda: Order.objects.defer("status"),
        lambda: Order.objects.annotate(loud=Upper("note")).filter(loud="A"),
        lambda: Order.objects.filter(pk__in=Order.objects.values("pk")),
        lambda: Tag.objects.get().orders.all(),
        lambda: UrgentOrder.objects.all(),
        lambda: Order.objects.using("default"),
    ],
)
def test_update_of_any_query_is_told(query):
    order = Order.objects.create(note="a", customer=Customer.objects.create(name="ada"))
    order.tags.add(Tag.objects.create(name="t"))
    capture(Order, updated=updated)
    assert 1 == query().update(status="cancelled")
    assert [{"status": ["placed", "cancelled"]}] == changes()


@pytest.mark.parametrize(
    "error, wrong",
    [
        (TypeError, lambda: Order.objects.all()[:1].update(note="x")),
        (FieldDoesNotExist, lambda: Order.objects.update(nothing="x")),
        (EventStoreError, lambda: Order.objects.update(pk=7)),
        (EventStoreError, lambda: Order.objects.update(id=7)),
        (EventStoreError, lambda: UrgentOrder.objects.update(id=7)),
    ],
)
def test_update_that_cannot_be_is_refused(orders, error, wrong):
    with pytest.raises(error):
        wrong()
    assert [] == told()


def test_update_on_another_database_is_told_there(orders):
    Order(note="x").save(using="other")
    Order.objects.using("other").update(note="y")
    assert ([], [{"note": ["x", "y"]}]) == (changes(), changes("other"))


def test_update_of_a_child_is_told_as_its_parent_declares():
    restaurant = Restaurant.objects.create(name="a", stars=1)
    capture(Place, updated=updated)
    assert 1 == Restaurant.objects.filter(stars=1).update(name="b", stars=2)
    assert [("Updated", f"place-{restaurant.pk}", {"name": ["a", "b"]})] == told()


def test_update_of_the_key_of_a_parent_is_refused():
    capture(Place, updated=updated)
    for name in ("pk", "id", "place_ptr", "place_ptr_id"):
        with pytest.raises(EventStoreError):
            Restaurant.objects.update(**{name: 7})


def test_update_of_a_child_is_told_with_the_fields_of_all_its_tables():
    Restaurant.objects.create(name="a", stars=1)
    capture(Restaurant, updated=updated)
    Restaurant.objects.update(name="b", stars=2)
    assert [{"name": ["a", "b"], "stars": [1, 2]}] == changes()


def test_more_rows_than_a_statement_takes_keys_are_told_in_one_statement(orders):
    Order.objects.bulk_create(Order(note="many") for _ in range(1_200))
    with CaptureQueriesContext(connection) as captured:
        assert 1_200 == Order.objects.filter(note="many").update(note="x")
    assert 1_200 == len(told())
    assert 1 == len({query["sql"][:40] for query in captured if "INTO eventstore_entry" in query["sql"]}) or (
        connection.vendor == "postgresql"
    )


def test_aupdate_tells(orders):
    async_to_sync(Order.objects.filter(note="a").aupdate)(note="x")
    assert [{"note": ["a", "x"]}] == changes()


def wait_for(future):
    """Until it waits for a lock, or has had the time to do so."""
    with pytest.raises(NotYet):
        future.result(timeout=0.5)


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize("query", [lambda: Order.objects.all(), lambda: Order.objects.distinct()])
def test_update_waits_for_a_change_and_asks_its_question_again(orders, elsewhere, query):
    with transaction.atomic():
        Order.objects.filter(note="a").update(note="early")
        waiting = elsewhere(lambda: query().filter(note="a").update(note="late"))
        wait_for(waiting)
    assert 0 == waiting.result(timeout=20)
    assert [{"note": ["a", "early"]}] == changes()


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize("query", [lambda: Order.objects.all(), lambda: Order.objects.distinct()])
def test_update_that_has_waited_tells_what_it_found(orders, elsewhere, query):
    with transaction.atomic():
        Order.objects.filter(pk=orders[0].pk).update(note="early")
        waiting = elsewhere(lambda: query().filter(pk=orders[0].pk).update(note="late"))
        wait_for(waiting)
    assert 1 == waiting.result(timeout=20)
    assert [{"note": ["a", "early"]}, {"note": ["early", "late"]}] == changes()


@pytest.mark.postgresql
def test_update_does_not_wait_for_who_refers_to_the_row(orders, elsewhere):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # Django's foreign keys are else looked at by the commit
        Line.objects.create(order=orders[0], sku="a")
        assert 3 == elsewhere(Order.objects.update, note="x").result(timeout=20)


def test_update_that_changes_a_generated_field_is_told():
    account = Account.objects.create(balance=5)
    capture(Account, updated=updated, fields=["is_overdrawn"])
    Account.objects.update(balance=3)
    Account.objects.update(balance=-3)
    assert [{"is_overdrawn": [False, True]}] == changes()
    account.balance = 4
    account.save(update_fields=["balance"])
    assert {"is_overdrawn": [True, False]} == changes()[1]


def test_a_generated_field_does_not_count_unless_it_is_named():
    Account.objects.create()
    capture(Account, updated=updated)
    Account.objects.update(balance=-3)
    assert [{"balance": [0, -3]}] == changes()


def test_rows_with_a_composite_key_are_told():
    capture(Seat, created=created, updated=updated, deleted=deleted)
    seat = Seat(row=1, number=2)
    seat.save()
    seat.guest = "ada"
    seat.save()
    Seat.objects.bulk_create([Seat(row=1, number=3)])
    Seat.objects.filter(number=3).update(guest="bob")
    seat.guest = "eve"
    Seat.objects.bulk_update([seat], ["guest"])
    Seat.objects.filter(number=3).delete()
    seat.delete()
    assert ["Created", "Updated", "Created", "Updated", "Updated", "Deleted", "Deleted"] == kinds()
    assert [["", "ada"], ["", "bob"], ["ada", "eve"]] == [change["guest"] for change in changes()]
    assert 2 == len(set(streams()))


# --- bulk_update ---


def test_bulk_update_tells_each_row_that_changed_in_one_statement(orders):
    orders[0].note = "x"
    orders[1].note = "y"
    with CaptureQueriesContext(connection) as captured:
        assert 3 == Order.objects.bulk_update(orders, ["note"], batch_size=1)
    assert [{"note": ["a", "x"]}, {"note": ["b", "y"]}] == changes()
    assert ["SELECT", "UPDATE", "UPDATE", "UPDATE", "SELECT", "events"] == verbs(captured)


def test_bulk_update_of_fields_that_do_not_count_is_djangos():
    order = Order.objects.create()
    capture(Order, updated=updated, fields=["status"])
    with CaptureQueriesContext(connection) as captured:
        Order.objects.bulk_update([order], ["note"])
    assert ["UPDATE"] == verbs(captured)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda order: Order.objects.bulk_update([order], []),
        lambda order: Order.objects.bulk_update([order], ["id"]),
        lambda order: Order.objects.bulk_update([Order()], ["note"]),
    ],
)
def test_bulk_update_that_django_refuses_is_refused(orders, wrong):
    with pytest.raises(ValueError):
        wrong(orders[0])
    assert [] == told()


def test_abulk_update_tells(orders):
    orders[0].note = "x"
    async_to_sync(Order.objects.all().abulk_update)(orders, ["note"])
    assert [{"note": ["a", "x"]}] == changes()


# --- what Django itself changes in bulk ---


def test_what_a_related_manager_removes_is_told():
    customer = Customer.objects.create(name="ada")
    order = Order.objects.create(customer=customer)
    capture(Order, updated=updated)
    customer.orders.remove(order)
    assert [{"customer": [customer.pk, None]}] == changes()


def test_a_base_manager_that_records_sees_what_django_changes_through_it():
    customer = Customer.objects.create(name="ada")
    account = Account.objects.create()
    capture(Account, updated=updated)
    customer.accounts.add(account)
    key = customer.pk
    customer.delete()
    assert [{"owner": [None, key]}, {"owner": [key, None]}] == changes()


def test_a_capturing_queryset_of_a_model_that_is_not_captured_is_a_plain_one():
    with CaptureQueriesContext(connection) as captured:
        Order.objects.bulk_create([Order()])
        Order.objects.update(note="x")
    assert ["INSERT", "UPDATE"] == verbs(captured)


def test_a_manager_has_no_delete():
    assert not hasattr(Order.objects, "delete")
    assert Order.objects.all().update.alters_data
