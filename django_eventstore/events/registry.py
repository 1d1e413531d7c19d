"""Which class belongs to which type name, and what reads the forms that its payload had before."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from .patterns import matches

if TYPE_CHECKING:
    from .definition import EventDefinition

__all__ = ["EventRegistry", "Upcaster", "registry", "selects"]

Upcaster = Callable[[dict[str, Any]], Mapping[str, object]]
"""Takes the payload of one version as plain values, and returns that of the next."""


class EventRegistry:
    """The declared events, one class a type and one type a class. Filled at import time, read from any thread."""

    def __init__(self) -> None:
        self._by_type: dict[str, EventDefinition] = {}  # by present names and by aliases
        self._by_class: dict[builtins.type[object], EventDefinition] = {}
        self._upcasters: dict[str, dict[int, Upcaster]] = {}
        self._retired: dict[str, str] = {}
        self._lock = Lock()

    def register(self, definition: EventDefinition) -> None:
        """Add a definition. ValueError if one of its names belongs to another class, or its class to another type.

        A class of the same module and qualified name replaces the earlier one: its module was imported again.
        """
        with self._lock:
            for name in definition.names:
                self._require_free(name, definition)
            same = self._by_class.get(definition.cls)
            if same is not None and same.type != definition.type:
                raise ValueError(
                    f"{_origin(definition.cls)} is declared as {same.type!r} already and cannot be {definition.type!r} "
                    "too. Keep one @event on the class; a second type needs a class of its own."
                )
            earlier = {self._by_type[name] for name in definition.names if name in self._by_type}
            self._by_class[definition.cls] = definition
            for name in definition.names:
                self._by_type[name] = definition
            for other in earlier:  # last: another thread may be reading
                self._forget(other, unlike=definition)

    def register_upcaster(self, type: str, from_version: int, upcaster: Upcaster) -> None:
        """Add what turns this version of the type into the next; one of the same place (a reloaded module) is replaced."""
        with self._lock:
            known = self._upcasters.get(type, {}).get(from_version)
            if known is not None and origin_of(known) != origin_of(upcaster):
                raise ValueError(
                    f"{type!r} has two upcasters from version {from_version}: {origin_of(known)} and "
                    f"{origin_of(upcaster)}. Keep one of them."
                )
            # A new mapping each time: another thread may be going through the old one.
            self._upcasters[type] = {**self._upcasters.get(type, {}), from_version: upcaster}

    def retire(self, type: str, reason: str) -> None:
        """Remember that the type has no class any more, on purpose. ValueError if it has one."""
        with self._lock:
            if (definition := self._by_type.get(type)) is not None:
                raise ValueError(
                    f"{type!r} is declared by {_origin(definition.cls)} and cannot be retired: remove its @event or alias."
                )
            self._retired[type] = reason

    def by_type(self, type: str) -> EventDefinition | None:
        """The definition that has this name, as its type or as an alias, or None."""
        return self._by_type.get(type)

    def by_class(self, cls: builtins.type[object]) -> EventDefinition | None:
        """The definition of exactly this class, or None: a subclass of an event class is no event unless declared."""
        return self._by_class.get(cls)

    def present_type(self, type: str) -> str:
        """The type name that stands for this one today; itself unless it is an alias."""
        definition = self._by_type.get(type)
        return type if definition is None else definition.type

    def names(self, type: str) -> tuple[str, ...]:
        """Every name of the event that has this one: the present first, then its aliases."""
        definition = self._by_type.get(type)
        return (type,) if definition is None else definition.names

    def definitions(self) -> tuple[EventDefinition, ...]:
        """All definitions, by type name."""
        return tuple(sorted(set(self._by_type.values()), key=lambda definition: definition.type))

    def upcasters(self, definition: EventDefinition) -> Mapping[int, Upcaster]:
        """Its upcasters by the version they take, also those that were declared under an alias."""
        found: dict[int, Upcaster] = {}
        for name in reversed(definition.names):
            found.update(self._upcasters.get(name, {}))
        return found

    def upcaster_types(self) -> tuple[str, ...]:
        """The names under which upcasters were declared."""
        return tuple(sorted(self._upcasters))

    def upcasters_named(self, type: str) -> Mapping[int, Upcaster]:
        """The upcasters that were declared under exactly this name."""
        return self._upcasters.get(type, {})

    def retired(self) -> Mapping[str, str]:
        """The retired types and why, by type name."""
        return dict(sorted(self._retired.items()))

    def _require_free(self, name: str, definition: EventDefinition) -> None:
        other = self._by_type.get(name)
        if other is not None and _origin(other.cls) != _origin(definition.cls):
            role = "the type" if other.type == name else "an alias"
            raise ValueError(
                f"{name!r} is {role} of {_origin(other.cls)} already and cannot name {_origin(definition.cls)} too. "
                "Choose another type name for one of them."
            )
        if name in self._retired:
            raise ValueError(
                f"{name!r} is retired and cannot name {_origin(definition.cls)}. Remove the retire({name!r}), or choose "
                "another type name."
            )

    def _forget(self, earlier: EventDefinition, *, unlike: EventDefinition) -> None:
        if earlier.cls is not unlike.cls:
            self._by_class.pop(earlier.cls, None)
        for name in set(earlier.names) - set(unlike.names):
            del self._by_type[name]


def origin_of(function: Callable[..., object]) -> str:
    """Where a function is declared, for messages and to know it again."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}.{name}"


def _origin(cls: type[object]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


registry = EventRegistry()
"""The registry that ``@event`` fills."""


def selects(patterns: Collection[str], type: str) -> bool:
    """Whether any of the valid patterns selects events stored under this type name.

    An event that was renamed is selected by each of its names, so a rename takes no events from anybody: who asks for
    the new name gets the old entries too, and who still asks for the old name gets the new ones.
    """
    for name in registry.names(type):
        for (
            pattern
        ) in patterns:  # plain loops: this runs for each handler and event, and a generator costs twice as much
            if matches(pattern, name):
                return True
    return False
