"""Events to JSON text and back. What is written can be read; what could not be is refused before it is stored.

The text is compact JSON in UTF-8: times in UTC with ``Z`` and microseconds, Decimals as strings, an Enum as its value.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from ..exceptions import EventDecodingError, EventEncodingError, UnknownEventType
from .patterns import TYPE_NAME_RULE, is_type_name
from .registry import registry
from .shapes import AS_DECLARED, LOOK_CLOSER, Check, check_for, examine
from .upcasting import upcast_payload
from .values import Path, Plain, ValueRefused, path_text, to_plain

if TYPE_CHECKING:
    from .definition import EventDefinition

__all__ = [
    "annotation_error",
    "decode",
    "decode_event",
    "decode_mapping",
    "decode_present",
    "encode",
    "encode_mapping",
    "encode_metadata",
]

_ENCODER = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical")
_OBJECT_DECODER: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])
# By class of definition, and never emptied: they are declared at import and live as long as the process.
_CODECS: dict[type, tuple[msgspec.json.Decoder[object], Check]] = {}
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeEncodeError)


def encode(event: object, *, max_bytes: int) -> str:
    """The payload of an instance of an ``@event`` class. ``max_bytes`` bounds its length in UTF-8.

    Guarantee: ``decode`` reads the text, with the same definition. EventEncodingError names the field that cannot be
    stored or that does not fit its annotation, and what to do; the event is never changed.
    """
    definition = registry.by_class(type(event))
    if definition is None:
        raise EventEncodingError(
            type=type(event).__qualname__,
            field="",
            reason="not an instance of an event class. Declare its class with @event(...) above "
            "@dataclass(frozen=True); a subclass of an event class needs its own",
        )
    decoder, check = _CODECS.get(definition.cls) or _encoding_codec(definition)
    verdict = check(event, 0)
    data = None if verdict == LOOK_CLOSER else _write(event)
    if data is None:
        data = _ENCODER.encode(_plain(event, type=definition.type))
    if verdict != AS_DECLARED:
        _require_readable(data, decoder, type=definition.type)
    if len(data) > max_bytes:
        raise _too_large(event, len(data), type=definition.type, max_bytes=max_bytes)
    return data.decode()


def encode_mapping(type: str, payload: Mapping[str, object], *, max_bytes: int) -> str:
    """The payload of an event that has no class: a JSON object. Errors as in ``encode``, and for a bad type."""
    if not is_type_name(type):
        raise EventEncodingError(type=ascii(type), field="", reason=TYPE_NAME_RULE)
    return _encode_object(payload, type=type, max_bytes=max_bytes, path=())


def encode_metadata(metadata: Mapping[str, object] | None, *, type: str, max_bytes: int) -> str:
    """The metadata of an event of this type: a JSON object, ``{}`` for None. Errors name the field ``metadata.…``."""
    if metadata is None:
        return "{}"
    return _encode_object(metadata, type=type, max_bytes=max_bytes, path=("metadata",))


def decode(definition: EventDefinition, version: int, text: str) -> object:
    """The event in a stored payload, as an instance of the definition's class, types checked strictly.

    A payload of an earlier version goes through the upcasters of its type first; a type without any is read as it is.
    Guarantee: it holds only what ``encode`` would store, so datetimes are aware, whoever inserted the row. Fields that
    the class does not have are ignored. EventDecodingError names the type, the version and the field; an exception
    other than ValueError and TypeError of the class's own ``__post_init__`` is passed on.
    """
    if version != definition.version:
        text = _present_text(definition, version, text)
    try:
        decoder, check = _CODECS.get(definition.cls) or _make_codec(definition.cls)
        event = decoder.decode(text)
    except _AnnotationError as exc:
        raise EventDecodingError(type=definition.type, version=version, reason=str(exc)) from exc
    except _UNREADABLE as exc:
        raise EventDecodingError(type=definition.type, version=version, reason=_decoding_reason(exc)) from exc
    if not check(event, 0) or ("\\" in text and "\\u0000" in text):
        try:
            to_plain(event)
        except ValueRefused as exc:
            raise EventDecodingError(type=definition.type, version=version, reason=str(exc)) from exc
    return event


def decode_mapping(text: str, *, type: str = "(type not given)", version: int = 1) -> dict[str, object]:
    """The JSON object in a stored payload or metadata, as plain values. ``type`` and ``version`` are for the error."""
    try:
        return _OBJECT_DECODER.decode(text)
    except _UNREADABLE as exc:
        raise EventDecodingError(type=type, version=version, reason=_decoding_reason(exc)) from exc


def decode_event(type: str, version: int, text: str) -> object:
    """The event in a stored payload, as an instance of the class that has this type name or alias.

    Raises UnknownEventType when there is none, and what ``decode`` raises.
    """
    definition = registry.by_type(type)
    if definition is None:
        raise UnknownEventType(type)
    return decode(definition, version, text)


def decode_present(type: str, version: int, text: str) -> dict[str, object]:
    """The JSON object in a stored payload, as plain values, in the form of the version that is declared today.

    A payload of a type without a class is returned as it is stored. Errors as in ``decode``, save for what only the class
    would refuse.
    """
    definition = registry.by_type(type)
    if definition is not None and version != definition.version:
        text = _present_text(definition, version, text)
    return decode_mapping(text, type=type, version=version)


def annotation_error(definition: EventDefinition) -> str | None:
    """Why events of this class could not be read back, or None; for a check at start, before an event meets it.

    Call it when all modules are imported: annotations may name classes that are declared later.
    """
    try:
        _make_codec(definition.cls)
    except _AnnotationError as exc:
        return str(exc)
    return None


class _AnnotationError(Exception):
    """The annotations of a class do not say how to read it."""


def _make_codec(cls: type) -> tuple[msgspec.json.Decoder[object], Check]:
    try:
        decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(cls)
    except Exception as exc:  # resolving annotations runs the user's code, which may raise anything
        raise _AnnotationError(
            f"the annotations of {cls.__module__}.{cls.__qualname__} cannot be read back, change them: "
            f"{type(exc).__name__}: {exc}"
        ) from exc
    codec = _CODECS[cls] = decoder, check_for(cls)
    return codec


def _present_text(definition: EventDefinition, version: int, text: str) -> str:
    """The payload of another version in the form of the present one, as the encoder would write it."""
    if version < definition.version and not registry.upcasters(definition):
        return text
    payload = decode_mapping(text, type=definition.type, version=version)
    present = upcast_payload(definition, version, payload)
    try:
        return _ENCODER.encode(to_plain(present)).decode()
    except ValueRefused as exc:
        raise EventDecodingError(
            type=definition.type,
            version=version,
            reason=f"the upcasters to version {definition.version} return what cannot be stored: {exc}",
        ) from exc


def _encoding_codec(definition: EventDefinition) -> tuple[msgspec.json.Decoder[object], Check]:
    try:
        return _make_codec(definition.cls)
    except _AnnotationError as exc:
        raise EventEncodingError(type=definition.type, field="", reason=str(exc)) from exc


def _write(value: object) -> bytes | None:
    """The JSON of a value that was examined; None if its text may hold NUL or a lone surrogate."""
    try:
        data = _ENCODER.encode(value)
    except UnicodeEncodeError:
        return None
    # One byte is searched much faster than six, and most payloads escape nothing.
    return None if b"\\" in data and b"\\u0000" in data else data


def _plain(value: object, *, type: str, path: Path = ()) -> Plain:
    try:
        return to_plain(value, path)
    except ValueRefused as exc:
        raise EventEncodingError(type=type, field=path_text(exc.path), reason=exc.reason) from exc.__cause__


def _encode_object(value: object, *, type: str, max_bytes: int, path: Path) -> str:
    if not isinstance(value, Mapping):
        raise EventEncodingError(
            type=type,
            field=path_text(path),
            reason=f"must be a mapping with str keys, like a dict, and is {builtins.type(value).__qualname__}",
        )
    data = None if examine(value, len(path)) == LOOK_CLOSER else _write(value)
    if data is None:
        data = _ENCODER.encode(_plain(value, type=type, path=path))
    if len(data) > max_bytes:
        raise _too_large(value, len(data), type=type, max_bytes=max_bytes, path=path)
    return data.decode()


def _require_readable(data: bytes, decoder: msgspec.json.Decoder[object], *, type: str) -> None:
    """Refuse now what a handler could not read later: a value that does not fit its annotation."""
    try:
        decoder.decode(data)
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).rpartition(" - at `$")
        field = where.removesuffix("`").removeprefix(".") if problem else ""
        reason = f"the value does not fit the class: {problem or exc}. Change the value or the annotation"
        raise EventEncodingError(type=type, field=field, reason=reason) from exc


def _decoding_reason(exc: Exception) -> str:
    if isinstance(exc, RecursionError):
        return "the JSON is nested too deep"
    if isinstance(exc, UnicodeEncodeError):
        return "the text holds a lone surrogate and is no JSON"
    return f"{exc}"


def _too_large(value: object, size: int, *, type: str, max_bytes: int, path: Path = ()) -> EventEncodingError:
    plain = _plain(value, type=type, path=path)
    sizes = {name: len(_ENCODER.encode(item)) for name, item in plain.items()} if isinstance(plain, dict) else {}
    largest = max(sizes, key=sizes.__getitem__, default=None)
    reason = f"{size} bytes of JSON, more than the limit of {max_bytes}"
    if largest is not None:
        path = (*path, largest)
        reason += f"; the largest field, {path_text(path)}, has {sizes[largest]}"
    return EventEncodingError(
        type=type,
        field=path_text(path),
        reason=f"{reason}. Store large content elsewhere and record where it is, or raise the limit",
    )
