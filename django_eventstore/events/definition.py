"""``@event``: declares that a frozen dataclass is a domain event; ``retire``: that a type has none any more."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from .patterns import TYPE_NAME_RULE, is_type_name
from .registry import registry

__all__ = ["EventDefinition", "event", "is_version", "retire"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDefinition:
    """What ``@event`` declares: the stable type name, the version of the payload's form, and the class.

    Not constructible unless valid: TypeError for what is no frozen dataclass, ValueError for a bad name or version.
    """

    type: str
    version: int
    cls: builtins.type[object]
    aliases: tuple[str, ...] = ()
    """Type names it had before."""
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The type and its aliases."""

    def __post_init__(self) -> None:
        _require_frozen_dataclass(self.cls)
        name = self.cls.__qualname__
        if not is_type_name(self.type):
            raise ValueError(f"@event on {name}: {self.type!r} is no type name; {TYPE_NAME_RULE}.")
        if not is_version(self.version):
            raise ValueError(f"@event on {name}: version {self.version!r} is no whole number from 1 up.")
        _require_aliases(self.aliases, type=self.type, name=name)
        object.__setattr__(self, "names", (self.type, *self.aliases))


def event(type: str, *, version: int = 1, aliases: Iterable[str] = ()) -> Callable[[type[T]], type[T]]:
    """Declare a frozen dataclass as the event of this type; the class itself is returned unchanged.

    ``type`` stays the same, wherever the class moves; ``version`` grows when the payload's form changes. ``aliases``: type
    names it had before. What is stored under them is read as this event, and selected wherever one of its names or their
    prefixes is asked for; new events are stored as ``type``. Raises TypeError or ValueError at import, saying what to
    change, when the class, a name or the version does not do, or when a name belongs to another class.
    """

    if isinstance(aliases, str) or not isinstance(aliases, Iterable):
        raise TypeError(f"@event({type!r}): aliases is a list of type names, and {aliases!r} is none.")
    names = tuple(aliases)

    def declare(cls: builtins.type[T]) -> builtins.type[T]:
        registry.register(EventDefinition(type=type, version=version, cls=cls, aliases=names))
        return cls

    return declare


def retire(*types: str, reason: str = "") -> None:
    """Declare that these types have no class any more, on purpose: events of them stay in the log, and are no mistake.

    Checks and ``eventstore_catalogue --check`` are then silent about them. Raises ValueError for what is no type name or
    has a class.
    """
    for name in types:
        if not is_type_name(name):
            raise ValueError(f"retire(): {name!r} is no type name; {TYPE_NAME_RULE}.")
        registry.retire(name, reason)


def _require_aliases(aliases: tuple[str, ...], *, type: str, name: str) -> None:
    for alias in aliases:
        if not is_type_name(alias):
            raise ValueError(f"@event on {name}: {alias!r} in aliases is no type name; {TYPE_NAME_RULE}.")
    if type in aliases or len(set(aliases)) < len(aliases):
        raise ValueError(f"@event on {name}: aliases are earlier names, each once, without the type {type!r} itself.")


def is_version(version: object) -> bool:
    """Whether an event may have this version."""
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
