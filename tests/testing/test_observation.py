"""database_state(): what is looked at when nobody says where to look."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.db import models

from django_eventstore import record
from django_eventstore.testing import database_state
from django_eventstore.testing.observation import changes
from tests.delivery import COUNTED, record_numbers
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db


def changed(do):
    before = database_state()
    do()
    after = database_state()
    return {name for name in after if before[name] != after[name]}


def test_a_row_an_event_and_a_mail_are_seen():
    assert {"shop.Refund"} == changed(lambda: Refund.objects.create(order_id=1))
    assert {"shop.Refund"} == changed(lambda: Refund.objects.update(order_id=2))
    assert {"shop.Refund"} == changed(lambda: Refund.objects.all().delete())
    assert {"events"} == changed(lambda: record(COUNTED, {"n": 1}))
    assert {"mails"} == changed(lambda: mail.send_mail("s", "b", None, ["ann@example.com"]))


def test_rows_of_many_to_many_tables_are_seen():
    user = User.objects.create(username="ann")
    assert {"auth.User_groups"} == changed(lambda: user.groups.create(name="staff")) - {"auth.Group"}


def test_the_event_store_itself_is_not_looked_at():
    assert not [name for name in database_state() if name.startswith("django_eventstore.")]
    record_numbers(1)
    assert [{"type": COUNTED, "stream": "", "payload": '{"n":1}'}] == database_state()["events"]


def test_saving_a_row_as_it_was_changes_nothing(monkeypatch):
    user = User.objects.create(username="ann")
    field = User._meta.get_field("date_joined")
    assert isinstance(field, models.DateTimeField)
    monkeypatch.setattr(field, "auto_now", True)
    assert set() == changed(user.save)


@pytest.mark.django_db(databases=["default", "other"])
def test_using_looks_into_one_database():
    Refund.objects.using("other").create(order_id=7)
    record_numbers(1, using="other")
    assert ([], []) == (database_state()["shop.Refund"], database_state()["events"])
    other = database_state(using="other")
    assert ([7], 1) == ([row["order_id"] for row in other["shop.Refund"]], len(other["events"]))


@pytest.mark.parametrize(
    "before, after, text",
    [
        (1, 2, "  1 became 2"),
        ([1], [1, 1], "  1 became 2: + 1"),
        ([1, 2], [2, 3], "  2 became 2: - 1, + 3"),
        ([], [1, 2, 3, 4, 5], "  0 became 5: + 1, + 2, + 3, … 2 more"),
        ({"a": 1, "b": [1]}, {"a": 1, "b": [], "c": 3}, "  b: 1 became 0: - 1\n  c: None became 3"),
    ],
)
def test_a_change_is_said_in_a_line(before, after, text):
    assert text == changes(before, after)
