"""What changed between an earlier catalogue and the code, and what of it breaks a reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .catalogue import FORMAT, Catalogue
from .readability import unreadable

__all__ = ["Change", "changes_since"]

_Event = Mapping[str, Any]
_KEYS: dict[str, type] = {"version": int, "aliases": list, "upcasters": list, "schema": dict}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. ``breaks``: somebody can no longer read what is stored, or what is recorded from now on."""

    type: str
    breaks: bool
    message: str

    def __str__(self) -> str:
        return f"{'breaking' if self.breaks else 'changed'}: {self.type}: {self.message}"


def changes_since(earlier: object, now: Catalogue) -> list[Change]:
    """The changes from an earlier catalogue's document, breaking ones first, each with what to do.

    Backward: whatever the earlier code stored, this code must read, by itself or through upcasters. Forward: whatever this
    code records under a version that was there before, its readers must still read; a higher version tells them that
    the form is another one. Raises ValueError for what is no catalogue.
    """
    before = _events(earlier)
    after = now.document()["events"]
    homes = {name: home for home, event in after.items() for name in (home, *event["aliases"])}
    found = [
        change
        for earlier_type, event in before.items()
        for change in _of_event(earlier_type, event, homes=homes, after=after, retired=now.retired)
    ]
    known = {name for earlier_type, event in before.items() for name in (earlier_type, *event["aliases"])}
    found += [
        _harmless(new_type, "is new.") for new_type, event in after.items() if not known & {new_type, *event["aliases"]}
    ]
    return sorted(found, key=lambda change: (not change.breaks, change.type))


def _of_event(
    type: str, event: _Event, *, homes: Mapping[str, str], after: Mapping[str, _Event], retired: Mapping[str, str]
) -> Iterator[Change]:
    home = homes.get(type)
    for alias in event["aliases"]:
        if homes.get(alias) != home and not (home is None or alias in retired):
            yield _breaking(
                type, f"the alias {alias!r} is gone, and events stored under it are not read as this event. Keep it."
            )
    if home is None:
        if type in retired:
            yield _harmless(type, "was retired.")
        else:
            yield _breaking(
                type,
                "was removed. Name it in the aliases of the class that takes its place, or declare it by retire(...).",
            )
        return
    if home != type:
        yield _harmless(type, f"was renamed to {home!r}; new events are stored under that name.")
    yield from _of_forms(type, event, after[home])


def _of_forms(type: str, event: _Event, now: _Event) -> Iterator[Change]:
    earlier, version = event["version"], now["version"]
    if version < earlier:
        yield _breaking(
            type, f"version {earlier} was lowered to {version}, and what is stored as {earlier} is refused."
        )
        return
    if version > earlier:
        yield _harmless(type, f"version {earlier} is now {version}.")
    for step in sorted({*event["upcasters"]} - {*now["upcasters"]}):
        yield _breaking(type, f"the upcaster from version {step} is gone, and events of that version are stored.")
    found = list(_of_schemas(type, event, now))
    yield from found
    if version == earlier and not found and event["schema"] != now["schema"]:
        yield _harmless(type, "the schema changed; what is stored and what is recorded can still be read.")


def _of_schemas(type: str, event: _Event, now: _Event) -> Iterator[Change]:
    version = event["version"]
    if version not in now["upcasters"]:
        cure = f"Raise the version and declare @upcast(…, from_version={version})" + (
            "." if version == now["version"] else ", as this class cannot read that version itself."
        )
        for place in unreadable(reader=now["schema"], writer=event["schema"], writes_all=False):
            found = f"stored events hold {place.found}" if place.found else "stored events may lack it"
            yield _breaking(type, f"{place.path}: {found}, and this code reads {place.expected}. {cure}")
    if version == now["version"]:
        for place in unreadable(reader=event["schema"], writer=now["schema"], writes_all=True):
            found = f"this code writes {place.found}" if place.found else "this code does not write it"
            yield _breaking(
                type,
                f"{place.path}: {found}, and readers of version {version} expect {place.expected}. Raise the version.",
            )


def _events(document: object) -> dict[str, _Event]:
    """The events of a document, checked as far as they are looked at."""
    if not isinstance(document, dict) or not isinstance(document.get("events"), dict):
        raise ValueError("It is no catalogue: write one by eventstore_catalogue --format json.")
    if document.get("catalogue") != FORMAT:
        raise ValueError(f"Its format is {document.get('catalogue')!r}, and this release reads {FORMAT}.")
    for name, event in document["events"].items():
        for key, kind in _KEYS.items():
            if not isinstance(event, dict) or not isinstance(event.get(key), kind):
                raise ValueError(f"It is no catalogue: {key!r} of {name!r} is missing or wrong.")
    return dict(document["events"])


def _breaking(type: str, message: str) -> Change:
    return Change(type=type, breaks=True, message=message)


def _harmless(type: str, message: str) -> Change:
    return Change(type=type, breaks=False, message=message)
