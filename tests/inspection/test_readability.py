from __future__ import annotations

import enum
from dataclasses import dataclass, make_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest

from django_eventstore.events import EventDefinition
from django_eventstore.events.schema import Schema, json_schema
from django_eventstore.inspection.readability import unreadable

pytestmark = pytest.mark.no_database


class Two(enum.Enum):
    A = "a"
    B = "b"


class Three(enum.Enum):
    A = "a"
    B = "b"
    C = "c"


class Number(enum.Enum):
    ONE = 1


class Pair(NamedTuple):
    left: int
    right: int


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass(frozen=True)
class IntMoney:
    amount: int
    currency: str = "EUR"


@dataclass(frozen=True)
class Tree:
    value: int
    children: list[Tree]


@dataclass(frozen=True)
class TextTree:
    value: str
    children: list[TextTree]


def schema(**fields: Any) -> Schema:
    """Of an event with these fields: an annotation, or a pair of it and the default."""
    members = [
        (name, given[0], given[1]) if isinstance(given, tuple) else (name, given) for name, given in fields.items()
    ]
    cls = make_dataclass("Example", members, frozen=True)
    return json_schema(EventDefinition(type="test.Example", version=1, cls=cls))


def places(reader: Schema, writer: Schema, *, writes_all: bool = False) -> list[str]:
    return [each.path for each in unreadable(reader=reader, writer=writer, writes_all=writes_all)]


SAME = [
    *(str, int, float, bool, None, UUID, Decimal, datetime, date, Two, Money, Tree, Pair, Any),
    *(list[int], tuple[int, ...], tuple[int, str], dict[str, int], dict[Two, Money], int | str | None, Literal["a", 1]),
    *(Annotated[int, msgspec.Meta(ge=1, lt=9, multiple_of=2)], Annotated[str, msgspec.Meta(min_length=1, pattern="a")]),
]


@pytest.mark.parametrize("annotation", SAME, ids=str)
def test_whoever_knows_the_same_schema_reads_everything(annotation: Any) -> None:
    for writes_all in (False, True):
        assert [] == places(schema(value=annotation), schema(value=annotation), writes_all=writes_all)


WIDER = [
    (int, int | None),
    (int, float),
    (int, int | str),
    (Decimal, str),
    (UUID, str),
    (datetime, str),
    (Two, Three),
    (Two, str),
    (Number, int),
    (Number, float),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a"], Two),
    (Literal["a"], str | None),
    (Literal["a", None], str | None),
    (Literal["ab"], Annotated[str, msgspec.Meta(min_length=2, pattern="^a")]),
    (Literal[4], Annotated[int, msgspec.Meta(ge=4, lt=5, multiple_of=2)]),
    (list[int], list[int | None]),
    (list[int], list[Any]),
    (tuple[int, int], list[int]),
    (tuple[int, int], Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]),
    (tuple[int, str], list[int | str]),
    (Pair, list[int]),
    (dict[str, int], dict[str, float]),
    (dict[Two, int], dict[str, int]),
    (dict[Two, int], dict[Three, int]),
    (Money, dict[str, str]),
    (Money, Any),
    (int, Any),
    (Annotated[int, msgspec.Meta(ge=5, le=6)], Annotated[int, msgspec.Meta(ge=1, le=9)]),
    (Annotated[int, msgspec.Meta(ge=5)], int),
    (Annotated[int, msgspec.Meta(multiple_of=4)], Annotated[int, msgspec.Meta(multiple_of=2)]),
    (Annotated[str, msgspec.Meta(min_length=2, max_length=3)], Annotated[str, msgspec.Meta(max_length=3)]),
    (Annotated[list[int], msgspec.Meta(max_length=3)], list[int]),
]


@pytest.mark.parametrize("narrow, wide", WIDER, ids=str)
def test_a_wider_type_reads_a_narrower_one_and_not_the_other_way_round(narrow: Any, wide: Any) -> None:
    assert [] == places(reader=schema(value=wide), writer=schema(value=narrow))
    assert [] != places(reader=schema(value=narrow), writer=schema(value=wide))


