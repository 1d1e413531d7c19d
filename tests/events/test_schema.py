import enum
import json
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, TypedDict, TypeVar
from uuid import UUID, uuid4

import jsonschema
import msgspec
import pytest
from hypothesis import given

from django_eventstore.events import decode, encode, event
from django_eventstore.events.schema import json_schema, schema_components, summary_of

from .examples import (
    LIMIT,
    NOON,
    Anything,
    Colour,
    Everything,
    Flat,
    Line,
    Nothing,
    Pair,
    Right,
    definition_of,
    everything,
    flat,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """A part of a tree.

    More about it.
    """

    name: str
    children: "tuple[Node, ...]" = ()


@event("schema.Tree")
@dataclass(frozen=True)
class Tree:
    left: "Tree | None"
    node: Node


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


class Size(TypedDict, total=False):
    width: int


class Grade(enum.Enum):
    """How good it is."""

    TEN = 10
    NINE = 9


def class_with(annotation, **options):
    """An event class with one field, ``value``."""

    @event("schema.One")
    @dataclass(frozen=True)
    class One:
        value: annotation = field(**options)

    return One


def schema_of(annotation, **options):
    """The schema of a value of this annotation, beside those of the classes in it."""
    schema = json_schema(definition_of(class_with(annotation, **options)))
    return schema["properties"]["value"], schema.get("$defs", {})


def is_valid(schema, value):
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).is_valid(value)


def draft_07(definition):
    schema, components = schema_components(
        definition, reference=lambda name: f"#/definitions/{name}" if name else "#", dialect="draft-07"
    )
    return {**schema, "definitions": components}


@given(everything)
def test_whatever_is_encoded_is_valid_in_both_dialects(event):
    payload = json.loads(encode(event, max_bytes=LIMIT))
    definition = definition_of(Everything)
    jsonschema.Draft202012Validator(json_schema(definition), format_checker=jsonschema.FormatChecker()).validate(
        payload
    )
    jsonschema.Draft7Validator(draft_07(definition)).validate(payload)


@pytest.mark.parametrize("cls", [Everything, Flat, Anything, Nothing, Tree])
def test_the_schema_is_a_schema(cls):
    jsonschema.Draft202012Validator.check_schema(json_schema(definition_of(cls)))
    jsonschema.Draft7Validator.check_schema(draft_07(definition_of(cls)))


VALUES = [
    (str, ["", "text"], [1, None]),
    (int, [0, -(2**63)], [1.5, "1", None]),
    (float, [1.5, 2], ["1"]),
    (bool, [True], [1, "true"]),
    (None, [None], [0]),
    (UUID, [UUID("0192f0c1-7d3a-7000-8000-000000000001")], ["0192f0c1", 1]),
    (Decimal, [Decimal("12.50"), Decimal("-1E+30"), Decimal("0E-7")], [12.5, "", "1.", "NaN", "Infinity", "+1", "1,5"]),
    (
        datetime,
        [NOON, datetime(1, 1, 1, tzinfo=timezone.utc)],
        ["2025-03-01T12:00:00", "2025-03-01T12:00:00+02:00", "2025-03-01", 1740830400],
    ),
    (date, [date(2025, 3, 1)], ["2025-03-01T00:00:00Z", "2025-02-30", 1]),
    (time, [time(12, 30), time(12, 30, 0, 1)], ["12:30", "12:30:00Z", 12]),
    (
        timedelta,
        [timedelta(0), timedelta(days=-1), timedelta(days=1, seconds=5, microseconds=1), timedelta(seconds=0.5)],
        ["", "P", "PT", "1 day", "P1M", 5],
    ),
    (Colour, [Colour.RED], ["RED", "green", None]),
    (Grade, [Grade.TEN], ["10", "TEN", 1]),
    (Right, [Right.READ | Right.WRITE], ["READ", 1.5]),
    (Line, [Line("a", Decimal(1))], [{}, {"sku": "a"}, {"sku": "a", "price": 1}, []]),
    (list[int], [[], [1, 2]], [["1"], {}, [None]]),
    (tuple[int, ...], [(), (1, 2)], [["1"], {}]),
    (tuple[int, str], [(1, "a")], [[], [1], ["a", 1], [1, "a", 2]]),
    (tuple[()], [()], [[1]]),
    (Pair, [Pair(1, 2)], [[1], [1, "2"], {"left": 1, "right": 2}]),
    (Size, [{}, {"width": 1}], [{"width": "1"}, []]),
    (Box[int], [Box(1)], [{"content": "1"}, {}]),
    (dict[str, Decimal], [{}, {"a": Decimal(1)}], [{"a": 1}, []]),
    (dict[Colour, int], [], [{"green": 1}]),
    (dict[str, Any], [{"a": None}], [[]]),
    (NewType("Id", int), [1], ["1"]),
    (Literal["a", 1, None], ["a", 1, None], ["b", 2]),
    (int | str | None, [1, "a", None], [1.5, []]),
    (Decimal | None, [Decimal(1), None], [1]),
    (Annotated[int, msgspec.Meta(ge=1, lt=5)], [1, 4], [0, 5]),
    (Annotated[float, msgspec.Meta(gt=0, le=1)], [1.0], [0, 1.5]),
    (Annotated[int, msgspec.Meta(multiple_of=3)], [3], [4]),
    (Annotated[str, msgspec.Meta(min_length=1, max_length=2, pattern="^a")], ["ab"], ["", "abc", "b"]),
    (Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)], [[1]], [[], [1, 2, 3]]),
    (Annotated[dict[str, int], msgspec.Meta(min_length=1)], [{"a": 1}], [{}]),
]


