"""``@upcast``: reads the payloads that were stored before an event's form changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from ..exceptions import EventDecodingError
from .patterns import TYPE_NAME_RULE, is_type_name
from .registry import Upcaster, origin_of, registry

if TYPE_CHECKING:
    from .definition import EventDefinition

__all__ = ["missing_steps", "needless_upcasters", "upcast", "upcast_payload"]

U = TypeVar("U", bound=Upcaster)


def upcast(type: str, *, from_version: int) -> Callable[[U], U]:
    """Declare a function that turns a payload of ``from_version`` into one of the next version.

    It takes and returns the payload as plain values, a dict as in the JSON, and may change the dict it was given. It runs
    whenever such an event is read, so it must be quick and depend on nothing but the payload. A type has either no upcaster,
    and then its class reads earlier versions as they are stored, with defaults for what is missing, or one from each
    version below its own. Raises ValueError at import for a bad name or version, and for a second function.
    """
    if not is_type_name(type):
        raise ValueError(f"@upcast: {type!r} is no type name; {TYPE_NAME_RULE}.")
    if not isinstance(from_version, int) or isinstance(from_version, bool) or from_version < 1:
        raise ValueError(f"@upcast({type!r}): from_version {from_version!r} is no whole number from 1 up.")

    def declare(function: U) -> U:
        registry.register_upcaster(type, from_version, function)
        return function

    return declare


def upcast_payload(definition: EventDefinition, version: int, payload: dict[str, object]) -> dict[str, object]:
    """The payload in the form of the definition's version; the upcasters may change the one that is given.

    Raises EventDecodingError for a version above the definition's, for a step that has no upcaster while others have one,
    and for what an upcaster raises or returns.
    """
    if version > definition.version:
        raise EventDecodingError(
            type=definition.type,
            version=version,
            reason=f"newer than version {definition.version}, which this code declares. Deploy the code that knows it",
        )
    upcasters = registry.upcasters(definition)
    if not upcasters:
        return payload
    for step in range(version, definition.version):
        if step not in upcasters:
            raise EventDecodingError(
                type=definition.type,
                version=version,
                reason=f"there is no upcaster from version {step} to {step + 1}. Declare it with "
                f"@upcast({definition.type!r}, from_version={step})",
            )
        payload = _step(upcasters[step], payload, definition=definition, version=version, step=step)
    return payload


def missing_steps(definition: EventDefinition) -> list[int]:
    """The versions from which the type has no upcaster although it has others."""
    upcasters = registry.upcasters(definition)
    return [step for step in range(1, definition.version) if step not in upcasters] if upcasters else []


def needless_upcasters() -> Iterator[tuple[str, int, str]]:
    """(type name, version it takes, why it never runs) of each upcaster that can have no effect."""
    for name in registry.upcaster_types():
        definition = registry.by_type(name)
        for step in sorted(registry.upcasters_named(name)):
            if definition is None:
                yield name, step, "no class is declared for this type"
            elif step >= definition.version:
                yield name, step, f"the class declares version {definition.version}, so there is no version {step + 1}"
            elif registry.upcasters(definition)[step] is not registry.upcasters_named(name)[step]:
                yield name, step, f"there is another one under the name {definition.type!r}"


def _step(
    upcaster: Upcaster, payload: dict[str, object], *, definition: EventDefinition, version: int, step: int
) -> dict[str, object]:
    where = f"the upcaster from version {step}, {origin_of(upcaster)},"
    try:
        changed: object = upcaster(payload)
    except Exception as exc:  # the project's code may raise anything
        reason = f"{where} raised {type(exc).__name__}: {exc}"
        raise EventDecodingError(type=definition.type, version=version, reason=reason) from exc
    if not isinstance(changed, Mapping):
        reason = f"{where} returned {type(changed).__qualname__} and not the payload as a dict"
        raise EventDecodingError(type=definition.type, version=version, reason=reason)
    return dict(changed)
