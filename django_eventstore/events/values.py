"""Which values an event may hold, and how each looks in JSON: the complete rules, one value at a time.

``shapes`` answers the same question fast for the common values and leaves the rest to this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, TypeAlias
from uuid import UUID

__all__ = ["INT_MAX", "INT_MIN", "MAX_DEPTH", "Path", "Plain", "ValueRefused", "path_text", "to_plain"]

MAX_DEPTH = 100
"""The most levels of containers inside each other, the event itself counted."""

INT_MIN = -(2**63)
INT_MAX = 2**63 - 1

Path = tuple[str | int, ...]
"""The way to a value: names of fields, keys of dicts, indexes of lists."""

Plain: TypeAlias = "str | int | float | bool | timedelta | list[Plain] | dict[str, Plain] | None"
"""What is left for the JSON encoder; it writes a timedelta as an ISO 8601 duration."""

_SHOWN_SEGMENTS = 8
_SHOWN_KEY = 60


class ValueRefused(Exception):
    """A value cannot be stored. Inside this package only; the codec translates it, as it knows the event.

    Attributes: ``path`` and ``reason``.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path_text(path)}: {reason}")


def path_text(path: Path) -> str:
    """The path as it is read in Python: ``lines[0].price``, ``labels['two words']``. Cut after 8 steps."""
    text = "".join(_segment_text(segment) for segment in path[:_SHOWN_SEGMENTS]).removeprefix(".")
    return text if len(path) <= _SHOWN_SEGMENTS else f"{text}…"


def _segment_text(segment: str | int) -> str:
    if isinstance(segment, int):
        return f"[{segment}]"
    if segment.isidentifier() and len(segment) <= _SHOWN_KEY:
        return f".{segment}"
    # Escaping also keeps what is wrong with a key, NUL or a lone surrogate, out of the message.
    return f"[{segment[:_SHOWN_KEY]!a}]"


def to_plain(value: object, path: Path = ()) -> Plain:
    """The value as the encoder writes it; the value itself is not changed. ValueRefused names the first bad one."""
    if value is None or isinstance(value, bool):
        return value
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value, path)
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, path)
    raise ValueRefused(path, _advice(value))


def _advice(value: object) -> str:
    name = type(value).__qualname__
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{name} cannot be stored; encode it as text (base64), or store it elsewhere and record where it is"
    if isinstance(value, (set, frozenset)):
        return f"{name} has no order and JSON has no sets; use a tuple, sorted if the order is to be stable"
    return (
        f"{name} cannot be stored; use plain values (str, int, float, bool, None, Decimal, UUID, datetime, date, time, "
        "timedelta, Enum), lists, tuples, dicts and dataclasses of them: an object's id or str() instead of the object"
    )


# Methods of the base types are called by name: a subclass may override str() or int(), and what is stored is the value.


def _string(value: str, path: Path) -> str:
    text = str.__str__(value)
    if "\x00" in text:
        raise ValueRefused(path, "the text holds a NUL character, which databases do not store; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueRefused(
            path,
            f"the text holds a lone surrogate ({text[exc.start]!a} at index {exc.start}), which is no character; "
            "decode its source with the right encoding",
        ) from exc
    return text


def _integer(value: int, path: Path) -> int:
    number = int.__int__(value)
    if not INT_MIN <= number <= INT_MAX:
        raise ValueRefused(
            path, "the int does not fit into 64 bits, signed, as JSON readers need; use a str or a Decimal"
        )
    return number


def _float(value: float, path: Path) -> float:
    number = float.__float__(value)
    if not isfinite(number):
        raise ValueRefused(path, f"{number} is no JSON number; use None for a missing value")
    return number


def _decimal(value: Decimal, path: Path) -> str:
    if not value.is_finite():
        raise ValueRefused(path, f"Decimal {value} is no number; use None for a missing value")
    return Decimal.__str__(value)


def _datetime(value: datetime, path: Path) -> str:
    if value.utcoffset() is None:
        raise ValueRefused(path, "the datetime is naive; use an aware datetime, django.utils.timezone.now()")
    try:
        moment = value.astimezone(timezone.utc)
    except OverflowError as exc:
        raise ValueRefused(
            path, "the datetime is outside of the years 1 to 9999 in UTC; use None for no limit"
        ) from exc
    return datetime.isoformat(moment.replace(tzinfo=None)) + "Z"


def _date(value: date, path: Path) -> str:
    return date.isoformat(value)


def _time(value: time, path: Path) -> str:
    # An offset without a date is no fact: which offset holds in a time zone depends on the day.
    if value.tzinfo is not None:
        raise ValueRefused(path, "the time has a time zone, which means nothing without a date; use an aware datetime")
    return time.isoformat(value)


def _timedelta(value: timedelta, path: Path) -> timedelta:
    return timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)


def _enum(value: Enum, path: Path) -> Plain:
    return to_plain(value.value, path)


def _uuid(value: UUID, path: Path) -> str:
    return UUID.__str__(value)


def _items(value: list[object] | tuple[object, ...], path: Path) -> list[Plain]:
    _require_depth(path)
    return [to_plain(item, (*path, index)) for index, item in enumerate(value)]


def _mapping(value: Mapping[object, object], path: Path) -> dict[str, Plain]:
    _require_depth(path)
    plain: dict[str, Plain] = {}
    for key, item in value.items():
        # Keys of other types would come back as text, so the event read would not be the event recorded.
        if not isinstance(key, str):
            raise ValueRefused(path, f"the key {key!a:.60} is {type(key).__qualname__}; keys must be str")
        item_path = (*path, str.__str__(key))
        plain[_string(key, item_path)] = to_plain(item, item_path)
    return plain


def _dataclass(value: Any, path: Path) -> dict[str, Plain]:
    _require_depth(path)
    plain: dict[str, Plain] = {}
    for field in fields(value):
        field_path = (*path, field.name)
        try:
            item = getattr(value, field.name)
        except AttributeError as exc:
            raise ValueRefused(field_path, "the field has no value; set it in __init__ or __post_init__") from exc
        plain[field.name] = to_plain(item, field_path)
    return plain


def _require_depth(path: Path) -> None:
    if len(path) >= MAX_DEPTH:
        raise ValueRefused(path, f"nested more than {MAX_DEPTH} levels deep, or a container that contains itself")


_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any, Path], Plain]], ...] = (
    (Enum, _enum),  # before str and int, which an Enum may be too
    (str, _string),
    (int, _integer),
    (float, _float),
    (Decimal, _decimal),
    (datetime, _datetime),  # before date, which it is too
    (date, _date),
    (time, _time),
    (timedelta, _timedelta),
    (UUID, _uuid),
    ((list, tuple), _items),
    (Mapping, _mapping),
)