@pytest.mark.parametrize("annotation, good, bad", VALUES, ids=[str(row[0]) for row in VALUES])
def test_what_is_written_is_valid_and_what_is_not_written_is_not(annotation, good, bad):
    cls = class_with(annotation)
    schema = json_schema(definition_of(cls))
    for value in good:
        text = encode(cls(value), max_bytes=LIMIT)
        assert cls(value) == decode(definition_of(cls), 1, text)
        assert is_valid(schema, json.loads(text)), text
    for value in bad:
        assert not is_valid(schema, {"value": value}), value


def test_a_value_of_any_kind_has_an_empty_schema():
    assert ({}, {}) == schema_of(Any)
    assert ({}, {}) == schema_of(object)


def test_what_has_no_default_is_required():
    schema = json_schema(definition_of(Flat))
    assert ["order", "amount", "at", "name"] == schema["required"]
    assert is_valid(schema, json.loads(encode(flat(), max_bytes=LIMIT)))


def test_an_event_from_before_a_field_with_a_default_and_one_with_a_field_more_are_valid():
    schema = json_schema(definition_of(Flat))
    payload = json.loads(encode(flat(), max_bytes=LIMIT))
    del payload["note"]
    assert is_valid(schema, {**payload, "later": 1})


@pytest.mark.parametrize(
    "annotation, options, default",
    [
        (int, {"default": 3}, 3),
        (Decimal, {"default": Decimal("1.50")}, "1.50"),
        (timedelta, {"default": timedelta(seconds=90)}, "PT90S"),
        (datetime, {"default": NOON}, "2025-03-01T12:00:00.123456Z"),
        (Colour, {"default": Colour.RED}, "red"),
        (list[int], {"default_factory": list}, []),
        (dict[str, int], {"default_factory": dict}, {}),
    ],
)
def test_a_default_is_told_as_it_would_be_written(annotation, options, default):
    schema, _ = schema_of(annotation, **options)
    assert default == schema["default"]


@pytest.mark.parametrize("annotation, options", [(UUID, {"default_factory": uuid4}), (Any, {"default": object()})])
def test_a_default_that_differs_each_time_or_cannot_be_stored_is_not_told(annotation, options):
    schema, _ = schema_of(annotation, **options)
    assert "default" not in schema
    assert [] == json_schema(definition_of(class_with(annotation, **options)))["required"]


def test_docstrings_are_descriptions_and_those_of_python_are_not():
    schema = json_schema(definition_of(Tree))
    assert "description" not in schema
    assert "A part of a tree.\n\nMore about it." == schema["$defs"]["Node"]["description"]
    assert ("A part of a tree.", "", "How good it is.") == (summary_of(Node), summary_of(Tree), summary_of(Grade))


def test_annotations_of_msgspec_say_more():
    schema, _ = schema_of(Annotated[int, msgspec.Meta(title="Count", description="How many", examples=[3])])
    assert {"type": "integer", "title": "Count", "description": "How many", "examples": [3]} == schema


def test_a_class_that_holds_itself_refers_to_itself():
    schema = json_schema(definition_of(Tree))
    assert {"anyOf": [{"$ref": "#"}, {"type": "null"}]} == schema["properties"]["left"]
    assert {"type": "array", "items": {"$ref": "#/$defs/Node"}, "default": []} == schema["$defs"]["Node"]["properties"][
        "children"
    ]
    tree = Tree(Tree(None, Node("a")), Node("b", (Node("c"),)))
    payload = json.loads(encode(tree, max_bytes=LIMIT))
    assert is_valid(schema, payload)
    payload["left"]["node"]["name"] = 7
    assert not is_valid(schema, payload)


def test_two_classes_of_one_name_are_told_apart_and_the_others_keep_theirs():
    def make():
        @dataclass(frozen=True)
        class Line:
            number: int

        return Line

    mine = make()
    _, defs = schema_of(tuple[mine, Line, Colour])
    own = f"{__name__}.{mine.__qualname__}".replace("<", "_").replace(">", "_")
    assert sorted([own, "tests.events.examples.Line", "Colour"]) == list(defs)


def test_a_generic_class_is_named_with_what_it_holds():
    _, defs = schema_of(tuple[Box[int], Box[str]])
    assert ["Box_int_", "Box_str_"] == list(defs)
    assert ["Box[int]", "Box[str]"] == [each["title"] for each in defs.values()]


def test_members_have_an_order_of_their_own():
    assert [9, 10] == schema_of(Grade)[1]["Grade"]["enum"]
    assert [None, 9, "a", "b"] == schema_of(Literal["b", "a", 9, None])[0]["enum"]


def test_references_are_those_that_are_asked_for():
    schema, components = schema_components(
        definition_of(Tree), reference=lambda name: f"#/x/Tree..{name}", dialect="draft-07"
    )
    assert {"$ref": "#/x/Tree..Node"} == schema["properties"]["node"]
    assert {"$ref": "#/x/Tree.."} == schema["properties"]["left"]["anyOf"][0]
    assert ["Node"] == list(components)
