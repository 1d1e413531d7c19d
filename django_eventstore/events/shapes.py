"""The fast half of the rules: recognises, by exact type, values that the encoder writes correctly as they are.

A dataclass's values have a *shape*, the tuple of their types. What is to be looked at in a shape is worked out once and
kept, so an event of a known shape costs a few comparisons. "No" never means refused: it means that ``values``,
which knows all rules, has to look. Text is not looked into here; the codec sees NUL and surrogates in what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from functools import lru_cache
from math import isfinite
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from .values import INT_MAX, INT_MIN, MAX_DEPTH, ValueRefused, to_plain

__all__ = ["AS_DECLARED", "LOOK_CLOSER", "STORABLE", "Check", "check_for", "examine"]

LOOK_CLOSER = 0
"""Not known: ``values.to_plain`` decides."""
STORABLE = 1
"""The encoder writes it correctly; whether it fits its class's annotations is not known."""
AS_DECLARED = 2
"""STORABLE, and every field has exactly its annotated type, so that it can be read back."""

Check = Callable[[Any, int], int]
"""Takes a value and how many containers are around it; returns LOOK_CLOSER, STORABLE or AS_DECLARED."""

_Checks = tuple[tuple[int, Check], ...]
_Shape = tuple[_Checks, _Checks, int]
"""Which values of the shape to check, by index; which of them are lists whose items decide whether the shape is as
declared; and the verdict if all of them pass."""
_MAX_SHAPES = 1000


def examine(value: object, depth: int = 0) -> int:
    """LOOK_CLOSER, STORABLE or AS_DECLARED. ``depth``: how many containers are around the value."""
    return check_for(type(value))(value, depth)


def check_for(cls: type) -> Check:
    """The function that examines values of exactly this class."""
    return _CHECKS.get(cls) or _learn(cls)


def _always(value: object, depth: int) -> int:
    return STORABLE


def _never(value: object, depth: int) -> int:
    return LOOK_CLOSER


def _check_int(value: int, depth: int) -> int:
    return INT_MIN <= value <= INT_MAX


def _check_float(value: float, depth: int) -> int:
    return isfinite(value)


def _check_decimal(value: Decimal, depth: int) -> int:
    return value.is_finite()


def _check_datetime(value: datetime, depth: int) -> int:
    # Other zones of offset 0 take the slow way; no other offset may pass, as the encoder drops its seconds.
    return value.tzinfo is timezone.utc


def _check_time(value: time, depth: int) -> int:
    return value.tzinfo is None


def _check_items(value: list[object] | tuple[object, ...], depth: int) -> int:
    if depth >= MAX_DEPTH:
        return LOOK_CLOSER
    return _check_kinds(value, set(map(type, value)), depth + 1)


def _check_kinds(items: Iterable[Any], kinds: set[type], depth: int) -> int:
    """``kinds``: the types of the items; most lists have one, and then the question is asked once."""
    for kind in kinds:
        check = _CHECKS.get(kind) or _learn(kind)
        if check is _always:
            continue
        if check is _check_int and len(kinds) == 1:
            if min(items) < INT_MIN or max(items) > INT_MAX:
                return LOOK_CLOSER
            continue
        for item in items:
            if type(item) is kind and not check(item, depth):
                return LOOK_CLOSER
    return STORABLE


def _check_dict(value: dict[object, object], depth: int) -> int:
    if depth >= MAX_DEPTH or set(map(type, value)) - {str}:
        return LOOK_CLOSER
    items = value.values()
    return _check_kinds(items, set(map(type, items)), depth + 1)


def _dataclass_check(cls: type, names: list[str]) -> Check:
    """A function that examines the instances of one dataclass. A closure: it runs for every event, and costs least."""
    values_of = _values_getter(names)
    shapes: dict[tuple[type, ...], _Shape] = {}

    def check(value: object, depth: int) -> int:
        if depth >= MAX_DEPTH:
            return LOOK_CLOSER
        try:
            values = values_of(value)
        except AttributeError:  # a field without a value: the slow way names it
            return LOOK_CLOSER
        shape = tuple(map(type, values))
        known = shapes.get(shape)
        if known is None:
            known = _learn_shape(cls, shape)
            # Many optional fields make many shapes; beyond the bound they are worked out anew, so memory stays bounded.
            if len(shapes) < _MAX_SHAPES:
                shapes[shape] = known
        checks, list_checks, verdict = known
        for index, check_value in checks:
            if not check_value(values[index], depth + 1):
                return LOOK_CLOSER
        for index, check_list in list_checks:
            found = check_list(values[index], depth + 1)
            if found < verdict:
                if not found:
                    return LOOK_CLOSER
                verdict = found
        return verdict

    return check


