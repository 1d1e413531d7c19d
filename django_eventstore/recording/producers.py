"""Which events are recorded by captured models, as far as the declarations tell."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..events import registry
from .captures import Builder, Kind, captures

__all__ = ["producers"]

KINDS: tuple[Kind, ...] = ("created", "updated", "deleted")


def producers() -> dict[str, list[str]]:
    """By type name, such as ``capture(shop.Product, updated=price_changed)``.

    The type of what a builder makes is known by its return annotation, and of a method of an event class by the class.
    """
    found: dict[str, list[str]] = {}
    for capture in captures:
        for kind in KINDS:
            builder = capture.builder(kind)
            for type_name in sorted(set(_types_made_by(builder))):
                found.setdefault(type_name, []).append(f"capture({capture.model._meta.label}, {kind}={builder})")
    return found


def _types_made_by(builder: Builder | None) -> Iterator[str]:
    if builder is None:
        return
    for cls in (getattr(builder.function, "__self__", None), *_members(_return_annotation(builder.function))):
        definition = registry.by_class(cls) if isinstance(cls, type) else None
        if definition is not None:
            yield definition.type


def _return_annotation(function: Callable[..., object]) -> object:
    try:
        return get_type_hints(function).get("return")
    except (AttributeError, NameError, TypeError):
        return None  # no annotations, or some that name what is not there at run time


def _members(annotation: Any) -> Iterator[object]:
    """The classes in ``OrderPlaced | OrderPaid | None`` and ``list[OrderPlaced]``."""
    if get_origin(annotation) in (Union, types.UnionType, list, tuple):
        for argument in get_args(annotation):
            yield from _members(argument)
    else:
        yield annotation
