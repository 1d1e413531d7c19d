from __future__ import annotations

from concurrent.futures import TimeoutError as NotYet

import pytest
from django.db import transaction

from django_eventstore import capture
from tests.captured.models import Order, Person, Tag, UrgentOrder
from tests.recording.capturing import changes, told, updated

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def tags():
    return [Tag.objects.create(name=name) for name in "abc"]


@pytest.fixture
def order(tags):
    """An order with the first tag, and its tags captured from then on."""
    order = Order.objects.create()
    order.tags.add(tags[0])
    capture(Order, updated=updated, fields=["note", "tags"])
    return order


def test_added_links_are_told_and_those_that_were_there_are_not(order, tags):
    order.tags.add(*tags)
    assert [("Updated", f"order-{order.pk}", {"tags": [[], [tags[1].pk, tags[2].pk]]})] == told()
    order.tags.add(*tags)
    assert 1 == len(told())


def test_removed_links_are_told_and_those_that_never_were_are_not(order, tags):
    order.tags.remove(*tags)
    assert [{"tags": [[tags[0].pk], []]}] == changes()
    order.tags.remove(*tags)
    assert 1 == len(told())


def test_cleared_links_are_told(order, tags):
    order.tags.clear()
    order.tags.clear()
    assert [{"tags": [[tags[0].pk], []]}] == changes()


def test_set_tells_what_went_and_then_what_came(order, tags):
    order.tags.set(tags[1:])
    assert [{"tags": [[tags[0].pk], []]}, {"tags": [[], [tags[1].pk, tags[2].pk]]}] == changes()


def test_a_builder_reads_a_change_of_links_by_name():
    seen = []
    order, tag = Order.objects.create(), Tag.objects.create(name="t")
    capture(Order, updated=lambda order, changes: seen.append(changes["tags"]), fields=["tags"])
    order.tags.add(tag)
    order.tags.remove(tag)
    assert [((tag.pk,), ()), ((), (tag.pk,))] == [(change.added, change.removed) for change in seen]


@pytest.mark.parametrize("change", ["add", "remove", "set", "clear"])
def test_the_reverse_side_tells_each_captured_instance(order, tags, change):
    other = Order.objects.create()
    tag = tags[0] if change in ("remove", "clear") else tags[1]
    if change in ("remove", "clear"):
        other.tags.add(tag)
    before = len(told())
    arguments = {"add": [order, other], "remove": [order, other], "set": [[order, other]], "clear": []}
    getattr(tag.orders, change)(*arguments[change])
    links = [[tag.pk], []] if change in ("remove", "clear") else [[], [tag.pk]]
    assert [
        ("Updated", f"order-{order.pk}", {"tags": links}),
        ("Updated", f"order-{other.pk}", {"tags": links}),
    ] == told()[before:]


def test_a_proxy_tells_its_links(order, tags):
    UrgentOrder.objects.get().tags.add(tags[1])
    assert [("Updated", f"order-{order.pk}", {"tags": [[], [tags[1].pk]]})] == told()


def test_a_field_that_is_not_named_does_not_count(tags):
    capture(Order, updated=updated)
    Order.objects.create().tags.add(tags[0])
    assert [] == told()


def test_links_are_told_on_the_database_they_are_written_to(tags):
    capture(Order, updated=updated, fields=["tags"])
    order, tag = Order(), Tag(name="t")
    order.save(using="other")
    tag.save(using="other")
    order.tags.add(tag)
    assert ([], [{"tags": [[], [tag.pk]]}]) == (changes(), changes("other"))


def test_both_sides_of_a_symmetrical_link_are_told():
    ada, bob = Person.objects.create(name="ada"), Person.objects.create(name="bob")
    capture(Person, updated=updated, fields=["friends"])
    ada.friends.add(bob)
    ada.friends.clear()
    assert [
        ("Updated", f"person-{ada.pk}", {"friends": [[], [bob.pk]]}),
        ("Updated", f"person-{bob.pk}", {"friends": [[], [ada.pk]]}),
        ("Updated", f"person-{ada.pk}", {"friends": [[bob.pk], []]}),
        ("Updated", f"person-{bob.pk}", {"friends": [[ada.pk], []]}),
    ] == told()


def test_an_error_of_the_builder_undoes_the_link(tags):
    def veto(order):
        raise ZeroDivisionError

    capture(Order, updated=veto, fields=["tags"])
    order = Order.objects.create()
    with pytest.raises(ZeroDivisionError):
        order.tags.add(tags[0])
    assert 0 == order.tags.count()


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize("change", ["add", "remove"])
def test_of_two_transactions_that_change_the_same_link_one_tells_it(order, tags, elsewhere, change):
    tag = tags[1] if change == "add" else tags[0]
    other = Order.objects.get()
    with transaction.atomic():
        getattr(order.tags, change)(tag)
        waiting = elsewhere(getattr(other.tags, change), tag)
        with pytest.raises(NotYet):
            waiting.result(timeout=0.3)
    waiting.result(timeout=20)
    assert 1 == len(told())
