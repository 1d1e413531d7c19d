"""Many-to-many fields of captured models, changed from either side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from .captures import Change, Subject, captures
from .rows import changed, locked
from .saves import came_from_a_fixture
from .suppression import silenced
from .telling import tell

__all__ = ["captured_fields", "tell_links"]


def captured_fields(model: type[models.Model]) -> tuple[models.ManyToManyField[Any, Any], ...]:
    """The many-to-many fields whose changes the model tells."""
    subject = captures.find(model, "updated")
    return subject.many_to_many if subject else ()


def tell_links(
    sender: type[models.Model],
    *,
    instance: models.Model,
    action: str,
    reverse: bool,
    model: type[models.Model],
    pk_set: set[Any] | None,
    using: str,
    **kwargs: object,
) -> None:
    """Receiver of m2m_changed. ``sender``: the model of the table between the two."""
    captured = model if reverse else type(instance)
    field = next((field for field in captured_fields(captured) if field.remote_field.through is sender), None)
    subject = captures.find(captured, "updated")
    if field is None or subject is None or came_from_a_fixture(instance) or silenced():
        return
    links = _Links(field=field, subject=subject, instance=instance, reverse=reverse, using=using)
    noted = f"eventstore_{sender._meta.label}"
    if action.startswith("pre_"):
        # What is added may be there already, what is removed may never have been, and what is cleared is not named.
        vars(instance._state)[noted] = links.existing(pk_set)
        return
    there = vars(instance._state).pop(noted)
    if action == "post_add":
        links.tell(added=_ordered(set(pk_set or ()) - set(there)))
    else:
        links.tell(removed=there)


class _Links:
    """The links of one instance by one many-to-many field, seen from either side."""

    def __init__(
        self,
        *,
        field: models.ManyToManyField[Any, Any],
        subject: Subject,
        instance: models.Model,
        reverse: bool,
        using: str,
    ) -> None:
        self.field, self.subject, self.instance = field, subject, instance
        self.reverse, self.using = reverse, using
        # The columns of the table between, as names of its two foreign keys: to the captured model, and to the other.
        self.captured, self.other = field.m2m_field_name(), field.m2m_reverse_field_name()

    def existing(self, keys: set[Any] | None) -> tuple[Any, ...]:
        """Which of these keys of the far side are linked; None asks for all.

        First the captured rows are locked: of two transactions that make or end the same link only one tells it, and their
        events stand in the stream in the order of the changes.
        """
        near, far = (self.other, self.captured) if self.reverse else (self.captured, self.other)
        through: Any = self.field.remote_field.through
        linked = through._base_manager.using(self.using).filter(**{near: self.instance}).values_list(far, flat=True)
        if not self.reverse:
            self._lock(pk=self.subject.key_of(self.instance))
        if self.reverse or self.field.remote_field.symmetrical:
            self._lock(**{f"{self._far_name}__in": list(linked) if keys is None else keys})
        return _ordered(linked.all() if keys is None else linked.filter(**{f"{far}__in": keys}))

    def _lock(self, **rows: Any) -> None:
        found = self.subject.model._base_manager.using(self.using).filter(**rows).order_by("pk")
        list(locked(found, using=self.using).values_list("pk"))

    @property
    def _far_name(self) -> str:
        """The field of the far side that the table between refers to; the far side is captured."""
        field = self.field
        name = field.m2m_target_field_name() if self.reverse else field.m2m_reverse_target_field_name()
        return str(name)

    def tell(self, *, added: tuple[Any, ...] = (), removed: tuple[Any, ...] = ()) -> None:
        """One event of the captured instance, or of each one on the far side."""
        if not added and not removed:
            return
        if self.reverse:
            self._tell_far_side(added, removed)
            return
        self._tell([self.instance], added, removed)
        if self.field.remote_field.symmetrical:
            self._tell_far_side(added, removed)

    def _tell_far_side(self, added: tuple[Any, ...], removed: tuple[Any, ...]) -> None:
        own = self.field.m2m_reverse_target_field_name() if self.reverse else self.field.m2m_target_field_name()
        key = (getattr(self.instance, own),)
        rows = self.subject.model._base_manager.using(self.using).order_by("pk")
        far_side = rows.filter(**{f"{self._far_name}__in": added or removed})
        self._tell(far_side, key if added else (), key if removed else ())

    def _tell(self, instances: Iterable[models.Model], added: tuple[Any, ...], removed: tuple[Any, ...]) -> None:
        changes = changed({self.field.name: Change(removed, added)})
        tell(((instance, changes) for instance in instances), subject=self.subject, using=self.using)


def _ordered(keys: Iterable[Any]) -> tuple[Any, ...]:
    """In an order that does not depend on hashes."""
    return tuple(sorted(keys))