def _learn_shape(cls: type, shape: tuple[type, ...]) -> _Shape:
    checks: list[tuple[int, Check]] = []
    list_checks: list[tuple[int, Check]] = []
    verdict = AS_DECLARED
    for index, (kind, (certain, items)) in enumerate(zip(shape, _declared_types(cls), strict=True)):
        if kind in items:
            list_checks.append((index, _list_check(items[kind])))
            continue
        if kind not in certain:
            verdict = STORABLE
        if (check := check_for(kind)) is not _always:
            checks.append((index, check))
    return tuple(checks), tuple(list_checks), verdict


def _list_check(certain: frozenset[type]) -> Check:
    """The check of a list or tuple whose items are declared to be of these types."""

    def check(value: Any, depth: int) -> int:
        if depth >= MAX_DEPTH:
            return LOOK_CLOSER
        kinds = set(map(type, value))
        if not _check_kinds(value, kinds, depth + 1):
            return LOOK_CLOSER
        return AS_DECLARED if kinds <= certain else STORABLE

    return check


def _values_getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda value: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


_Certain = tuple[frozenset[type], dict[type, frozenset[type]]]
"""Exact types of value that are certain to be read back as an annotation, and those of the items of its lists."""


@lru_cache(maxsize=1024)
def _declared_types(cls: Any) -> list[_Certain]:
    """What is certain of each field."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (AttributeError, NameError, TypeError):
        # Nothing is certain then: the codec reads back each event it writes, and says what is wrong.
        hints = {}
    return [_certain_of(hints.get(member.name)) for member in fields(cls)]


def _certain_of(annotation: object) -> _Certain:
    scalars: set[type] = set()
    items: dict[type, frozenset[type]] = {}
    for member in _union_members(annotation):
        arguments = get_args(member)
        if get_origin(member) is list or (get_origin(member) is tuple and arguments[1:] == (...,)):
            items[get_origin(member)] = frozenset(filter(_is_certain, _union_members(arguments[0])))  # type: ignore[arg-type, index]
        elif _is_certain(member):
            scalars.add(member)  # type: ignore[arg-type]
    return frozenset(scalars), items


def _union_members(annotation: object) -> list[object]:
    while isinstance(annotation, NewType):
        annotation = annotation.__supertype__
    if get_origin(annotation) in (Union, UnionType):
        return [member for argument in get_args(annotation) for member in _union_members(argument)]
    return [annotation]


def _is_certain(annotation: object) -> bool:
    return isinstance(annotation, type) and (annotation in _SCALARS or _is_plain_enum(annotation))


def _is_plain_enum(cls: type) -> bool:
    """Whether the encoder writes each member as ``values`` does. A Flag has unlisted members of any size."""
    if not issubclass(cls, Enum) or issubclass(cls, Flag):
        return False
    try:
        return all(type(member.value) in (str, int) and to_plain(member) == member.value for member in cls)
    except ValueRefused:
        return False


def _learn(cls: type) -> Check:
    """The check of a type that is met for the first time; kept for Enums and dataclasses, which are few."""
    check: Check = _never
    if issubclass(cls, Enum):
        check = _always if _is_plain_enum(cls) else _never
    elif is_dataclass(cls) and not issubclass(cls, _BASES):
        members = fields(cls)
        # The encoder leaves out a field that only has a class attribute as its default, which init=False allows.
        check = (
            _dataclass_check(cls, [member.name for member in members])
            if all(member.init for member in members)
            else _never
        )
    else:
        return check
    _CHECKS[cls] = check
    return check


_CHECKS: dict[type, Check] = {
    str: _always,
    bool: _always,
    NoneType: _always,
    UUID: _always,
    date: _always,
    timedelta: _always,
    int: _check_int,
    float: _check_float,
    Decimal: _check_decimal,
    datetime: _check_datetime,
    time: _check_time,
    list: _check_items,
    tuple: _check_items,
    dict: _check_dict,
}
_SCALARS = frozenset(_CHECKS) - {list, tuple, dict}
_BASES = tuple(kind for kind in _CHECKS if kind not in (bool, NoneType))
