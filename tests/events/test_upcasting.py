import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest

from django_eventstore import event, upcast
from django_eventstore.events import (
    decode,
    decode_event,
    decode_present,
    missing_steps,
    needless_upcasters,
    upcast_payload,
)
from django_eventstore.exceptions import EventDecodingError, UnknownEventType

from .examples import definition_of


def declare(version=3, aliases=()):
    @event("orders.Placed", version=version, aliases=aliases)
    @dataclass(frozen=True)
    class Placed:
        customer: str
        total: Decimal

    return Placed


def name_the_customer(payload):
    payload["customer"] = payload.pop("buyer")
    return payload


def cents_to_euros(payload):
    return {**payload, "total": Decimal(payload["total"]) / 100}


@pytest.fixture
def placed():
    """Version 1 had a buyer and cents, version 2 a customer and cents."""
    upcast("orders.Placed", from_version=1)(name_the_customer)
    upcast("orders.Placed", from_version=2)(cents_to_euros)
    return declare()


def failure(version, payload="{}"):
    with pytest.raises(EventDecodingError) as caught:
        decode_event("orders.Placed", version, payload)
    assert ("orders.Placed", version) == (caught.value.type, caught.value.version)
    return caught.value


@pytest.mark.parametrize(
    "version, payload",
    [
        (1, '{"buyer":"Ada","total":1250}'),
        (2, '{"customer":"Ada","total":1250}'),
        (3, '{"customer":"Ada","total":"12.5"}'),
    ],
)
def test_each_version_is_read_as_the_class_of_today(placed, version, payload):
    assert placed("Ada", Decimal("12.5")) == decode(definition_of(placed), version, payload)


def test_a_payload_of_the_declared_version_runs_no_upcaster(placed):
    assert placed("Ada", Decimal(1250)) == decode_event("orders.Placed", 3, '{"customer":"Ada","total":"1250"}')


def test_plain_values_are_those_of_todays_json(placed):
    assert {"customer": "Ada", "total": "12.5"} == decode_present("orders.Placed", 1, '{"buyer":"Ada","total":1250}')


def test_values_that_json_has_no_type_for_are_written_as_the_encoder_writes_them():
    @event("test.Lasted", version=2)
    @dataclass(frozen=True)
    class Lasted:
        span: timedelta

    @upcast("test.Lasted", from_version=1)
    def from_seconds(payload):
        return {"span": timedelta(seconds=payload["seconds"])}

    assert {"span": "PT90S"} == decode_present("test.Lasted", 1, '{"seconds":90}')
    assert Lasted(timedelta(seconds=90)) == decode_event("test.Lasted", 1, '{"seconds":90}')


def test_a_type_without_upcasters_is_read_as_it_is_stored():
    placed = declare(version=2)
    assert placed("Ada", Decimal(1)) == decode_event("orders.Placed", 1, '{"customer":"Ada","total":"1"}')
    assert {"customer": "Ada"} == decode_present("orders.Placed", 1, '{"customer":"Ada"}')
    assert {"customer": "Ada"} == upcast_payload(definition_of(placed), 1, {"customer": "Ada"})


def test_a_type_without_a_class_is_plain_values_in_every_version():
    assert {"n": 1} == decode_present("orders.Unknown", 7, '{"n":1}')
    with pytest.raises(UnknownEventType, match=r"orders\.Unknown"):
        decode_event("orders.Unknown", 7, '{"n":1}')


def test_the_stored_payload_is_not_changed(placed):
    text = '{"buyer":"Ada","total":1250}'
    decode_event("orders.Placed", 1, text)
    assert {"buyer": "Ada", "total": 1250} == json.loads(text)
    assert decode_event("orders.Placed", 1, text) == decode_event("orders.Placed", 1, text)


@pytest.mark.parametrize("read", [decode_event, decode_present])
def test_a_newer_version_is_an_error_for_classes_and_for_plain_values(placed, read):
    with pytest.raises(EventDecodingError, match="newer than version 3, which this code declares"):
        read("orders.Placed", 4, '{"customer":"Ada","total":"1"}')


@pytest.mark.parametrize("declared, stored, missing", [(2, 1, 1), (1, 2, 2)])
def test_a_step_without_an_upcaster_is_an_error_that_names_it(declared, stored, missing):
    placed = declare()
    upcast("orders.Placed", from_version=declared)(dict)

    assert [missing] == missing_steps(definition_of(placed))
    assert f"no upcaster from version {missing} to {missing + 1}" in failure(stored).reason


