"""``@event``: declares that a frozen dataclass is a domain event."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .patterns import TYPE_NAME_RULE, is_type_name
from .registry import registry

__all__ = ["EventDefinition", "event"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDefinition:
    """What ``@event`` declares: the stable type name, the version of the payload's form, and the class.

    Not constructible unless valid: TypeError for what is no frozen dataclass, ValueError for a bad name or version.
    """

    type: str
    version: int
    cls: builtins.type[object]

    def __post_init__(self) -> None:
        _require_frozen_dataclass(self.cls)
        name = self.cls.__qualname__
        if not is_type_name(self.type):
            raise ValueError(f"@event on {name}: {self.type!r} is no type name; {TYPE_NAME_RULE}.")
        if not _is_version(self.version):
            raise ValueError(f"@event on {name}: version {self.version!r} is no whole number from 1 up.")


def event(type: str, *, version: int = 1) -> Callable[[type[T]], type[T]]:
    """Declare a frozen dataclass as the event of this type; the class itself is returned unchanged.

    ``type`` stays the same for ever, wherever the class moves; ``version`` grows when the payload's form changes.
    Raises TypeError or ValueError at import, saying what to change, when the class, the name or the version does not
    do, or when the type belongs to another class.
    """

    def declare(cls: builtins.type[T]) -> builtins.type[T]:
        registry.register(EventDefinition(type=type, version=version, cls=cls))
        return cls

    return declare


def _is_version(version: object) -> bool:
    return isinstance(version, int) and not isinstance(version, bool) and version >= 1


def _require_frozen_dataclass(cls: object) -> None:
    if not isinstance(cls, type):
        raise TypeError(
            f"@event needs a class and got {cls!r}. Write @event('orders.OrderPlaced') above @dataclass(frozen=True)."
        )
    # Looked up in the class's own namespace: a subclass inherits these marks without being a dataclass itself.
    if "__dataclass_fields__" not in vars(cls):
        raise TypeError(
            f"@event on {cls.__qualname__}: the class is no dataclass where @event meets it. Decorators apply from the "
            "bottom up, so write @event(...) above @dataclass(frozen=True)."
        )
    if not vars(cls)["__dataclass_params__"].frozen:
        raise TypeError(
            f"@event on {cls.__qualname__}: an event is a fact and does not change, and this dataclass is not frozen. "
            "Write @dataclass(frozen=True) below @event(...)."
        )
