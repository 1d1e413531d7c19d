from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import override_settings

from django_eventstore import event, handles, upcast
from django_eventstore.events import registry, retire
from django_eventstore.handlers import handler_registry
from django_eventstore.inspection import EventDescription, HandlerDescription, Wanted, catalogue
from tests.declarations import declarations

pytestmark = [pytest.mark.no_database, pytest.mark.usefixtures("clean")]

__all__ = ["declarations"]

RECORDER = {"SENDER": "tests.inspection.senders.Recorder"}
NOBODY = Wanted(handlers=(), consumers=())


@pytest.fixture
def clean(declarations: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(handler_registry, "_handlers", {})
    monkeypatch.setattr(handler_registry, "_sync", {})
    with override_settings(EVENTSTORE={"CONSUMERS": {}}):
        yield


def described(type_name: str) -> EventDescription:
    (found,) = [each for each in catalogue().events if each.type == type_name]
    return found


@pytest.fixture
def sold() -> type:
    @event("sales.Sold", version=3, aliases=["shop.Sold"])
    @dataclass(frozen=True)
    class Sold:
        """Something was
        sold.

        And more.
        """

        n: int

    for step in (2, 1):

        @upcast("sales.Sold", from_version=step)
        def unchanged(payload: dict[str, Any], _step: int = step) -> dict[str, Any]:
            return payload

        unchanged.__qualname__ = f"unchanged_{step}"
    return Sold


def test_an_event_is_described_as_it_is_declared(sold: type) -> None:
    found = described("sales.Sold")
    assert ("sales.Sold", 3, ("shop.Sold",), (1, 2)) == (found.type, found.version, found.aliases, found.upcasters)
    assert (f"{__name__}.{sold.__qualname__}", "Something was sold.") == (found.cls, found.summary)
    assert {"n": {"type": "integer"}} == found.schema["properties"]
    assert ((), NOBODY) == (found.producers, found.wanted)


def test_the_app_is_the_one_whose_module_declares_the_class(sold: type) -> None:
    assert "shop" == described("shop.OrderPlaced").app
    assert "" == described("sales.Sold").app


def test_events_are_in_the_order_of_their_names() -> None:
    names = [each.type for each in catalogue().events]
    assert sorted(names) == names
    assert {"shop.OrderPlaced", "shop.OrderCancelled"} <= set(names)


def test_it_tells_who_wants_an_event(sold: type) -> None:
    @handles(sold, name="z", consumer="books")
    def follow(event: object) -> None: ...

    @handles("shop.Sold", name="a", mode="sync")
    def check(event: object) -> None: ...

    @handles("other.*", name="other")
    def other(event: object) -> None: ...

    with override_settings(
        EVENTSTORE={
            "CONSUMERS": {
                "warehouse": {**RECORDER, "EVENTS": ["sales.*"]},
                "everything": {**RECORDER, "EVENTS": ["*"]},
                "nothing": {**RECORDER, "EVENTS": ["other.Thing"]},
            }
        }
    ):
        wanted = described("sales.Sold").wanted

    assert (
        Wanted(
            handlers=(
                HandlerDescription(name="a", consumer="", mode="sync"),
                HandlerDescription(name="z", consumer="books", mode="durable"),
            ),
            consumers=("everything", "warehouse"),
        )
        == wanted
    )


def test_a_name_that_is_asked_for_and_has_no_class_is_listed_by_name(sold: type) -> None:
    retire("old.Thing")

    @handles("other.Thing", "other.*", "old.Thing", sold, name="one")
    def follow(event: object) -> None: ...

    with override_settings(EVENTSTORE={"CONSUMERS": {"w": {**RECORDER, "EVENTS": ["far.Thing", "*"]}}}):
        found = catalogue().by_name

    one = HandlerDescription(name="one", consumer="one", mode="durable")
    assert {
        "far.Thing": Wanted(handlers=(), consumers=("w",)),
        "other.Thing": Wanted(handlers=(one,), consumers=("w",)),
    } == found


def test_retired_types_are_listed_with_their_reason() -> None:
    retire("b.B", "a.A", reason="moved out")
    assert [("a.A", "moved out"), ("b.B", "moved out")] == list(catalogue().retired.items())


def test_producers_are_those_that_are_told(sold: type) -> None:
    found = catalogue(producers={"sales.Sold": ["shop.Order", "shop.Basket"]})
    assert {"sales.Sold": ("shop.Basket", "shop.Order")} == {e.type: e.producers for e in found.events if e.producers}


def test_the_document_holds_plain_values(sold: type) -> None:
    @handles(sold, name="follow")
    def follow(event: object) -> None: ...

    document = catalogue(producers={"sales.Sold": ["shop.Order"]}).document()
    expected = {
        "version": 3,
        "aliases": ["shop.Sold"],
        "upcasters": [1, 2],
        "class": f"{__name__}.{sold.__qualname__}",
        "app": "",
        "summary": "Something was sold.",
        "schema": described("sales.Sold").schema,
        "producers": ["shop.Order"],
        "handlers": [{"name": "follow", "consumer": "follow", "mode": "durable"}],
        "consumers": [],
    }
    assert (1, expected) == (document["catalogue"], document["events"]["sales.Sold"])
    assert ["by_name", "catalogue", "events", "retired"] == sorted(document)


def test_the_order_of_declarations_does_not_matter(sold: type) -> None:
    for name in ("b", "a"):
        handles(sold, name=name)(lambda event: None)
    before = catalogue()
    for declared in (handler_registry._handlers, registry._by_type, registry._upcasters["sales.Sold"]):
        turned = list(declared.items())[::-1]
        declared.clear()
        declared.update(turned)  # type: ignore[arg-type]
    assert before == catalogue()


def test_a_class_that_cannot_be_described_is_an_error_that_names_it() -> None:
    @event("test.Unreadable")
    @dataclass(frozen=True)
    class Unreadable:
        value: NowhereToBeFound  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ValueError, match=r"test\.Unreadable: .*NowhereToBeFound"):
        catalogue()
