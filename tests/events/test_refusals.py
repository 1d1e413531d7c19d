import enum
from dataclasses import InitVar, dataclass
from datetime import date, datetime, time, timezone, tzinfo
from decimal import Decimal
from uuid import UUID

import pytest

from django_eventstore.events import (
    annotation_error,
    decode,
    encode,
    encode_mapping,
    event,
)
from django_eventstore.exceptions import EventDecodingError, EventEncodingError

from .examples import (
    LIMIT,
    NAIVE,
    NOON,
    ORDER,
    TWO_HOURS_EAST,
    Bits,
    Colour,
    Everything,
    Flat,
    Label,
    Line,
    Moment,
    Nothing,
    Ratio,
    definition_of,
    flat,
    refusal,
    written,
)


class Unknown(tzinfo):
    def utcoffset(self, moment):
        return None


class Bad(enum.Enum):
    NUL = "\x00"
    HUGE = 2**63


@pytest.mark.parametrize(
    "value, reason",
    [
        (float("nan"), "nan is no JSON number"),
        (float("-inf"), "-inf is no JSON number"),
        (Ratio("nan"), "nan is no JSON number"),
        (Decimal("NaN"), "Decimal NaN is no number"),
        (Decimal("sNaN"), "Decimal sNaN is no number"),
        (Decimal("-Infinity"), "Decimal -Infinity is no number"),
        ("a\x00b", "NUL character"),
        (Label("a\x00b"), "NUL character"),
        (Bad.NUL, "NUL character"),
        ("a\ud800b", r"lone surrogate ('\ud800' at index 1)"),
        (NAIVE, "the datetime is naive; use an aware datetime, django.utils.timezone.now()"),
        (Moment(2025, 3, 1), "naive"),
        (datetime(2025, 3, 1, tzinfo=Unknown()), "naive"),
        (datetime.min.replace(tzinfo=TWO_HOURS_EAST), "outside of the years 1 to 9999 in UTC"),
        (time(9, 30, tzinfo=timezone.utc), "the time has a time zone"),
        (2**63, "does not fit into 64 bits"),
        (-(2**63) - 1, "does not fit into 64 bits"),
        (Bits(2**70), "does not fit into 64 bits"),
        (Bad.HUGE, "does not fit into 64 bits"),
        (b"raw", "bytes cannot be stored; encode it as text (base64)"),
        ({"a", "b"}, "set has no order and JSON has no sets; use a tuple"),
        (frozenset(), "frozenset has no order"),
        (object(), "object cannot be stored; use plain values"),
        (1j, "complex cannot be stored"),
        (Line, "type cannot be stored"),
        (range(2), "range cannot be stored"),
        ({1: "a"}, "the key 1 is int; keys must be str"),
        ({Colour.RED: "a"}, "is Colour; keys must be str"),
        ({None: "a"}, "the key None is NoneType"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_with_its_field_and_reason(value, reason):
    where, why = refusal(value)

    assert where == "value"
    assert reason in why


@pytest.mark.parametrize("key", ["a\x00", "a\ud800"])
def test_a_key_that_cannot_be_stored_is_named_in_escaped_form(key):
    where, _ = refusal({key: 1})
    assert where == f"value[{key!a}]"


@pytest.mark.parametrize(
    "value, path",
    [
        ([{"price": b""}], "value[0].price"),
        ({"two words": (1, float("nan"))}, "value['two words'][1]"),
        ([Line("a", Decimal(1)), Line("b", Decimal("NaN"))], "value[1].price"),
        ({"a": {"b": Line("a", Decimal(1), NAIVE)}}, "value.a.b.at"),
    ],
)
def test_the_path_leads_to_the_value(value, path):
    assert refusal(value)[0] == path


def test_the_message_names_the_event_the_field_and_what_to_do():
    with pytest.raises(
        EventEncodingError, match=r"codec\.Flat, field at: the datetime is naive; use an aware datetime"
    ):
        encode(flat(at=NAIVE), max_bytes=LIMIT)


def test_a_refusal_can_be_stored_and_logged_itself():
    with pytest.raises(EventEncodingError) as caught:
        encode_mapping("codec.Mapping", {"\ud800": {"\x00": "\ud800"}}, max_bytes=LIMIT)
    assert "\x00" not in str(caught.value)
    assert str(caught.value).encode().decode() == str(caught.value)


def nested(levels):
    value: object = "leaf"
    for _ in range(levels):
        value = [value]
    return value


def test_containers_may_be_nested_100_levels_the_event_counted():
    written(nested(99))
    where, reason = refusal(nested(100))

    assert where.startswith("value[0][0]")
    assert "nested more than 100 levels" in reason


def test_nested_dataclasses_count_as_levels():
    @dataclass
    class Node:
        child: object

    node = Node(None)
    for _ in range(98):
        node = Node(node)
    written(node)
    assert "nested more than 100 levels" in refusal(Node(node))[1]


def circular_list():
    value: list[object] = []
    value.append(value)
    return value


def circular_dict():
    value: dict[str, object] = {}
    value["again"] = [value]
    return value


@pytest.mark.parametrize("value", [circular_list(), circular_dict(), nested(50_000)], ids=["list", "dict", "deep"])
def test_what_contains_itself_is_refused(value):
    assert "contains itself" in refusal(value)[1]


def test_an_instance_of_a_class_that_is_no_event_is_refused():
    with pytest.raises(
        EventEncodingError, match=r"Line: not an instance of an event class\. Declare its class with @event"
    ):
        encode(Line("a", Decimal(1)), max_bytes=LIMIT)


def test_an_instance_of_an_undeclared_subclass_is_refused():
    class Special(Flat):
        pass

    with pytest.raises(EventEncodingError, match="a subclass of an event class needs its own"):
        encode(Special(ORDER, Decimal(1), NOON, "Ada"), max_bytes=LIMIT)


def test_a_field_without_a_value_is_refused():
    @event("codec.Half")
    @dataclass(frozen=True)
    class Half:
        number: int

    half = Half(1)
    object.__delattr__(half, "number")
    with pytest.raises(EventEncodingError, match=r"codec\.Half, field number: the field has no value"):
        encode(half, max_bytes=LIMIT)


@pytest.mark.parametrize(
    "changes, where, reason",
    [
        ({"order": "not-a-uuid"}, "order", "does not fit the class: Invalid UUID"),
        ({"name": 7}, "name", "Expected `str`, got `int`"),
        ({"name": None}, "name", "Expected `str`, got `null`"),
        ({"amount": True}, "amount", "got `bool`"),
        ({"at": date(2025, 3, 1)}, "at", "Invalid RFC3339"),
        ({"note": ["a"]}, "note", "Expected `str | null`, got `array`"),
    ],
)
def test_a_value_that_could_not_be_read_back_is_refused(changes, where, reason):
    with pytest.raises(EventEncodingError) as caught:
        encode(flat(**changes), max_bytes=LIMIT)
    assert caught.value.field == where
    assert reason in caught.value.reason


def test_a_value_that_fits_badly_after_one_that_fits_is_refused_too():
    encode(flat(), max_bytes=LIMIT)
    with pytest.raises(EventEncodingError, match="Expected `str`"):
        encode(flat(name=7), max_bytes=LIMIT)
    with pytest.raises(EventEncodingError, match="naive"):
        encode(flat(at=NAIVE), max_bytes=LIMIT)
    with pytest.raises(EventEncodingError, match="Decimal NaN"):
        encode(flat(amount=Decimal("NaN")), max_bytes=LIMIT)


def test_annotations_that_cannot_be_read_back_are_refused_before_the_first_event():
    @event("codec.Ambiguous")
    @dataclass(frozen=True)
    class Ambiguous:
        number: int
        key: UUID | str

    reason = annotation_error(definition_of(Ambiguous))
    assert reason is not None
    assert "more than one str-like type" in reason
    with pytest.raises(EventEncodingError, match="cannot be read back, change them"):
        encode(Ambiguous(1, "a"), max_bytes=LIMIT)
    with pytest.raises(EventDecodingError, match="cannot be read back, change them"):
        decode(definition_of(Ambiguous), 1, "{}")


def test_arguments_that_are_no_fields_are_refused():
    @event("codec.Argument")
    @dataclass(frozen=True)
    class Argument:
        number: int
        hint: InitVar[int]

    with pytest.raises(EventEncodingError, match="InitVar"):
        encode(Argument(1, 2), max_bytes=LIMIT)


def test_annotations_that_can_be_read_back_have_no_error():
    assert annotation_error(definition_of(Everything)) is None


def test_an_event_of_exactly_the_limit_is_stored():
    payload = encode(flat(name="é" * 50), max_bytes=LIMIT)
    size = len(payload.encode())

    assert encode(flat(name="é" * 50), max_bytes=size) == payload
    with pytest.raises(EventEncodingError):
        encode(flat(name="é" * 50), max_bytes=size - 1)


def test_an_event_that_is_too_large_names_its_largest_field():
    with pytest.raises(EventEncodingError) as caught:
        encode(flat(name="é" * 500), max_bytes=1000)
    assert caught.value.field == "name"
    assert "more than the limit of 1000; the largest field, name, has 1002." in caught.value.reason


def test_an_event_without_fields_can_be_too_large_only_as_a_whole():
    with pytest.raises(EventEncodingError, match="2 bytes of JSON, more than the limit of 1") as caught:
        encode(Nothing(), max_bytes=1)
    assert caught.value.field == ""
