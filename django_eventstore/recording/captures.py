"""What capture() declares: which models tell what, and how their events are built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

from django.db import models

from ..store.streams import stream_name

__all__ = ["Builder", "Capture", "Captures", "Change", "Changes", "Kind", "Subject", "captures"]

Kind = Literal["created", "updated", "deleted"]
"""What can happen to an instance."""


class Change(NamedTuple):
    """The value of a field in the database before and after. What was not there is None.

    Of a many-to-many field: the keys that went, and the keys that came.
    """

    before: Any
    after: Any

    @property
    def removed(self) -> tuple[Any, ...]:
        """Of a many-to-many field: the keys that went."""
        return tuple(self.before)

    @property
    def added(self) -> tuple[Any, ...]:
        """Of a many-to-many field: the keys that came."""
        return tuple(self.after)


Changes: TypeAlias = Mapping[str, Change]


@dataclass(frozen=True)
class Builder:
    """A function of the project that makes events of a change."""

    function: Callable[..., object]

    @cached_property
    def takes_changes(self) -> bool:
        """Whether it is called with ``(instance, changes)``."""
        found = [p for p in _parameters(self.function) or () if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return len(found) > 1 and (found[1].default is inspect.Parameter.empty or found[1].name == "changes")

    @property
    def problem(self) -> str | None:
        """Why it cannot be called with an instance, or None."""
        if isinstance(self.function, type):
            return f"is the class {self.function.__qualname__}; pass a function that makes an instance of it"
        if inspect.iscoroutinefunction(self.function):
            return "is async; events are built inside the transaction of the change, which is synchronous"
        parameters = _parameters(self.function)
        if parameters is None:
            return None
        required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        positional = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        if not positional or len(required) > 2 or any(p.kind == p.KEYWORD_ONLY for p in required):
            return f"takes {inspect.signature(self.function)}"
        return None

    def __str__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter] | None:
    """None for one of those written in C that tell nothing."""
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What was declared for one model. ``fields``: the names whose changes count; None for all concrete fields."""

    model: type[models.Model]
    created: Builder | None = None
    updated: Builder | None = None
    deleted: Builder | None = None
    fields: tuple[str, ...] | None = None

    def builder(self, kind: Kind) -> Builder | None:
        """The builder for this kind of change."""
        found: Builder | None = getattr(self, kind)
        return found

    def joined(self, other: Capture) -> Capture:
        """Both in one. ValueError where they contradict each other."""
        values: dict[str, Any] = {}
        for name in ("created", "updated", "deleted", "fields"):
            mine, theirs = getattr(self, name), getattr(other, name)
            # The fields belong to the declaration that says what follows from them.
            both = (self.updated and other.updated) if name == "fields" else (mine is not None and theirs is not None)
            if both and mine != theirs:
                raise ValueError(
                    f"{self.model._meta.label} is captured twice with another {name}= ({_shown(mine)} and {_shown(theirs)}): "
                    "declare each kind of change once; one builder may return several events."
                )
            values[name] = theirs if mine is None else mine
        return Capture(model=self.model, **values)


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Builder) else repr(value)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a captured event is about: the model that names the stream and whose fields are compared.

    It is the model of the declaration, or where that is abstract the first model of the instance's line that is not: an
    event that a parent declares is about the parent, whichever child was saved.
    """

    capture: Capture
    builder: Builder
    model: type[models.Model]

    @cached_property
    def fields(self) -> tuple[models.Field[Any, Any], ...]:
        """The columns that count. The key is never among them: it does not change, another one is another row."""
        opts = self.model._meta
        named = self.capture.fields
        if named is None:
            found = [field for field in opts.concrete_fields if not getattr(field, "generated", False)]
        else:
            found = [
                field for field in map(opts.get_field, named) if isinstance(field, models.Field) and field.concrete
            ]
        return tuple(field for field in found if field not in self.keys and not field.many_to_many)

    @cached_property
    def keys(self) -> frozenset[models.Field[Any, Any]]:
        """The columns of the primary key, in every table of the model."""
        opts = self.model._meta
        own = {*opts.pk_fields, *(link for link in opts.parents.values() if link)}
        return frozenset(own.union(*(parent._meta.pk_fields for parent in opts.all_parents)))

    @cached_property
    def many_to_many(self) -> tuple[models.ManyToManyField[Any, Any], ...]:
        """The many-to-many fields that count: the named ones."""
        named = self.capture.fields or ()
        return tuple(field for field in self.model._meta.many_to_many if field.name in named)

    def may_change(self, written: Collection[str] | None) -> bool:
        """Whether a field that counts can change when these are written, by their names; None stands for all."""
        if written is None or any(getattr(field, "generated", False) for field in self.fields):
            return True
        return any(field.name in written or field.attname in written for field in self.fields)

    def is_own(self, model: type[models.Model]) -> bool:
        """Whether the model has the subject's table as its own, and not as that of a parent."""
        return model._meta.concrete_model is self.model._meta.concrete_model

    def key_of(self, instance: models.Model) -> Any:
        """The primary key of the subject, also for an instance of a child; None while it has none."""
        key = instance._get_pk_val(self.model._meta)
        if key is not None and not (isinstance(key, tuple) and None in key):
            return key
        # A child that is made for an existing parent: Django copies the key when it saves.
        link = None if self.is_own(type(instance)) else instance._meta.get_ancestor_link(self.model)
        return getattr(instance, link.attname) if link else None

    def stream_of(self, instance: models.Model) -> str:
        """The stream of the instance."""
        if self.is_own(type(instance)):
            return stream_name(instance)
        return stream_name(self.model(pk=self.key_of(instance)))


def _models_of(model: type[models.Model]) -> list[type[models.Model]]:
    """The class and the models it inherits from, the nearest first."""
    return [cls for cls in model.__mro__ if issubclass(cls, models.Model) and cls is not models.Model]


class Captures:
    """The captured models."""

    def __init__(self) -> None:
        self._declared: dict[type[models.Model], Capture] = {}
        self._found: dict[tuple[type[models.Model], Kind], Subject | None] = {}

    def declare(self, capture: Capture) -> None:
        """Add to what is declared for the model; a repetition changes nothing. ValueError for a contradiction."""
        known = self._declared.get(capture.model)
        self._declared[capture.model] = known.joined(capture) if known else capture
        self._found.clear()

    def __iter__(self) -> Iterator[Capture]:
        return iter(list(self._declared.values()))

    def find(self, model: type[models.Model], kind: Kind) -> Subject | None:
        """Who tells of such a change of an instance of this class: the nearest class of its MRO that declares it.

        For ``deleted`` only among the classes of one table: Django deletes a child and its parents row by row, and the
        parent is asked for its own.
        """
        key = (model, kind)
        if key not in self._found:
            self._found[key] = self._search(model, kind)
        return self._found[key]

    def _search(self, model: type[models.Model], kind: Kind) -> Subject | None:
        for cls in _models_of(model):
            capture = self._declared.get(cls)
            builder = capture.builder(kind) if capture else None
            if capture is None or builder is None or model._meta.abstract:
                continue
            line = [base for base in _models_of(model) if issubclass(base, cls) and not base._meta.abstract]
            subject = Subject(capture=capture, builder=builder, model=line[-1])
            if kind == "deleted" and not subject.is_own(model):
                return None
            return subject
        return None


captures = Captures()
"""The declarations that capture() makes."""
