"""Events, values and strategies that the tests of the codec share."""

import enum
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple, NewType, TypeVar
from uuid import UUID

import pytest
from hypothesis import strategies as st

from django_eventstore.events import (
    encode,
    event,
    registry,
)
from django_eventstore.exceptions import EventEncodingError

LIMIT = 1_000_000
ORDER = UUID("0192f0c1-7d3a-7000-8000-000000000001")
NOON = datetime(2025, 3, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)
TWO_HOURS_EAST = timezone(timedelta(hours=2))
NAIVE = NOON.replace(tzinfo=None)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    FIRST = 1


class Shade(str, enum.Enum):
    DARK = "dark"


class Label(str):
    __slots__ = ()

    def __str__(self):
        return "not the value"


class Moment(datetime):
    pass


class Day(date):
    pass


class Count(int):
    def __int__(self):
        return -1


class Ratio(float):
    pass


class Amount(Decimal):
    pass


class Pair(NamedTuple):
    left: int
    right: int


OrderId = NewType("OrderId", int)
T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    at: datetime | None = None


@event("codec.Flat")
@dataclass(frozen=True)
class Flat:
    order: UUID
    amount: Decimal
    at: datetime
    name: str
    note: str | None = None


@event("codec.Everything", version=2)
@dataclass(frozen=True)
class Everything:
    text: str
    number: int
    ratio: float
    flag: bool
    nothing: None
    id: UUID
    amount: Decimal
    at: datetime
    day: date
    clock: time
    span: timedelta
    colour: Colour
    level: Level
    rights: Right
    line: Line
    lines: list[Line]
    texts: tuple[str, ...]
    pair: tuple[int, str]
    counts: dict[str, int]
    deep: dict[str, list[dict[str, Line]]]
    maybe: Decimal | None
    either: int | str | None


@event("codec.Anything")
@dataclass(frozen=True)
class Anything:
    value: Any


@event("codec.Nothing")
@dataclass(frozen=True)
class Nothing:
    pass


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
text = st.text(characters, max_size=20)
int64 = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
offsets = st.sampled_from([timezone.utc, TWO_HOURS_EAST, timezone(-timedelta(hours=11, minutes=30, seconds=7))])
# A day inside the limits, so that any offset can be converted to UTC; the limits themselves have tests of their own.
datetimes = st.datetimes(datetime.fromisoformat("0001-01-02"), datetime.fromisoformat("9999-12-30"), timezones=offsets)
lines = st.builds(Line, sku=text, price=decimals, at=st.none() | datetimes)
everything = st.builds(
    Everything,
    text=text,
    number=int64,
    ratio=finite,
    flag=st.booleans(),
    nothing=st.none(),
    id=st.uuids(),
    amount=decimals,
    at=datetimes,
    day=st.dates(),
    clock=st.times(),
    span=st.timedeltas(),
    colour=st.sampled_from(Colour),
    level=st.sampled_from(Level),
    rights=st.sampled_from([Right.READ, Right.READ | Right.WRITE]),
    line=lines,
    lines=st.lists(lines, max_size=3),
    texts=st.lists(text, max_size=3).map(tuple),
    pair=st.tuples(int64, text),
    counts=st.dictionaries(text, int64, max_size=3),
    deep=st.dictionaries(text, st.lists(st.dictionaries(text, lines, max_size=2), max_size=2), max_size=2),
    maybe=st.none() | decimals,
    either=st.none() | int64 | text,
)


def definition_of(cls):
    definition = registry.by_class(cls)
    assert definition is not None
    return definition


def written(value):
    """The JSON of one value, as an event with a field of any type holds it."""
    return encode(Anything(value), max_bytes=LIMIT).removeprefix('{"value":').removesuffix("}")


def refusal(value):
    """The field and the reason of the refusal of one value."""
    with pytest.raises(EventEncodingError) as caught:
        encode(Anything(value), max_bytes=LIMIT)
    assert caught.value.type == "codec.Anything"
    return caught.value.field, caught.value.reason


def flat(**changes):
    return Flat(**{"order": ORDER, "amount": Decimal("12.50"), "at": NOON, "name": "Ada"} | changes)
