import itertools
import json
import types
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Generic
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_eventstore.events import (
    decode,
    decode_mapping,
    encode,
    encode_mapping,
    encode_metadata,
    event,
)
from django_eventstore.exceptions import EventEncodingError

from .examples import (
    LIMIT,
    NOON,
    ORDER,
    TWO_HOURS_EAST,
    Amount,
    Anything,
    Colour,
    Count,
    Day,
    Everything,
    Flat,
    Label,
    Level,
    Line,
    Moment,
    Nothing,
    OrderId,
    Pair,
    Ratio,
    Right,
    Shade,
    T,
    datetimes,
    decimals,
    definition_of,
    everything,
    finite,
    flat,
    int64,
    text,
    written,
)


@given(everything)
def test_every_supported_value_comes_back_as_it_went(recorded):
    payload = encode(recorded, max_bytes=LIMIT)

    assert decode(definition_of(Everything), 2, payload) == recorded
    assert json.loads(payload).keys() == Everything.__dataclass_fields__.keys()


@given(st.builds(Flat, order=st.uuids(), amount=decimals, at=datetimes, name=text, note=st.none() | text))
def test_a_flat_event_comes_back_as_it_went(recorded):
    assert decode(definition_of(Flat), 1, encode(recorded, max_bytes=LIMIT)) == recorded


@given(
    st.recursive(
        st.none() | st.booleans() | int64 | finite | text, lambda inner: st.lists(inner) | st.dictionaries(text, inner)
    )
)
def test_a_mapping_of_json_values_comes_back_as_it_went(value):
    assert decode_mapping(encode_mapping("codec.Mapping", {"value": value}, max_bytes=LIMIT)) == {"value": value}


def test_the_text_is_compact_json():
    assert encode(flat(), max_bytes=LIMIT) == (
        '{"order":"0192f0c1-7d3a-7000-8000-000000000001","amount":"12.50","at":"2025-03-01T12:00:00.123456Z",'
        '"name":"Ada","note":null}'
    )


def test_an_event_without_fields_is_an_empty_object():
    assert encode(Nothing(), max_bytes=LIMIT) == "{}"
    assert decode(definition_of(Nothing), 1, "{}") == Nothing()


def test_text_stays_utf_8_and_only_what_json_needs_is_escaped():
    assert written('é漢😀\u2028/"\\\n\x1f') == '"é漢😀\u2028/\\"\\\\\\n\\u001f"'


def test_the_letters_of_an_escaped_nul_are_ordinary_text():
    assert written("\\u0000") == '"\\\\u0000"'
    assert decode(definition_of(Anything), 1, '{"value":"\\\\u0000"}') == Anything("\\u0000")


@pytest.mark.parametrize(
    "value, json_text",
    [
        (Decimal("1.10"), '"1.10"'),
        (Decimal("1E+5"), '"1E+5"'),
        (1.0, "1.0"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**63), "-9223372036854775808"),
        (date(2025, 3, 1), '"2025-03-01"'),
        (time(9, 30), '"09:30:00"'),
        (timedelta(days=1, seconds=2, microseconds=3), '"P1DT2.000003S"'),
        (Colour.RED, '"red"'),
        (Level.HIGH, "2"),
        (Right.READ | Right.WRITE, "3"),
        ((1, [2]), "[1,[2]]"),
        (Pair(1, 2), "[1,2]"),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (types.MappingProxyType({"a": 1}), '{"a":1}'),
        (Label("value"), '"value"'),
        ({Label("key"): 1}, '{"key":1}'),
        (Shade.DARK, '"dark"'),
        ({Shade.DARK: 1}, '{"dark":1}'),
        (Count(7), "7"),
        (Ratio(1.5), "1.5"),
        (Amount("1.10"), '"1.10"'),
        (Day(2025, 3, 1), '"2025-03-01"'),
        (Moment(2025, 3, 1, tzinfo=timezone.utc), '"2025-03-01T00:00:00Z"'),
        (datetime(1, 1, 1, tzinfo=timezone.utc), '"0001-01-01T00:00:00Z"'),
        (datetime.max.replace(tzinfo=timezone.utc), '"9999-12-31T23:59:59.999999Z"'),
    ],
)
def test_a_value_is_written_in_its_one_form(value, json_text):
    assert written(value) == json_text


@pytest.mark.parametrize(
    "zone",
    [
        TWO_HOURS_EAST,
        ZoneInfo("Europe/Berlin"),
        ZoneInfo("UTC"),
        timezone(timedelta(0)),
        timezone(timedelta(seconds=30)),
    ],
)
def test_any_offset_is_stored_in_utc_and_the_event_keeps_its_own(zone):
    at = NOON.astimezone(zone)
    recorded = flat(at=at)

    assert encode(recorded, max_bytes=LIMIT) == encode(flat(), max_bytes=LIMIT)
    assert recorded.at is at


def test_the_slow_way_writes_what_the_fast_way_writes():
    @dataclass(frozen=True)
    class Nested:
        values: tuple[object, ...]

    values = (
        ORDER,
        Decimal("1.10"),
        NOON,
        NOON.replace(microsecond=0),
        date.min,
        time.max,
        timedelta(-1, 1),
        0.1,
        5e-324,
        "é\\\n",
    )
    fast = written(Nested(values))
    slow = written(Nested((*values, Label(""))))

    assert slow == fast.removesuffix("]}") + ',""]}'


