"""Which class belongs to which type name."""

from __future__ import annotations

import builtins
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .definition import EventDefinition

__all__ = ["EventRegistry", "registry"]


class EventRegistry:
    """The declared events, one class a type and one type a class. Filled at import time, read from any thread."""

    def __init__(self) -> None:
        self._by_type: dict[str, EventDefinition] = {}
        self._by_class: dict[builtins.type[object], EventDefinition] = {}
        self._lock = Lock()

    def register(self, definition: EventDefinition) -> None:
        """Add a definition. ValueError if its type belongs to another class, or its class to another type.

        A class of the same module and qualified name replaces the earlier one: its module was imported again.
        """
        with self._lock:
            other = self._by_type.get(definition.type)
            if other is not None and _origin(other.cls) != _origin(definition.cls):
                raise ValueError(
                    f"{definition.type!r} is the type of {_origin(other.cls)} already and cannot name "
                    f"{_origin(definition.cls)} too. Choose another type name for one of them."
                )
            same = self._by_class.get(definition.cls)
            if same is not None and same.type != definition.type:
                raise ValueError(
                    f"{_origin(definition.cls)} is declared as {same.type!r} already and cannot be {definition.type!r} "
                    "too. Keep one @event on the class; a second type needs a class of its own."
                )
            if other is not None:
                self._by_class.pop(other.cls, None)
            self._by_type[definition.type] = definition
            self._by_class[definition.cls] = definition

    def by_type(self, type: str) -> EventDefinition | None:
        """The definition of this type name, or None."""
        return self._by_type.get(type)

    def by_class(self, cls: builtins.type[object]) -> EventDefinition | None:
        """The definition of exactly this class, or None: a subclass of an event class is no event unless declared."""
        return self._by_class.get(cls)

    def definitions(self) -> tuple[EventDefinition, ...]:
        """All definitions, by type name."""
        return tuple(sorted(self._by_type.values(), key=lambda definition: definition.type))


def _origin(cls: type[object]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


registry = EventRegistry()
"""The registry that ``@event`` fills."""