@pytest.mark.parametrize(
    "one, other",
    [
        (int, str),
        (bool, int),
        (Literal[1], Literal[True]),
        (datetime, date),
        (Decimal, float),
        (list[int], dict[str, int]),
        (tuple[int], tuple[int, int]),
        (int | str, float | None),
        (date, Literal["2025-01-01x"]),
        (Money, list[str]),
        (Annotated[str, msgspec.Meta(pattern="a")], Annotated[str, msgspec.Meta(pattern="b")]),
        (Annotated[int, msgspec.Meta(ge=1)], Annotated[int, msgspec.Meta(gt=0)]),
        (Annotated[int, msgspec.Meta(gt=4)], Literal[4]),
    ],
    ids=str,
)
def test_other_types_are_read_by_neither(one: Any, other: Any) -> None:
    assert {"value"} == set(places(schema(value=one), schema(value=other)))
    assert {"value"} == set(places(schema(value=other), schema(value=one)))


def test_a_field_with_a_default_may_be_missing_and_one_without_may_not() -> None:
    old = schema(a=int)
    assert [] == places(schema(a=int, b=(int, 0)), old)
    assert ["b"] == places(schema(a=int, b=int), old)


def test_a_field_that_is_not_known_is_ignored() -> None:
    assert [] == places(schema(a=int), schema(a=int, b=int))


def test_a_field_that_was_optional_may_be_missing_in_what_is_stored() -> None:
    optional, required = schema(a=(int, 0)), schema(a=int)
    assert ["a"] == places(required, optional)
    assert [] == places(required, optional, writes_all=True)


def test_a_field_that_is_never_written_any_more_is_missed_even_with_a_default() -> None:
    assert ["b"] == places(schema(a=int, b=(int, 0)), schema(a=int), writes_all=True)


@pytest.mark.parametrize(
    "reader, writer, path",
    [
        (Money, IntMoney, "value.amount"),
        (list[Money], list[IntMoney], "value[*].amount"),
        (list[Money], tuple[Money, IntMoney], "value[1].amount"),
        (tuple[int, Money], tuple[int, IntMoney], "value[1].amount"),
        (dict[str, Money], dict[str, IntMoney], "value[*].amount"),
        (dict[str, dict[str, int]], dict[str, Money], "value[*].amount"),
        (dict[Two, int], dict[Three, int], "value[key]"),
        (Money | None, IntMoney | None, "value.amount"),
        (list[Money] | None, list[IntMoney], "value[*].amount"),
        (Money, dict[str, str], "value.amount"),
        (Tree, TextTree, "value.value"),
    ],
    ids=str,
)
def test_the_place_is_named(reader: Any, writer: Any, path: str) -> None:
    assert path in places(schema(value=reader), schema(value=writer))


def test_each_field_of_a_changed_class_is_named() -> None:
    assert ["one.amount", "two.amount"] == places(schema(one=Money, two=Money), schema(one=IntMoney, two=IntMoney))


@pytest.mark.parametrize(
    "reader, writer, expected, found",
    [
        (int, Decimal | None, "integer", "string (decimal)"),
        (int | None, str, "integer or null", "string"),
        (Two, Three, "'a' or 'b'", "'c'"),
        (int, Money, "integer", "Money"),
        (Annotated[str, msgspec.Meta(max_length=3)], Any, "string (maxLength 3)", "any value"),
    ],
    ids=str,
)
def test_what_is_expected_and_found_is_told(reader: Any, writer: Any, expected: str, found: str) -> None:
    first = unreadable(reader=schema(value=reader), writer=schema(value=writer), writes_all=False)[0]
    assert (expected, found) == (first.expected, first.found)


def test_a_change_inside_a_class_that_holds_itself_is_found_once() -> None:
    assert ["value.value"] == places(schema(value=Tree), schema(value=TextTree))


def test_a_reference_that_leads_nowhere_is_an_error() -> None:
    broken = schema(value=Money)
    del broken["$defs"]
    with pytest.raises(ValueError, match="leads nowhere"):
        places(broken, schema(value=Money))
