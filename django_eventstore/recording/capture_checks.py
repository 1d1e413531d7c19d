"""System checks of what is captured."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.core.exceptions import FieldDoesNotExist
from django.db import models, router

from ..models import EventEntry
from .captures import Capture, captures
from .deletions import descendants
from .querysets import CapturingQuerySet

__all__ = ["check_captures"]


def check_captures(**kwargs: object) -> list[CheckMessage]:
    """Builders and names of fields that cannot do, models whose events would go astray, and holes."""
    found: list[CheckMessage] = []
    for capture in captures:
        found += _builders(capture)
        found += _fields(capture)
        for model in _concrete(capture.model):
            found += _database(model)
            found += _queryset(model, capture)
    return list({(message.id, message.obj, message.msg): message for message in found}.values())


def _concrete(model: type[models.Model]) -> Iterator[type[models.Model]]:
    return (
        cls
        for cls in descendants(model)
        if not cls._meta.abstract and not cls._meta.swapped and (cls is model or not cls._meta.proxy)
    )


def _builders(capture: Capture) -> Iterator[CheckMessage]:
    for name, builder in (("created", capture.created), ("updated", capture.updated), ("deleted", capture.deleted)):
        if builder is not None and builder.problem is not None:
            yield Error(
                f"capture(): {name}={builder} {builder.problem}.",
                hint="A builder is a function that takes (instance) or (instance, changes) and returns an event.",
                obj=capture.model,
                id="django_eventstore.E111",
            )


def _fields(capture: Capture) -> Iterator[CheckMessage]:
    for name in capture.fields or ():
        try:
            field = capture.model._meta.get_field(name)
        except FieldDoesNotExist:
            problem = "there is no such field"
        else:
            if isinstance(field, models.ManyToManyField) or getattr(field, "concrete", False):
                continue
            problem = "it is no column and no many-to-many field of this model"
        yield Error(
            f"capture(): fields names {name!r}: {problem}.",
            hint="Name fields that this model declares; what refers to it is captured on the model that has the column.",
            obj=capture.model,
            id="django_eventstore.E112",
        )


def _database(model: type[models.Model]) -> Iterator[CheckMessage]:
    alias = router.db_for_write(model)
    home = router.db_for_write(EventEntry)
    if not router.allow_migrate_model(alias, EventEntry):
        yield Error(
            f"The model is captured and written to {alias!r}, where the routers do not migrate the event store: its events "
            "cannot be recorded in the same transaction.",
            hint=f"Let allow_migrate() of the routers allow django_eventstore on {alias!r}, or write the model to {home!r}.",
            obj=model,
            id="django_eventstore.E110",
        )
    elif alias != home:
        yield Warning(
            f"The model is captured and written to {alias!r}, which has a log of its own; forwarding and the API read that "
            f"of {home!r}.",
            hint=f"Run eventstore_forward --database {alias} too, or let the routers write EventEntry to {alias!r}.",
            obj=model,
            id="django_eventstore.W110",
        )


def _queryset(model: type[models.Model], capture: Capture) -> Iterator[CheckMessage]:
    if capture.created is None and capture.updated is None:
        return
    if not isinstance(model._default_manager.get_queryset(), CapturingQuerySet):
        yield Warning(
            "The model is captured, and its default manager does not record: bulk_create(), bulk_update() and update() "
            "change it without an event.",
            hint="Use objects = CapturingQuerySet.as_manager(), or silence this where nothing changes it in bulk.",
            obj=model,
            id="django_eventstore.W111",
        )
