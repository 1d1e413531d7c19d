from __future__ import annotations

import pytest

from django_eventstore.events.templates import EntryTemplate
from django_eventstore.testing.contracts import ContractEntry

pytestmark = pytest.mark.no_database

ENTRY = ContractEntry(position=1, payload="{}", type="orders.OrderPlaced", version=3, stream="order-{42}")


@pytest.mark.parametrize(
    "text, filled, constant",
    [
        ("orders", "orders", True),
        ("", "", True),
        ("{type}", "orders.OrderPlaced", False),
        ("shop.{type}.v{version}.{stream}", "shop.orders.OrderPlaced.v3.order-{42}", False),
        ("{{type}}", "{type}", True),
    ],
)
def test_the_fields_are_filled_in(text, filled, constant):
    template = EntryTemplate(text, option="routing_key")
    assert (filled, constant) == (template.fill(ENTRY), template.constant)


@pytest.mark.parametrize(
    "text", ["{}", "{0}", "{payload}", "{type", "type}", "{type!r}", "{version:>5}", "{type.__class__}", 7]
)
def test_anything_else_in_braces_is_an_error_that_names_the_option(text):
    with pytest.raises(ValueError, match="routing_key"):
        EntryTemplate(text, option="routing_key")


def test_a_field_may_be_forbidden():
    with pytest.raises(ValueError, match=r"\{type\}, \{version\}"):
        EntryTemplate("{stream}", option="dataschema", fields=("type", "version"))


def test_values_are_escaped_and_the_text_around_is_not():
    template = EntryTemplate("a.{stream}", option="subject", escape=lambda value: value.replace("-", "."))
    assert "a.order.{42}" == template.fill(ENTRY)
