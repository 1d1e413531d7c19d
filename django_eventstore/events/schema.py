"""The JSON Schema of an event's payload: what the codec writes for the class of today, and reads back."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Flag
from typing import Any, Literal, TypeAlias

import msgspec
import msgspec.inspect as mi

from .definition import EventDefinition
from .values import ValueRefused, to_plain

__all__ = ["Dialect", "Schema", "json_schema", "schema_components", "summary_of"]

Schema: TypeAlias = dict[str, Any]
Dialect = Literal["2020-12", "draft-07"]

DIALECT_2020 = "https://json-schema.org/draft/2020-12/schema"

# Patterns are exact where formats are not: "date-time" admits any offset, "duration" neither a sign nor a fraction.
_TEXTS: dict[type[mi.Type], Schema] = {
    mi.DateTimeType: {
        "format": "date-time",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$",
    },
    mi.DateType: {"format": "date"},
    mi.TimeType: {"pattern": r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$"},
    mi.TimeDeltaType: {
        "description": "ISO 8601 duration of days and seconds",
        "pattern": r"^-?P(?=.)([0-9]+D)?(T[0-9]+(\.[0-9]{1,6})?S)?$",
    },
    mi.UUIDType: {"format": "uuid"},
    mi.DecimalType: {"format": "decimal", "pattern": r"^-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?$"},
}
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def json_schema(definition: EventDefinition) -> Schema:
    """A JSON Schema (2020-12) of the payloads of the definition's version; complete in itself.

    Guarantee: what ``encode`` writes for the class is valid. Required is what has no default: events recorded before such
    a field was added are valid too. Unknown fields are allowed, as they are when an event is read.
    """
    schema, components = schema_components(
        definition, reference=lambda name: f"#/$defs/{name}" if name else "#", dialect="2020-12"
    )
    document = {"$schema": DIALECT_2020, **schema}
    if components:
        document["$defs"] = components
    return document


def schema_components(
    definition: EventDefinition, *, reference: Callable[[str], str], dialect: Dialect
) -> tuple[Schema, dict[str, Schema]]:
    """The schema of the payload, and those of the classes it holds by a name that only depends on this event.

    ``reference`` makes the ``$ref`` to such a name; to the payload itself for ``""``, in a class that holds itself.
    """
    root = mi.type_info(definition.cls)
    classes = list(_named_types(root, seen={}))
    writer = _Writer(names=_names(classes, definition.cls), reference=reference, dialect=dialect)
    components = {writer.names[_class_of(each)]: writer.definition(each) for each in classes[1:]}
    return writer.definition(root), dict(sorted(components.items()))


def summary_of(cls: object) -> str:
    """The first paragraph of a class's own docstring, on one line; empty when it has none."""
    return " ".join(_doc(cls).partition("\n\n")[0].split())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    names: dict[object, str]
    reference: Callable[[str], str]
    dialect: Dialect
    simple: dict[type[mi.Type], Callable[[Any], Schema]] = field(init=False)

    def __post_init__(self) -> None:
        writers: dict[type[mi.Type], Callable[[Any], Schema]] = {
            mi.NoneType: lambda kind: {"type": "null"},
            mi.BoolType: lambda kind: {"type": "boolean"},
            mi.IntType: lambda kind: {"type": "integer", **_bounds(kind)},
            mi.FloatType: lambda kind: {"type": "number", **_bounds(kind)},
            mi.StrType: _string,
            mi.ListType: self.array,
            mi.VarTupleType: self.array,
            mi.TupleType: lambda kind: self.tuple(kind.item_types),
            mi.DictType: self.mapping,
            mi.UnionType: self.union,
            mi.LiteralType: lambda kind: {"enum": _sorted(kind.values)},
        }
        object.__setattr__(self, "simple", writers)

    def schema(self, kind: mi.Type) -> Schema:
        """The schema of a value; a reference for a named class, and ``{}``, which is true of anything, for the rest."""
        if isinstance(kind, mi.Metadata):
            return {**self.schema(kind.type), **(kind.extra_json_schema or {})}
        if (name := self.names.get(_class_of(kind))) is not None:
            return {"$ref": self.reference(name)}
        if (text := _TEXTS.get(type(kind))) is not None:
            return {"type": "string", **text}
        write = self.simple.get(type(kind))
        return {} if write is None else write(kind)

    def definition(self, kind: mi.Type) -> Schema:
        """The schema of a named class."""
        cls = _class_of(kind)
        schema: Schema = {"title": _title(cls)}
        if doc := _doc(cls):
            schema["description"] = doc
        if isinstance(kind, mi.EnumType):
            if issubclass(kind.cls, Flag):  # members can be joined, and are then none of the list
                return {**schema, "type": "integer"}
            return {**schema, "enum": _sorted(_json_value(member.value) for member in kind.cls)}
        if isinstance(kind, mi.NamedTupleType):
            return {**schema, **self.tuple([each.type for each in kind.fields])}
        assert isinstance(kind, (mi.DataclassType, mi.TypedDictType))  # noqa: S101 - all that _named_types yields
        return {**schema, **self.object(kind.fields)}

    def object(self, fields: Iterable[mi.Field]) -> Schema:
        properties: Schema = {}
        required = []
        for each in fields:
            properties[each.encode_name] = {**self.schema(each.type), **_default(each)}
            if each.required:
                required.append(each.encode_name)
        return {"type": "object", "properties": properties, "required": required}

    def array(self, kind: mi.CollectionType) -> Schema:
        return {"type": "array", "items": self.schema(kind.item_type), **_lengths(kind, "Items")}

    def tuple(self, items: Iterable[mi.Type]) -> Schema:
        schemas = [self.schema(item) for item in items]
        # draft-07 wants at least one schema in the list.
        rest: Schema = {"items": False} if self.dialect == "2020-12" or not schemas else {"additionalItems": False}
        listed: Schema = {"prefixItems" if self.dialect == "2020-12" else "items": schemas} if schemas else {}
        return {"type": "array", "minItems": len(schemas), "maxItems": len(schemas), **listed, **rest}

    def mapping(self, kind: mi.DictType) -> Schema:
        names = self.schema(kind.key_type)
        # A key is text anyway; only what a key may be beyond that is worth a word.
        limits: Schema = {} if names in ({}, {"type": "string"}) else {"propertyNames": names}
        return {
            "type": "object",
            **limits,
            "additionalProperties": self.schema(kind.value_type),
            **_lengths(kind, "Properties"),
        }

    def union(self, kind: mi.UnionType) -> Schema:
        # None last, wherever it was written. No two options are the same: msgspec refuses two types of one kind of JSON.
        return {"anyOf": [self.schema(each) for each in sorted(kind.types, key=lambda it: isinstance(it, mi.NoneType))]}


