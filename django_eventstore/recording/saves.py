"""Captured models that are saved: one event per save(), whatever it wrote to how many tables."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps

from django.db import models, router, transaction

from ..exceptions import EventStoreError
from .captures import Change, Changes, Kind, Subject, captures
from .rows import Row, as_written, changed, differences, lock_row, read_row
from .suppression import silenced
from .telling import tell

__all__ = ["came_from_a_fixture", "make_saves_atomic", "tell_save"]

MARK = "eventstore_captured"
RAW = "eventstore_raw"
KINDS: tuple[Kind, ...] = ("created", "updated")


@dataclass(slots=True)
class _Save:
    """A save() between its beginning and post_save. ``rows``: what was there before, by the model it was read for."""

    instance: models.Model
    rows: dict[type[models.Model], Row | None] = field(default_factory=dict)


_saving: ContextVar[_Save | None] = ContextVar("eventstore_saving", default=None)


def make_saves_atomic(model: type[models.Model]) -> None:
    """Let the model save in a transaction that its event is part of.

    Django opens none around post_save, and an error there would not undo the change in the caller's transaction: the
    change could be committed without its event. All saves, save(), create(), get_or_create() and a project's own, come
    through save_base(); loaddata goes past it.
    """
    if any(getattr(vars(cls).get("save_base"), MARK, False) for cls in model.__mro__):
        return
    own: Callable[..., None] | None = vars(model).get("save_base")

    @wraps(model.save_base)
    def save_base(
        self: models.Model,
        raw: bool = False,
        force_insert: bool | tuple[type[models.Model], ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Collection[str] | None = None,
    ) -> None:
        using = using or router.db_for_write(type(self), instance=self)

        def save() -> None:
            # Not the method found now: a class between this one and its parents may have another.
            method = own.__get__(self) if own else super(model, self).save_base  # type: ignore[misc]
            method(raw, force_insert, force_update, using, update_fields)

        told = any(captures.find(type(self), kind) for kind in KINDS)
        if raw or not told or silenced():
            save()
            return
        with transaction.atomic(using=using, savepoint=False):
            rows = _rows_before(self, using, update_fields, certainly_new=force_insert is True)
            token = _saving.set(_Save(self, rows))
            try:
                save()
            finally:
                _saving.reset(token)

    setattr(save_base, MARK, True)
    model.save_base = save_base  # type: ignore[method-assign, assignment]


def _rows_before(
    instance: models.Model, using: str, update_fields: Collection[str] | None, *, certainly_new: bool
) -> dict[type[models.Model], Row | None]:
    rows: dict[type[models.Model], Row | None] = {}
    updated, created = captures.find(type(instance), "updated"), captures.find(type(instance), "created")
    certainly_new = certainly_new or _is_new_by_its_key(instance)
    for subject in (updated, created):
        if subject is None or subject.model in rows:
            continue
        own = subject.is_own(type(instance))
        # post_save tells whether the instance's own row is new, never whether a parent's was there.
        wanted = subject is updated and not certainly_new and subject.may_change(update_fields)
        if wanted or not own:
            key = subject.key_of(instance)
            rows[subject.model] = None if key is None else lock_row(subject, key, using=using)
    return rows


def _is_new_by_its_key(instance: models.Model) -> bool:
    """Whether Django does not even try an UPDATE: a new instance whose key has a default, such as a UUID."""
    keys = instance._meta.pk_fields
    return instance._state.adding and all(key.has_default() or key.has_db_default() for key in keys)


def tell_save(
    sender: type[models.Model],
    *,
    instance: models.Model,
    created: bool,
    raw: bool,
    using: str,
    update_fields: Collection[str] | None,
    **kwargs: object,
) -> None:
    """Receiver of post_save."""
    if raw:
        vars(instance._state)[RAW] = True
        return
    vars(instance._state).pop(RAW, None)
    told = [(kind, subject) for kind in KINDS if (subject := captures.find(sender, kind))]
    if not told or silenced():
        return
    save = _saving.get()
    if save is None or save.instance is not instance:
        raise EventStoreError(
            f"{sender._meta.label} is captured, and {instance!r} was saved past its save_base(): the change and its "
            "event would not be one transaction. Call the method of the instance, or wrap the call in suppressed()."
        )
    was_there = {model: row is not None for model, row in save.rows.items()}
    for kind, subject in told:
        is_new = created if subject.is_own(sender) else not was_there[subject.model]
        if is_new != (kind == "created") or not (is_new or subject.may_change(update_fields)):
            continue
        changes = _creation(instance, subject, using) if is_new else _changes(save, subject, using)
        if is_new or changes:
            tell([(as_written([instance], using=using)[0], changes)], subject=subject, using=using)


def _creation(instance: models.Model, subject: Subject, using: str) -> Changes:
    if not subject.builder.takes_changes:
        return {}
    row = read_row(subject, subject.key_of(instance), using=using) or {}
    return changed({field.name: Change(None, row.get(field.name)) for field in subject.fields})


def _changes(save: _Save, subject: Subject, using: str) -> Changes:
    before = save.rows.get(subject.model)
    key = subject.key_of(save.instance)
    after = read_row(subject, key, using=using)
    if before is None or after is None:
        raise EventStoreError(
            f"{subject.model._meta.label} {key!r} was written by another transaction while this one was saving it, so that "
            "it cannot be said what has changed. Nothing was saved: try again."
        )
    return differences(before, after, subject)


def came_from_a_fixture(instance: models.Model) -> bool:
    """Whether loaddata has saved the instance: for its many-to-many fields Django gives no ``raw``."""
    return RAW in vars(instance._state)