def test_what_a_class_computes_besides_its_fields_is_not_stored():
    @event("codec.Cached")
    @dataclass(frozen=True)
    class Cached:
        number: int

        @cached_property
        def double(self):
            return self.number * 2

    recorded = Cached(2)
    assert recorded.double == 4
    assert encode(recorded, max_bytes=LIMIT) == '{"number":2}'


def test_a_field_outside_of_init_is_stored_also_when_only_its_default_is_set():
    @event("codec.Computed")
    @dataclass(frozen=True)
    class Computed:
        number: int
        double: int = field(init=False)
        unit: str = field(init=False, default="piece")

        def __post_init__(self):
            object.__setattr__(self, "double", self.number * 2)

    payload = encode(Computed(2), max_bytes=LIMIT)
    assert payload == '{"number":2,"double":4,"unit":"piece"}'
    assert decode(definition_of(Computed), 1, payload) == Computed(2)


def test_a_new_type_and_a_generic_class_are_supported():
    @event("codec.Boxed")
    @dataclass(frozen=True)
    class Boxed(Generic[T]):
        id: OrderId
        content: T

    recorded = Boxed(OrderId(1), "a")
    assert decode(definition_of(Boxed), 1, encode(recorded, max_bytes=LIMIT)) == recorded


def test_an_event_with_many_forms_is_checked_in_each_of_them():
    @event("codec.Optional")
    @dataclass(frozen=True)
    class Sparse:
        a: int | None
        b: int | None
        c: int | None
        d: int | None
        e: int | None
        f: int | None
        g: int | None
        h: int | None
        i: int | None
        j: int | None

    for values in itertools.product([1, None], repeat=10):
        recorded = Sparse(*values)
        assert decode(definition_of(Sparse), 1, encode(recorded, max_bytes=LIMIT)) == recorded
        with pytest.raises(EventEncodingError, match="64 bits"):
            encode(replace(recorded, j=2**63), max_bytes=LIMIT)


def test_a_dataclass_inside_needs_no_readable_annotations_where_nothing_reads_them():
    @dataclass(frozen=True)
    class Foreign:
        value: "Missing"  # noqa: F821

    assert encode_mapping("codec.Mapping", {"inside": Foreign(1)}, max_bytes=LIMIT) == '{"inside":{"value":1}}'


def test_a_mapping_is_written_with_the_same_values():
    payload = {
        "id": ORDER,
        "amount": Decimal("1.10"),
        "at": NOON.astimezone(TWO_HOURS_EAST),
        "lines": [Line("a", Decimal(1))],
    }
    assert encode_mapping("codec.Mapping", payload, max_bytes=LIMIT) == (
        '{"id":"0192f0c1-7d3a-7000-8000-000000000001","amount":"1.10","at":"2025-03-01T12:00:00.123456Z",'
        '"lines":[{"sku":"a","price":"1","at":null}]}'
    )


class Lazy(Mapping):
    def __getitem__(self, key):
        return 1

    def __iter__(self):
        return iter(["a"])

    def __len__(self):
        return 1


def test_any_mapping_is_taken():
    assert encode_mapping("codec.Mapping", Lazy(), max_bytes=LIMIT) == '{"a":1}'


@pytest.mark.parametrize("payload", [None, [], "text", Line("a", Decimal(1)), [("a", 1)]])
def test_a_payload_that_is_no_mapping_is_refused(payload):
    with pytest.raises(EventEncodingError, match="must be a mapping with str keys"):
        encode_mapping("codec.Mapping", payload, max_bytes=LIMIT)


def test_a_payload_with_other_keys_is_refused():
    with pytest.raises(EventEncodingError, match="the key 1 is int; keys must be str"):
        encode_mapping("codec.Mapping", {1: "a"}, max_bytes=LIMIT)


@pytest.mark.parametrize("type", ["nodot", "orders.*", "orders.\x00", "", None])
def test_an_event_without_a_class_needs_a_type_name(type):
    with pytest.raises(EventEncodingError, match="a type name is two or more words"):
        encode_mapping(type, {}, max_bytes=LIMIT)


def test_a_payload_that_is_too_large_names_its_largest_key():
    with pytest.raises(EventEncodingError) as caught:
        encode_mapping("codec.Mapping", {"small": 1, "two words": "x" * 100}, max_bytes=50)
    assert caught.value.field == "['two words']"


@pytest.mark.parametrize("metadata", [None, {}])
def test_no_metadata_is_an_empty_object(metadata):
    assert encode_metadata(metadata, type="codec.Flat", max_bytes=LIMIT) == "{}"


def test_metadata_is_a_json_object():
    assert encode_metadata({"actor": ORDER}, type="codec.Flat", max_bytes=LIMIT) == f'{{"actor":"{ORDER}"}}'


def test_refused_metadata_is_named_as_metadata():
    with pytest.raises(EventEncodingError, match=r"codec\.Flat, field metadata\.actor: object cannot be stored"):
        encode_metadata({"actor": object()}, type="codec.Flat", max_bytes=LIMIT)
    with pytest.raises(EventEncodingError, match=r"codec\.Flat, field metadata: must be a mapping"):
        encode_metadata("actor", type="codec.Flat", max_bytes=LIMIT)
    with pytest.raises(EventEncodingError, match=r"codec\.Flat, field metadata\.actor: 111 bytes of JSON"):
        encode_metadata({"actor": "x" * 99}, type="codec.Flat", max_bytes=50)
