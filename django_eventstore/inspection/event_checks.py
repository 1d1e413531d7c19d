"""System checks of the declared events, by themselves and against what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.db import DatabaseError, connections, router
from django.db.models import OuterRef, Subquery

from ..events import annotation_error, missing_steps, needless_upcasters, registry
from ..models import EventEntry, EventType, LogPosition

__all__ = ["check_events", "check_stored_types"]


def check_events(**kwargs: object) -> list[CheckMessage]:
    """Event classes that cannot be read back, and upcasters that are missing or never run."""
    messages: list[CheckMessage] = []
    for definition in registry.definitions():
        if problem := annotation_error(definition):
            messages.append(
                Error(
                    f"Events of type {definition.type!r} cannot be recorded or read: {problem}",
                    hint="Annotate with the types that can be stored; import at run time what the annotations name.",
                    id="django_eventstore.E030",
                )
            )
        if missing := missing_steps(definition):
            steps = ", ".join(map(str, missing))
            messages.append(
                Error(
                    f"{definition.type!r} is at version {definition.version} and has no upcaster from version {steps}.",
                    hint=(
                        f"Declare @upcast({definition.type!r}, from_version={missing[0]}). Where the class of the next "
                        "version reads the payload as it is, the function returns it unchanged."
                    ),
                    id="django_eventstore.E031",
                )
            )
    return [*messages, *_needless()]


def _needless() -> Iterator[CheckMessage]:
    for type_name, step, reason in needless_upcasters():
        yield Error(
            f"The upcaster of {type_name!r} from version {step} never runs: {reason}.",
            hint="Correct the type or from_version of its @upcast, raise the version of the class, or remove it.",
            id="django_eventstore.E032",
        )


def check_stored_types(*, databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    """What the log of each named database holds against what the code declares; one look at the newest event a type.

    The tables of a database without them are not missed: ``migrate`` runs the checks first.
    """
    return [
        message
        for alias in databases or ()
        if router.allow_migrate_model(alias, EventEntry)
        for message in _check(alias)
    ]


def _check(alias: str) -> list[CheckMessage]:
    try:
        tables = {model._meta.db_table for model in (EventEntry, EventType, LogPosition)}
        if not tables <= set(connections[alias].introspection.table_names()):
            return []
        stored = _newest_versions(alias)
    except DatabaseError as error:
        return [
            Warning(
                f"The types stored on {alias!r} could not be compared with the declared ones: {str(error).strip()}",
                hint="Make sure that the server can be reached and that the account may read the log's tables.",
                id="django_eventstore.W032",
            )
        ]
    declared_endings = {_ending(definition.type): definition.type for definition in registry.definitions()}
    return [
        message
        for name, version in stored
        for message in _check_type(name, version, alias=alias, declared_endings=declared_endings)
    ]


def _newest_versions(alias: str) -> list[tuple[str, int | None]]:
    """(type name, version of its newest event). None where all events of the type are gone.

    The entries are looked up afterwards: in one statement with a join, a planner may begin with the entries, all of them.
    """
    newest = LogPosition.objects.filter(type=OuterRef("pk")).order_by("-position").values("entry_id")[:1]
    types = EventType.objects.using(alias).annotate(newest=Subquery(newest)).order_by("name")
    entries = dict(types.values_list("name", "newest"))
    found = EventEntry.objects.using(alias).filter(id__in=[id_ for id_ in entries.values() if id_ is not None])
    versions = dict(found.values_list("id", "version"))
    return [(name, versions.get(entry)) for name, entry in entries.items()]


def _check_type(
    name: str, version: int | None, *, alias: str, declared_endings: dict[str, str]
) -> Iterator[CheckMessage]:
    definition = registry.by_type(name)
    if definition is not None:
        if version is not None and version > definition.version:
            yield Warning(
                f"The newest event of type {name!r} on {alias!r} has version {version}, and this code declares "
                f"{definition.version}: a consumer that wants it stops there.",
                hint="Deploy the code that declares this version; do not lower a version.",
                id="django_eventstore.W030",
            )
        return
    if name in registry.retired():
        return
    # A type may be recorded by its name alone, and then it has version 1. So only what must have had a class is named.
    alike = declared_endings.get(_ending(name))
    if (version or 1) > 1 or alike is not None:
        known = f"{alike!r} is declared" if alike else f"its newest event has version {version}"
        yield Warning(
            f"Events of type {name!r} are stored on {alias!r}, no class has this name or alias, and {known}: it seems to "
            "have been renamed or removed.",
            hint=(
                f"Renamed: add {name!r} to the aliases of its class. Removed, or not of this project: "
                f"django_eventstore.events.retire({name!r})."
            ),
            id="django_eventstore.W031",
        )


def _ending(name: str) -> str:
    return name.rpartition(".")[2]
