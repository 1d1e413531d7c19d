"""Changes of the declared events since an earlier catalogue: which break somebody, and which do not."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass
from decimal import Decimal
from typing import Any

import pytest

from django_eventstore.events import event, registry, retire, upcast
from django_eventstore.inspection import Change, catalogue, changes_since
from tests.declarations import declarations

pytestmark = [pytest.mark.no_database, pytest.mark.usefixtures("only_these")]

__all__ = ["declarations"]

PLACED = "orders.Placed"


class Two(enum.Enum):
    A = "a"
    B = "b"


class Three(enum.Enum):
    A = "a"
    B = "b"
    C = "c"


@pytest.fixture
def only_these(declarations: None) -> None:
    forget()


def forget() -> None:
    """The code is read anew: nothing is declared."""
    for declared in (registry._by_type, registry._by_class, registry._upcasters, registry._retired):
        declared.clear()  # type: ignore[attr-defined]


def declare(type_name: str = PLACED, *, version: int = 1, aliases: tuple[str, ...] = (), **fields: Any) -> None:
    members = [(key, given[0], given[1]) if isinstance(given, tuple) else (key, given) for key, given in fields.items()]
    event(type_name, version=version, aliases=aliases)(make_dataclass("Placed", members, frozen=True))


def unchanged(payload: dict[str, Any]) -> Mapping[str, object]:
    return payload


def changes(before: Callable[[], object], after: Callable[[], object]) -> list[Change]:
    """From one state of the code to the next, by a document that went through a file."""
    before()
    document = json.loads(json.dumps(catalogue().document()))
    forget()
    after()
    return changes_since(document, catalogue())


def messages(before: Callable[[], object], after: Callable[[], object], *, breaks: bool) -> list[str]:
    return [change.message for change in changes(before, after) if change.breaks == breaks]


def test_the_same_code_has_no_changes() -> None:
    def code() -> None:
        declare(version=2, aliases=("shop.Placed",), a=int, b=(Decimal, Decimal(1)))
        upcast(PLACED, from_version=1)(unchanged)
        retire("shop.Gone")

    assert [] == changes(code, code)


@pytest.mark.parametrize(
    "before, after",
    [
        ({"a": int}, {"a": int, "b": (int, 0)}),
        ({"a": int}, {"a": (int, 0)}),
        ({"a": (int, 0)}, {"a": (int, 1)}),
        ({"a": int, "b": int}, {"b": int, "a": int}),
    ],
    ids=str,
)
def test_a_change_that_everybody_can_read_passes(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert [] == messages(lambda: declare(**before), lambda: declare(**after), breaks=True)


def test_a_compatible_change_of_the_schema_is_told() -> None:
    told = messages(lambda: declare(a=int), lambda: declare(a=int, b=(int, 0)), breaks=False)
    assert ["the schema changed; what is stored and what is recorded can still be read."] == told


@pytest.mark.parametrize(
    "before, after, told",
    [
        ({"a": int}, {"a": int, "b": int}, ["b: stored events may lack it, and this code reads integer."]),
        ({"a": (int, 0)}, {"a": int}, ["a: stored events may lack it, and this code reads integer."]),
        (
            {"a": int, "b": int},
            {"a": int},
            ["b: this code does not write it, and readers of version 1 expect integer."],
        ),
        (
            {"a": int, "b": (int, 0)},
            {"a": int},
            ["b: this code does not write it, and readers of version 1 expect integer."],
        ),
        (
            {"a": int | None},
            {"a": int},
            ["a: stored events hold null, and this code reads integer."],
        ),
        (
            {"a": int},
            {"a": int | None},
            ["a: this code writes null, and readers of version 1 expect integer."],
        ),
        (
            {"a": int},
            {"a": str},
            [
                "a: stored events hold integer, and this code reads string.",
                "a: this code writes string, and readers of version 1 expect integer.",
            ],
        ),
        ({"a": Three}, {"a": Two}, ["a: stored events hold 'c', and this code reads 'a' or 'b'."]),
        ({"a": Two}, {"a": Three}, ["a: this code writes 'c', and readers of version 1 expect 'a' or 'b'."]),
    ],
    ids=str,
)
def test_a_change_that_breaks_somebody_says_whom(
    before: dict[str, Any], after: dict[str, Any], told: list[str]
) -> None:
    found = messages(lambda: declare(**before), lambda: declare(**after), breaks=True)
    assert told == [message.partition(" Raise")[0] for message in found]


def test_a_higher_version_with_an_upcaster_passes() -> None:
    def now() -> None:
        declare(version=2, total=Decimal)
        upcast(PLACED, from_version=1)(unchanged)

    assert [] == messages(lambda: declare(amount=int), now, breaks=True)


def test_a_higher_version_that_its_class_reads_by_itself_needs_no_upcaster() -> None:
    told = messages(lambda: declare(a=Two, b=int), lambda: declare(version=2, a=Three, c=(int, 0)), breaks=True)
    assert [] == told


def test_a_higher_version_that_cannot_read_what_is_stored_needs_an_upcaster() -> None:
    assert [
        (
            "total: stored events may lack it, and this code reads string (decimal). Raise the version and declare "
            "@upcast(…, from_version=1), as this class cannot read that version itself."
        )
    ] == messages(lambda: declare(amount=int), lambda: declare(version=2, total=Decimal), breaks=True)


def test_a_lower_version_breaks() -> None:
    (message,) = messages(lambda: declare(version=3, a=int), lambda: declare(version=2, a=int), breaks=True)
    assert message.startswith("version 3 was lowered to 2")


def test_an_upcaster_that_is_gone_breaks() -> None:
    def before() -> None:
        declare(version=2, a=int)
        upcast(PLACED, from_version=1)(unchanged)

    (message,) = messages(before, lambda: declare(version=2, a=int), breaks=True)
    assert message.startswith("the upcaster from version 1 is gone")


def test_a_removed_type_breaks_unless_it_is_retired() -> None:
    (message,) = messages(declare, lambda: None, breaks=True)
    assert message.startswith("was removed")

    forget()
    assert ["was retired."] == messages(declare, lambda: retire(PLACED), breaks=False)
    forget()
    assert [] == messages(declare, lambda: retire(PLACED), breaks=True)


def test_a_renamed_type_passes_with_an_alias() -> None:
    def renamed() -> None:
        declare("shop.Placed", aliases=(PLACED,), a=int)

    found = changes(lambda: declare(a=int), renamed)
    assert [Change(type=PLACED, breaks=False, message="was renamed to 'shop.Placed'; " + NEW_NAME)] == found


NEW_NAME = "new events are stored under that name."


def test_the_form_of_a_renamed_type_is_compared_too() -> None:
    def renamed() -> None:
        declare("shop.Placed", aliases=(PLACED,), a=str)

    told = messages(lambda: declare(a=int), renamed, breaks=True)
    assert ["a: stored events hold integer", "a: this code writes string"] == [each.partition(",")[0] for each in told]


def test_an_alias_that_is_gone_breaks_unless_it_is_retired() -> None:
    def before() -> None:
        declare(aliases=("shop.Placed",), a=int)

    def retired() -> None:
        declare(a=int)
        retire("shop.Placed")

    (message,) = messages(before, lambda: declare(a=int), breaks=True)
    assert message.startswith("the alias 'shop.Placed' is gone")
    forget()
    assert [] == messages(before, retired, breaks=True)


def test_an_alias_that_belongs_to_another_event_now_breaks() -> None:
    def moved() -> None:
        declare(a=int)
        declare("shop.Other", aliases=("shop.Placed",), a=int)

    told = messages(lambda: declare(aliases=("shop.Placed",), a=int), moved, breaks=True)
    assert [True] == [message.startswith("the alias 'shop.Placed' is gone") for message in told]


def test_a_removed_type_with_an_alias_is_told_once() -> None:
    told = messages(lambda: declare(aliases=("shop.Placed",)), lambda: None, breaks=True)
    assert 1 == len(told)


def test_a_new_type_passes() -> None:
    found = changes(lambda: declare(a=int), lambda: (declare(a=int), declare("orders.New", a=int)))  # type: ignore[func-returns-value]
    assert ["changed: orders.New: is new."] == [str(change) for change in found]


def test_what_breaks_is_told_first() -> None:
    def before() -> None:
        declare("orders.B")
        declare("orders.A")

    def now() -> None:
        declare("orders.C")
        declare("orders.A", version=2)

    found = changes(before, now)
    assert [("orders.B", True), ("orders.A", False), ("orders.C", False)] == [(c.type, c.breaks) for c in found]
    assert str(found[0]).startswith("breaking: orders.B: was removed")


@pytest.mark.parametrize(
    "document, problem",
    [
        ([], "no catalogue"),
        ({}, "no catalogue"),
        ({"asyncapi": "3.0.0"}, "no catalogue"),
        ({"catalogue": 2, "events": {}}, "format is 2, and this release reads 1"),
        ({"catalogue": 1, "events": {"a.B": {}}}, "'version' of 'a.B' is missing"),
        ({"catalogue": 1, "events": {"a.B": []}}, "of 'a.B' is missing"),
    ],
)
def test_what_is_no_catalogue_is_an_error(document: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        changes_since(document, catalogue())
