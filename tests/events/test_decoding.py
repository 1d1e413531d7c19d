import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from django_eventstore.events import (
    decode,
    decode_mapping,
    encode,
    event,
)
from django_eventstore.exceptions import EventDecodingError

from .examples import LIMIT, NOON, ORDER, Anything, Everything, Flat, definition_of, flat


def read(payload, cls=Flat, version=1):
    return decode(definition_of(cls), version, payload)


def failure(payload, cls=Flat, version=1):
    with pytest.raises(EventDecodingError) as caught:
        read(payload, cls, version)
    assert (caught.value.type, caught.value.version) == (definition_of(cls).type, version)
    return caught.value.reason


def flat_json(**changes):
    return json.dumps({"order": str(ORDER), "amount": "1", "at": "2025-03-01T12:00:00Z", "name": "Ada"} | changes)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"order": 7}, "Expected `uuid`, got `int` - at `$.order`"),
        ({"name": 7}, "Expected `str`, got `int` - at `$.name`"),
        ({"amount": "one"}, "Invalid decimal string - at `$.amount`"),
        ({"amount": "NaN"}, "amount: Decimal NaN is no number"),
        ({"at": "2025-03-01T12:00:00"}, "at: the datetime is naive"),
        ({"at": 1740830400}, "Expected `datetime`, got `int` - at `$.at`"),
        ({"name": "a\x00b"}, "name: the text holds a NUL character"),
    ],
)
def test_a_payload_that_does_not_fit_is_an_error_with_the_field(changes, reason):
    assert reason in failure(flat_json(**changes))


@pytest.mark.parametrize("payload", ["", "{", "[]", "null", "{} {}", '{"a":NaN}', "[" * 100_000, '{"name":"\ud800"}'])
def test_what_is_no_json_object_is_an_error(payload):
    assert failure(payload)
    with pytest.raises(EventDecodingError):
        decode_mapping(payload)


def test_json_nested_too_deep_to_read_is_an_error():
    assert failure('{"value":' + "[" * 100_000, Anything) == "the JSON is nested too deep"


def test_a_missing_field_is_an_error():
    assert failure("{}") == "Object missing required field `order`"


def test_the_message_names_type_version_and_reason():
    with pytest.raises(EventDecodingError, match=r"^codec\.Flat version 1: Object missing required field"):
        read("{}")


def test_a_missing_field_with_a_default_takes_it_and_unknown_fields_are_ignored():
    assert read(flat_json(later=1)) == Flat(ORDER, Decimal(1), datetime(2025, 3, 1, 12, tzinfo=timezone.utc), "Ada")


def test_another_offset_is_the_same_moment():
    assert read(flat_json(at="2025-03-01T14:00:00.123456+02:00")).at == NOON


def test_a_newer_version_is_an_error_that_says_so():
    assert failure(flat_json(), version=2).startswith("newer than version 1, which this code declares")


def test_an_older_version_is_read_with_the_present_class():
    assert read('{"value":1}', Anything) == Anything(1)
    assert isinstance(failure("{}", Everything, 1), str)


def test_an_unexpected_exception_of_the_class_is_passed_on():
    @event("codec.Checked")
    @dataclass(frozen=True)
    class Checked:
        number: int

        def __post_init__(self):
            if self.number < 0:
                raise ValueError("number is negative")
            if self.number == 0:
                raise LookupError("a fault in the class")

    assert failure('{"number":-1}', Checked) == "number is negative"
    with pytest.raises(LookupError, match="a fault in the class"):
        read('{"number":0}', Checked)


def test_an_unreadable_mapping_names_the_event_when_it_is_told():
    with pytest.raises(EventDecodingError, match=r"^codec\.Mapping version 3: "):
        decode_mapping("[]", type="codec.Mapping", version=3)


def test_a_new_uuid_of_each_event_does_not_change_the_rest():
    first, second = flat(order=uuid.uuid4()), flat(order=uuid.uuid4())
    assert encode(first, max_bytes=LIMIT)[47:] == encode(second, max_bytes=LIMIT)[47:]
