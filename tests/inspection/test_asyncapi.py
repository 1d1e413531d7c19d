from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from django_eventstore import event
from django_eventstore.events import encode
from django_eventstore.inspection import asyncapi, catalogue
from tests.declarations import declarations
from tests.events.examples import Everything

pytestmark = [pytest.mark.no_database, pytest.mark.usefixtures("declarations")]

__all__ = ["declarations"]

OFFICIAL = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal


def declare() -> type:
    @event("sales.Sold", version=2, aliases=["shop.Sold"])
    @dataclass(frozen=True)
    class Sold:
        """Something was sold."""

        line: Line
        pair: tuple[int, str]
        next: Sold | None = None

    Sold.__annotations__["next"] = Sold | None
    return Sold


def document() -> dict[str, Any]:
    made = asyncapi(catalogue(), title="Shop", version="1.2")
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def resolve(reference: str, document: Any) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in references(each)]
    return [found for each in value for found in references(each)] if isinstance(value, list) else []


def test_it_is_valid_by_the_official_schema() -> None:
    declare()
    assert Everything.__name__ in {each.cls.rpartition(".")[2] for each in catalogue().events}
    jsonschema.Draft7Validator(OFFICIAL).validate(document())


@pytest.mark.parametrize("part", ["asyncapi", "info"])
def test_the_official_schema_would_find_a_mistake(part: str) -> None:
    broken = document()
    del broken[part]
    assert not jsonschema.Draft7Validator(OFFICIAL).is_valid(broken)


def test_the_official_schema_looks_into_operations_and_messages() -> None:
    broken = document()
    broken["operations"]["shop.OrderPlaced"]["action"] = "publish"
    assert not jsonschema.Draft7Validator(OFFICIAL).is_valid(broken)
    broken = document()
    broken["components"]["messages"]["shop.OrderPlaced"]["version"] = 1
    assert not jsonschema.Draft7Validator(OFFICIAL).is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    declare()
    made = document()
    found = references(made)
    assert "#/components/schemas/sales.Sold..Line" in found
    assert all(resolve(reference, made) for reference in found)


def test_each_type_has_a_channel_an_operation_and_a_message() -> None:
    declare()
    made = document()
    assert {"title": "Shop", "version": "1.2"} == made["info"]
    assert set(made["channels"]) == set(made["operations"]) == set(made["components"]["messages"])
    assert "sales.Sold" == made["channels"]["sales.Sold"]["address"]
    operation = made["operations"]["sales.Sold"]
    assert "send" == operation["action"]
    assert made["channels"]["sales.Sold"] == resolve(operation["channel"]["$ref"], made)
    (message,) = operation["messages"]
    assert {
        "name": "sales.Sold",
        "title": "Sold",
        "summary": "Something was sold.",
        "contentType": "application/json",
        "payload": {"$ref": "#/components/schemas/sales.Sold"},
        "x-eventstore-version": 2,
        "x-eventstore-aliases": ["shop.Sold"],
    } == resolve(resolve(message["$ref"], made)["$ref"], made)


def test_a_payload_is_valid_by_the_schema_of_its_message() -> None:
    sold = declare()
    schema = {**document(), "$ref": "#/components/schemas/sales.Sold"}
    payload = json.loads(encode(sold(Line("a", Decimal("1.50")), (1, "a"), None), max_bytes=1_000))
    validator = jsonschema.Draft7Validator(schema)
    assert validator.is_valid({**payload, "next": payload})
    assert not validator.is_valid({**payload, "pair": [1, 2]})
    assert not validator.is_valid({**payload, "pair": [1, "a", 3]})
    assert not validator.is_valid({**payload, "line": {"sku": "a", "price": 1.5}})
    assert not validator.is_valid({**payload, "next": {}})
