"""The trigger of the guide: raw SQL is told, in its transaction, on the stream of the row."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from django_eventstore import EventStore
from tests.captured.models import Order
from tests.delivery import rolled_back
from tests.documentation import DOCS, blocks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]


@pytest.fixture(autouse=True)
def _trigger():
    [recipe] = blocks(DOCS / "guides/capturing.md", language="postgres")
    with connection.cursor() as cursor:
        cursor.execute(recipe.text.replace("orders_order", "captured_order"))
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER captured_order_told ON captured_order; DROP FUNCTION captured_order_told")


def cancel():
    with connection.cursor() as cursor:
        cursor.execute("UPDATE captured_order SET status = 'cancelled'")


def test_raw_sql_is_told_with_whole_entries():
    order = Order.objects.create()
    cancel()
    cancel()
    [entry] = EventStore().get().entries
    assert ("orders.StatusChanged", f"order-{order.pk}", 1) == (entry.type, entry.stream, entry.position)
    assert {"order_id": order.pk, "from": "placed", "to": "cancelled"} == entry.data
    assert ("{}", 1, 7) == (entry.metadata, entry.version, entry.event_id.version)


def test_raw_sql_that_is_rolled_back_is_not_told():
    Order.objects.create()
    with rolled_back():
        cancel()
    with transaction.atomic():
        assert () == EventStore().get().entries