def test_no_upcaster_at_all_is_no_missing_step():
    assert [] == missing_steps(definition_of(declare()))


def test_a_whole_chain_misses_nothing(placed):
    assert [] == missing_steps(definition_of(placed))
    assert [] == list(needless_upcasters())


def test_what_an_upcaster_raises_is_the_cause_of_the_error(placed):
    error = failure(1, '{"total":1}')
    assert "version 1" in error.reason
    assert "test_upcasting.name_the_customer, raised KeyError: 'buyer'" in error.reason
    assert isinstance(error.__cause__, KeyError)


@pytest.mark.parametrize("returned", [None, [], "text"])
def test_an_upcaster_that_returns_no_mapping_is_an_error_that_names_it(returned):
    declare(version=2)

    @upcast("orders.Placed", from_version=1)
    def forgets(payload):
        return returned

    assert f"forgets, returned {type(returned).__qualname__} and not the payload" in failure(1).reason


@pytest.mark.parametrize("returned", [{"customer": "Ada", "total": float("nan")}, {1: 2}, {"customer": object()}])
def test_an_upcaster_that_returns_what_cannot_be_stored_is_an_error(returned):
    declare(version=2)
    upcast("orders.Placed", from_version=1)(lambda payload: returned)
    assert "the upcasters to version 2 return what cannot be stored" in failure(1).reason


def test_an_upcast_payload_that_does_not_fit_the_class_is_an_error_with_the_field():
    declare(version=2)
    upcast("orders.Placed", from_version=1)(lambda payload: {"customer": 7, "total": "1"})
    assert "at `$.customer`" in failure(1).reason


def test_a_payload_that_is_no_object_reaches_no_upcaster():
    declare(version=2)
    upcast("orders.Placed", from_version=1)(lambda payload: {"customer": "Ada", "total": "1"})
    assert "Expected `object`" in failure(1, "[]").reason


def test_the_function_stays_what_it_is():
    assert name_the_customer is upcast("orders.Placed", from_version=1)(name_the_customer)


def test_two_upcasters_of_one_version_are_refused_and_both_are_named():
    upcast("orders.Placed", from_version=1)(name_the_customer)
    with pytest.raises(ValueError, match=r"from version 1: .*name_the_customer and .*cents_to_euros"):
        upcast("orders.Placed", from_version=1)(cents_to_euros)


def test_the_upcaster_of_a_module_imported_again_replaces_the_earlier_one():
    def again(payload): ...

    again.__module__, again.__qualname__ = name_the_customer.__module__, name_the_customer.__qualname__
    upcast("orders.Placed", from_version=1)(again)
    upcast("orders.Placed", from_version=1)(name_the_customer)
    placed = declare(version=2)
    assert placed("Ada", Decimal(1)) == decode_event("orders.Placed", 1, '{"buyer":"Ada","total":"1"}')


@pytest.mark.parametrize("from_version", [0, -1, True, "1", 1.0])
def test_a_version_that_cannot_be_is_refused(from_version):
    with pytest.raises(ValueError, match="no whole number from 1 up"):
        upcast("orders.Placed", from_version=from_version)


def test_a_name_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="'Placed' is no type name"):
        upcast("Placed", from_version=1)


def test_upcasters_that_can_never_run_are_found():
    upcast("orders.Unknown", from_version=1)(dict)
    declare(version=2, aliases=["shop.Placed"])
    upcast("orders.Placed", from_version=1)(name_the_customer)
    upcast("orders.Placed", from_version=2)(dict)
    upcast("shop.Placed", from_version=1)(cents_to_euros)

    assert [
        ("orders.Placed", 2, "the class declares version 2, so there is no version 3"),
        ("orders.Unknown", 1, "no class is declared for this type"),
        ("shop.Placed", 1, "there is another one under the name 'orders.Placed'"),
    ] == list(needless_upcasters())


def test_an_upcaster_declared_under_an_alias_still_runs():
    upcast("shop.Placed", from_version=1)(name_the_customer)
    placed = declare(version=2, aliases=["shop.Placed"])
    for name in ("orders.Placed", "shop.Placed"):
        assert placed("Ada", Decimal(1)) == decode_event(name, 1, '{"buyer":"Ada","total":"1"}')
    assert [] == list(needless_upcasters())
