"""capture(): events from what happens to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast, overload

from django.db import models
from django.db.models.signals import class_prepared, m2m_changed, post_save, pre_delete

from .captures import Builder, Capture, Kind, captures
from .deletions import descendants, tell_deletion
from .many_to_many import captured_fields, tell_links
from .saves import make_saves_atomic, tell_save

__all__ = ["capture"]

M = TypeVar("M", bound=models.Model)


@overload
def capture(
    model: type[M],
    *,
    created: Callable[..., object] | None = None,
    updated: Callable[..., object] | None = None,
    deleted: Callable[..., object] | None = None,
    fields: Sequence[str] | None = None,
) -> type[M]: ...


@overload
def capture(
    *,
    created: Callable[..., object] | None = None,
    updated: Callable[..., object] | None = None,
    deleted: Callable[..., object] | None = None,
    fields: Sequence[str] | None = None,
) -> Callable[[type[M]], type[M]]: ...


def capture(
    model: type[M] | None = None,
    *,
    created: Callable[..., object] | None = None,
    updated: Callable[..., object] | None = None,
    deleted: Callable[..., object] | None = None,
    fields: Sequence[str] | None = None,
) -> type[M] | Callable[[type[M]], type[M]]:
    """Record events when instances of a model are created, updated and deleted: in the same transaction, on its database.

    As a call, ``capture(Order, created=OrderPlaced.from_model)``, or as a class decorator. A builder takes ``(instance)`` or
    ``(instance, changes)``, where ``changes`` maps the names of fields to their values ``(before, after)`` in the database.
    It returns an event, a list of events, or None when there is nothing to tell. The stream is the instance.

    ``fields``: the fields whose changes call ``updated``, by default all columns; a many-to-many field is named to count.
    A save() that changes none of them calls nothing. An error of a builder undoes the change.

    Proxies and children of the model are captured with it. Raises TypeError and ValueError for what can never work, and
    for a second declaration that contradicts the first.
    """
    if isinstance(fields, str):
        raise TypeError(f"fields is a list of names: fields=[{fields!r}].")
    if fields is not None and updated is None:
        raise ValueError("fields says which changes call updated: pass updated= too.")
    if created is None and updated is None and deleted is None:
        raise ValueError("Say what to capture: created=, updated= or deleted=.")
    builders = {"created": created, "updated": updated, "deleted": deleted}
    for name, function in builders.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name} is a function that makes an event of an instance, and not {function!r}.")

    def declare(model: type[M]) -> type[M]:
        if not (isinstance(model, type) and issubclass(model, models.Model)):
            raise TypeError(f"capture() takes a model class and got {model!r}.")
        names = None if fields is None else tuple(dict.fromkeys(fields))
        made = {name: Builder(function) for name, function in builders.items() if function is not None}
        captures.declare(Capture(model=model, fields=names, **cast(Any, made)))
        make_saves_atomic(model)
        for cls in descendants(model):
            _connect(cls)
        return model

    return declare if model is None else declare(model)


def _connect(model: type[models.Model]) -> None:
    """Listen to one class. Not to all: a listener for any sender would take Django's fast deletion from every model."""
    if model._meta.abstract:
        return
    kinds: tuple[Kind, ...] = ("created", "updated")
    if any(captures.find(model, kind) for kind in kinds):
        post_save.connect(tell_save, sender=model, dispatch_uid="django_eventstore.capture")
    if captures.find(model, "deleted"):
        pre_delete.connect(tell_deletion, sender=model, dispatch_uid="django_eventstore.capture")
    for field in captured_fields(model):
        through = field.remote_field.through
        if isinstance(through, str) and "." not in through:
            through = f"{field.model._meta.app_label}.{through}"
        # By name, the signal waits for a model that is not there yet.
        m2m_changed.connect(tell_links, sender=through, dispatch_uid="django_eventstore.capture")


def _connect_child(sender: type[models.Model], **kwargs: object) -> None:
    if any(issubclass(sender, declared.model) for declared in captures):
        _connect(sender)


# A proxy or child of a captured model may be declared after it, in any app.
class_prepared.connect(_connect_child, dispatch_uid="django_eventstore.capture")
