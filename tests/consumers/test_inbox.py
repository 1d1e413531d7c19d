"""once(): what was done is not done again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError

from django_eventstore import EventForwarder, handles
from django_eventstore.consumers import declared_consumer, forget_keys, move, once
from django_eventstore.models import InboxKey
from django_eventstore.models.fields import DatabaseNow
from tests.delivery import COUNTED, record_numbers, rolled_back
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def first(key, **given):
    with transaction.atomic(using=given.get("using")):
        return once(key, **given)


def test_a_key_is_new_once():
    assert [True, False, False] == [first("a") for _ in range(3)]
    assert first("b")


def test_scopes_have_keys_of_their_own():
    assert first("a", scope="refunds")
    assert first("a", scope="mails")
    assert not first("a", scope="mails")


def test_a_key_is_what_its_bytes_say():
    assert [True] * 4 == [first(key) for key in ("a", "A", "a ", "ä")]


def test_a_key_of_a_transaction_that_is_rolled_back_is_new_again():
    with rolled_back():
        assert once("a")
        assert not once("a")
    assert first("a")


def test_outside_a_transaction_it_guards_nothing_and_says_so():
    with pytest.raises(TransactionManagementError, match="inside atomic"):
        once("a")


@pytest.mark.parametrize("key, scope", [("", ""), ("x" * 201, ""), ("a", "x" * 151)])
def test_keys_have_a_length(key, scope):
    with pytest.raises(ValueError, match="200 characters"):
        first(key, scope=scope)


def test_old_keys_are_forgotten():
    first("old")
    InboxKey.objects.update(at=DatabaseNow() - timedelta(days=31))
    first("new")
    assert 1 == forget_keys(older_than=timedelta(days=30))
    assert first("old")
    assert not first("new")


def test_effects_on_another_database_than_the_log_happen_once_though_events_come_again():
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event, entry):
        with transaction.atomic(using="other"):
            if once(str(entry.event_id), scope="refunds", using="other"):
                Refund.objects.using("other").create(order_id=event["n"])

    record_numbers(1, 2)
    EventForwarder("numbers").get_and_send()
    move(declared_consumer("numbers"), 0, using="default")
    assert 2 == EventForwarder("numbers").get_and_send().delivered
    assert [1, 2] == sorted(Refund.objects.using("other").values_list("order_id", flat=True))