def _string(kind: mi.StrType) -> Schema:
    pattern: Schema = {} if kind.pattern is None else {"pattern": kind.pattern}
    return {"type": "string", **pattern, **_lengths(kind, "Length")}


def _bounds(kind: mi.Type) -> Schema:
    return {word: bound for name, word in _BOUNDS.items() if (bound := getattr(kind, name)) is not None}


def _lengths(kind: mi.Type, what: str) -> Schema:
    given = {f"min{what}": getattr(kind, "min_length", None), f"max{what}": getattr(kind, "max_length", None)}
    return {word: length for word, length in given.items() if length is not None}


def _default(each: mi.Field) -> Schema:
    """The default of a field if the schema can tell it: what a factory makes may differ each time."""
    value = each.default
    if value is msgspec.NODEFAULT and each.default_factory in (list, dict, tuple):
        value = each.default_factory()
    if value is msgspec.NODEFAULT:
        return {}
    try:
        return {"default": _json_value(value)}
    except ValueRefused:
        return {}


def _json_value(value: object) -> object:
    return msgspec.json.decode(msgspec.json.encode(to_plain(value)))


def _sorted(values: Iterable[Any]) -> list[object]:
    """In an order that does not depend on that of the members: by type, then by value; there is one None at most."""
    return sorted(values, key=lambda value: (type(value).__name__, () if value is None else value))


def _named_types(kind: mi.Type, *, seen: dict[object, mi.Type]) -> Iterator[mi.Type]:
    """The classes in a type that get a name, each once, the outermost first."""
    children: Iterable[mi.Type] = ()
    if isinstance(kind, (mi.DataclassType, mi.NamedTupleType, mi.TypedDictType, mi.EnumType)):
        if kind.cls in seen:
            return
        seen[kind.cls] = kind
        yield kind
        children = () if isinstance(kind, mi.EnumType) else [each.type for each in kind.fields]
    elif isinstance(kind, mi.Metadata):
        children = [kind.type]
    elif isinstance(kind, mi.CollectionType):
        children = [kind.item_type]
    elif isinstance(kind, mi.TupleType):
        children = kind.item_types
    elif isinstance(kind, mi.DictType):
        children = [kind.key_type, kind.value_type]
    elif isinstance(kind, mi.UnionType):
        children = kind.types
    for child in children:
        yield from _named_types(child, seen=seen)


def _names(kinds: Iterable[mi.Type], root: type) -> dict[object, str]:
    """Names by class: the class's own, or with its module where two have the same; ``""`` for the event itself."""
    classes = [_class_of(kind) for kind in kinds]
    short = Counter(_title(cls) for cls in classes if cls is not root)
    names = {cls: _title(cls) if short[_title(cls)] == 1 else _full_name(cls) for cls in classes}
    return {cls: "" if cls is root else re.sub(r"[^A-Za-z0-9._-]", "_", name) for cls, name in names.items()}


def _class_of(kind: mi.Type) -> Any:
    return getattr(kind, "cls", None)


def _title(cls: Any) -> str:
    """The name of a class; with its arguments for a generic one, ``Box[int]``."""
    arguments = ", ".join(getattr(each, "__name__", None) or repr(each) for each in getattr(cls, "__args__", ()))
    return f"{_unparametrised(cls).__name__}[{arguments}]" if arguments else str(cls.__name__)


def _full_name(cls: Any) -> str:
    return (
        f"{cls.__module__}.{_unparametrised(cls).__qualname__}{_title(cls).removeprefix(_unparametrised(cls).__name__)}"
    )


def _unparametrised(cls: Any) -> Any:
    return getattr(cls, "__origin__", cls)


def _doc(cls: Any) -> str:
    """A class's own docstring, without those that Python writes: they hold defaults, and so addresses."""
    plain = _unparametrised(cls)
    doc = inspect.cleandoc(vars(plain).get("__doc__") or "")
    written_by_python = doc.startswith(f"{plain.__name__}(") and doc.endswith(")")
    return "" if written_by_python or doc == "An enumeration." else doc
