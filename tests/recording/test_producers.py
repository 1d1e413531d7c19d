"""Which events are known to be recorded by captured models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from django_eventstore import capture, event
from django_eventstore.recording.producers import producers
from tests.declarations import declarations
from tests.management.output import run
from tests.recording.capturing import no_captures
from tests.shop.models import Order, Refund

__all__ = ["declarations", "no_captures"]

pytestmark = [pytest.mark.no_database, pytest.mark.usefixtures("declarations")]


def declared(name: str) -> Any:
    @event(name)
    @dataclass(frozen=True)
    class Told:
        pk: int

        @classmethod
        def of(cls, instance: Any) -> Told:
            return cls(pk=instance.pk)

    return Told


def test_a_method_of_an_event_class_makes_that_event() -> None:
    told = declared("produced.Placed")
    capture(Order, created=told.of)
    (described,) = producers()["produced.Placed"]
    assert described.startswith("capture(shop.Order, created=")


def test_a_return_annotation_says_what_a_function_makes() -> None:
    paid, refunded = declared("produced.Paid"), declared("produced.Refunded")

    def build(instance: Any) -> Any: ...

    build.__annotations__["return"] = list[paid | refunded] | None
    capture(Order, updated=build)
    capture(Refund, created=build)
    found = producers()
    assert ["capture(shop.Order, updated=", "capture(shop.Refund, created="] == [
        each.partition("test_a")[0] for each in found["produced.Paid"]
    ]
    assert found["produced.Paid"] == found["produced.Refunded"]


def test_what_nobody_says_is_not_known() -> None:
    def build(instance: Any) -> Missing: ...  # type: ignore[name-defined]  # noqa: F821

    def untyped(instance): ...

    capture(Order, created=build, deleted=untyped)
    assert {} == producers()


def test_the_catalogue_names_them() -> None:
    told = declared("produced.Placed")
    capture(Order, created=told.of)
    document = json.loads(run("eventstore_catalogue", "--format", "json"))
    assert producers()["produced.Placed"] == document["events"]["produced.Placed"]["producers"]
