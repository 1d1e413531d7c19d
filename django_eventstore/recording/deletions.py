"""Captured models that are deleted: by delete() of an instance or a queryset, or by a cascade that Django collects."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import models

from .captures import Change, captures
from .rows import changed, lock_row
from .suppression import silenced
from .telling import tell

__all__ = ["descendants", "tell_deletion"]


def tell_deletion(sender: type[models.Model], *, instance: models.Model, using: str, **kwargs: object) -> None:
    """Receiver of pre_delete, which Django sends inside the transaction of the deletion, while related rows still exist."""
    subject = captures.find(sender, "deleted")
    if subject is None or silenced():
        return
    row = lock_row(subject, instance.pk, using=using, to_delete=True)
    if row is None:
        return  # deleted by somebody else meanwhile, who has told it; Django sends the signal all the same
    if _is_told_by_a_child(sender, instance, using):
        return
    changes = changed({field.name: Change(row[field.name], None) for field in subject.fields})
    tell([(instance, changes)], subject=subject, using=using)


def _is_told_by_a_child(model: type[models.Model], instance: models.Model, using: str) -> bool:
    """Whether the row of a child goes with this one and has an event of its own: one event, not one per table."""
    key = model._meta.pk.name
    return any(
        child._base_manager.using(using).filter(**{key: instance.pk}).exists()
        for child in _children(model)
        if captures.find(child, "deleted")
    )


def _children(model: type[models.Model]) -> Iterator[type[models.Model]]:
    """The models with a table of their own below this one."""
    concrete = model._meta.concrete_model
    return (
        child
        for child in descendants(concrete or model)
        if not child._meta.abstract and not child._meta.proxy and child is not concrete
    )


def descendants(model: type[models.Model]) -> Iterator[type[models.Model]]:
    """The class and every class below it."""
    yield model
    for child in model.__subclasses__():
        yield from descendants(child)
