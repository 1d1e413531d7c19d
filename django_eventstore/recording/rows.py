"""Rows of captured models, read before and after a change: what an event says is what the database says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from django.db import connections, models

from .captures import Change, Changes, Subject

__all__ = ["as_written", "changed", "differences", "lock_row", "locked", "read_row", "values_of"]

M = TypeVar("M", bound=models.Model)

Row = Mapping[str, Any]


def read_row(subject: Subject, key: Any, *, using: str) -> Row | None:
    """The values of the subject's fields as this transaction sees them; None if there is no such row."""
    return _first(_row(subject, key, using), subject)


def lock_row(subject: Subject, key: Any, *, using: str, to_delete: bool = False) -> Row | None:
    """The same, of the newest committed row, which nobody else can change before this transaction ends.

    An instance in memory cannot tell what was there before: it may be old, and what it overwrites was never in it.
    """
    return _first(locked(_row(subject, key, using), using=using, to_delete=to_delete), subject)


def _row(subject: Subject, key: Any, using: str) -> models.QuerySet[models.Model]:
    rows: models.QuerySet[models.Model] = subject.model._base_manager.using(using).filter(pk=key).order_by()
    return rows


def _first(rows: models.QuerySet[models.Model], subject: Subject) -> Row | None:
    return next(iter(rows.values("pk", *(field.name for field in subject.fields))), None)


def locked(
    rows: models.QuerySet[M], *, using: str, to_delete: bool = False, of: tuple[str, ...] = ()
) -> models.QuerySet[M]:
    """The rows of a query, locked as an UPDATE or a DELETE will lock them, where the database has row locks."""
    features = connections[using].features
    # PostgreSQL's full lock would wait for everybody who inserts a row that refers to this one; an UPDATE does not.
    no_key = features.has_select_for_no_key_update and not to_delete
    found: models.QuerySet[M] = rows.select_for_update(
        no_key=no_key, of=of if features.has_select_for_update_of else ()
    )
    return found


def values_of(instance: models.Model, subject: Subject) -> Row:
    """The values of the subject's fields in an instance just read, as they came from the database."""
    return {field.name: vars(instance)[field.attname] for field in subject.fields}


def differences(before: Row, after: Row, subject: Subject) -> Changes:
    """The fields that differ."""
    names = (field.name for field in subject.fields)
    return changed({name: Change(before[name], after[name]) for name in names if before[name] != after[name]})


def changed(changes: dict[str, Change]) -> Changes:
    """What a builder gets: it cannot be changed."""
    return MappingProxyType(changes)


def as_written(instances: Iterable[M], *, using: str) -> list[M]:
    """The instances for the builders. One that holds an expression instead of a value, such as F(), is read anew.

    The caller's own stays as it is.
    """
    given = list(instances)
    vague = [instance for instance in given if _is_vague(instance)]
    if not vague:
        return given
    read = type(vague[0])._base_manager.using(using).in_bulk([instance.pk for instance in vague])
    return [read.get(instance.pk, instance) if _is_vague(instance) else instance for instance in given]


def _is_vague(instance: models.Model) -> bool:
    values = vars(instance)
    return any(hasattr(values.get(field.attname), "resolve_expression") for field in instance._meta.concrete_fields)
