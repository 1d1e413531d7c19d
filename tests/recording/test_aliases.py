"""The database an event goes to when the caller does not say: that of the transaction."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connections, router, transaction
from django.test import TestCase, override_settings

from django_eventstore import record
from django_eventstore.exceptions import EventStoreError
from django_eventstore.models import EventEntry
from tests.delivery import COUNTED
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class LogOnDefault:
    """The log is on default alone."""

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return db == "default" if app_label == "django_eventstore" else None


class LogOnOther:
    """The log is on other alone."""

    def db_for_write(self, model: Any, **hints: object) -> str | None:
        return "other" if model._meta.app_label == "django_eventstore" else None

    db_for_read = db_for_write

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return db == "other" if app_label == "django_eventstore" else None


class Replica:
    """What is read comes from other, what is written goes to default."""

    def db_for_read(self, model: Any, **hints: object) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: object) -> str:
        return "default"


class LogNowhereOpen:
    def db_for_write(self, model: Any, **hints: object) -> str | None:
        return "third" if model is EventEntry else None


def routed(router_class: type) -> override_settings:
    return override_settings(DATABASE_ROUTERS=[f"{__name__}.{router_class.__name__}"])


def recorded(*open_aliases: str, stream: object = None) -> str | None:
    """Where an event goes while transactions are open on these databases."""
    with ExitStack() as stack:
        for alias in open_aliases:
            stack.enter_context(transaction.atomic(using=alias))
        (entry,) = record(COUNTED, {"n": 1}, stream=stream)
        return entry._state.db


def order_on(alias: str) -> Order:
    return Order.objects.using(alias).create(total=1)


@pytest.mark.parametrize("alias", ["default", "other"])
def test_it_goes_where_the_transaction_is_open(alias):
    assert alias == recorded(alias)
    assert alias == recorded(alias, stream="order-1")


def test_without_a_transaction_it_goes_where_the_router_says():
    with pytest.warns(RuntimeWarning):
        assert "default" == recorded()
    with routed(LogOnOther), pytest.warns(RuntimeWarning):
        assert "other" == recorded()


def test_of_several_transactions_that_of_the_router_is_meant():
    assert "default" == recorded("default", "other")
    assert "default" == recorded("other", "default")


def test_of_several_transactions_that_of_the_streams_instance_is_meant():
    assert "other" == recorded("default", "other", stream=order_on("other"))
    assert "default" == recorded("default", "other", stream=order_on("default"))


def test_the_database_of_the_instance_counts_before_an_open_transaction_elsewhere_and_that_is_told():
    with pytest.warns(RuntimeWarning):
        assert "other" == recorded("default", stream=order_on("other"))


def test_an_instance_that_is_not_from_a_database_says_nothing():
    assert "other" == recorded("other", stream=Order(pk=7, total=1))


def test_an_instance_that_was_read_from_a_replica_is_written_elsewhere():
    order = order_on("other")
    with routed(Replica):
        assert "default" == recorded("default", stream=Order.objects.get(pk=order.pk))


def test_a_database_without_the_log_does_not_count():
    with routed(LogOnDefault):
        assert "default" == recorded("default", "other", stream=order_on("other"))
        with pytest.warns(RuntimeWarning):
            assert "default" == recorded("other")
    with routed(LogOnOther):
        assert "other" == recorded("default", "other", stream=order_on("default"))


def test_several_transactions_and_a_router_that_means_none_of_them_are_an_error_that_names_using():
    with routed(LogNowhereOpen), pytest.raises(EventStoreError, match=r"'default', 'other'.*using="):
        recorded("default", "other")


def test_using_is_always_right():
    with transaction.atomic(using="other"), transaction.atomic():
        (entry,) = record(COUNTED, {"n": 1}, stream=order_on("default"), using="other")
    assert "other" == entry._state.db


def test_with_one_database_no_router_is_asked_whether_it_may_have_the_log(monkeypatch):
    def asked(*args: object) -> bool:
        raise AssertionError("asked")

    monkeypatch.setattr(connections, "settings", {"default": connections.settings["default"]})
    monkeypatch.setattr(router, "allow_migrate_model", asked)
    assert "default" == recorded("default", stream="s")


class InATestCase(TestCase):
    databases = {"default", "other"}

    def test_what_the_test_opened_by_itself_says_nothing(self):
        assert "default" == recorded()

    def test_a_transaction_inside_counts(self):
        assert "other" == recorded("other")
