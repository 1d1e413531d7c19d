"""CapturingQuerySet: events for the bulk operations, of which Django tells nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db import connections, models, transaction

from ..exceptions import EventStoreError
from .captures import Change, Changes, Subject, captures
from .rows import Row, as_written, changed, differences, locked, values_of
from .suppression import silenced
from .telling import gathered, tell

__all__ = ["CapturingQuerySet"]

M = TypeVar("M", bound=models.Model, covariant=True)

CHUNK = 5_000
"""Keys in one statement, where the database has no lower limit."""


class CapturingQuerySet(models.QuerySet[M]):
    """A queryset whose bulk operations record the events that capture() declares for its model.

    ``objects = CapturingQuerySet.as_manager()``. Each operation and its events are one transaction, and the events one
    statement. Of a model that is not captured it is a plain queryset.
    """

    _is_told_elsewhere = False

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[M]:
        """Insert, and record ``created`` for each instance.

        Raises EventStoreError with ``ignore_conflicts`` or ``update_conflicts``, where the database does not say which rows
        are new, and on a database that does not return their keys.
        """
        subject, using = captures.find(self.model, "created"), self._written()
        arguments = (batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)
        is_captured = subject is not None or (update_conflicts and captures.find(self.model, "updated") is not None)
        if not is_captured or silenced():
            return super().bulk_create(objs, *arguments)
        if subject is None or ignore_conflicts or update_conflicts:
            raise self._conflicts("ignore_conflicts" if ignore_conflicts else "update_conflicts")
        with transaction.atomic(using=using, savepoint=False):
            created = super().bulk_create(objs, *arguments)
            if any(instance.pk is None for instance in created):
                raise EventStoreError(
                    f"{using!r} does not return the keys of the rows of bulk_create(), so that their events would have no "
                    "stream. Save them one by one, or wrap the call in suppressed()."
                )
            tell(_creations(created, subject, using), subject=subject, using=using)
        return created

    def update(self, **kwargs: Any) -> int:
        """Update, and record ``updated`` for each row that changed.

        Reads the rows before, which locks them, and after: three statements for the change. Only the locked rows are
        updated. The builder gets instances as they are after the change.
        """
        subject, using = captures.find(self.model, "updated"), self._written()
        if (
            subject is None
            or self._is_told_elsewhere
            or self.query.is_sliced
            or self.query.combinator
            or silenced()
            or not self._may_change(subject, kwargs)
        ):
            return super().update(**kwargs)
        with transaction.atomic(using=using, savepoint=False):
            before = self._lock(subject, using)
            plain = self.using(using)
            count = sum(models.QuerySet.update(plain.filter(pk__in=keys), **kwargs) for keys in _chunks(before, using))
            tell(_updates(self.model, before, subject, using), subject=subject, using=using)
        self._result_cache = None
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None) -> int:
        """Update, and record ``updated`` for each row that changed; it reads what update() reads."""
        subject, using = captures.find(self.model, "updated"), self._written()
        plain = self.all()
        plain._is_told_elsewhere = True
        objs, fields = tuple(objs), tuple(fields)
        keys = [instance.pk for instance in objs]
        if subject is None or None in keys or not subject.may_change(fields) or silenced():
            return models.QuerySet.bulk_update(plain, objs, fields, batch_size)
        with transaction.atomic(using=using, savepoint=False):
            before: dict[Any, Row] = {}
            for chunk in _chunks(keys, using):
                before |= self.using(using).filter(pk__in=chunk)._lock(subject, using)
            count = models.QuerySet.bulk_update(plain, objs, fields, batch_size)
            tell(_updates(self.model, before, subject, using), subject=subject, using=using)
        return count

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete, and record ``deleted`` for each row, also of captured models that a cascade takes along."""
        using = self._written()
        if captures.find(self.model, "deleted") is None or self.query.is_sliced or self.query.combinator:
            return super().delete()
        with transaction.atomic(using=using, savepoint=False), gathered(using=using):
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _written(self) -> str:
        """The alias that is written to."""
        self._for_write = True
        return self.db

    def _clone(self) -> CapturingQuerySet[M]:
        clone: CapturingQuerySet[M] = super()._clone()  # type: ignore[misc]
        clone._is_told_elsewhere = self._is_told_elsewhere
        return clone

    def _lock(self, subject: Subject, using: str) -> dict[Any, Row]:
        """The rows of this query by key, locked in the order of their keys, so that two updates wait and do not deadlock."""
        rows: models.QuerySet[Any] = self.using(using)
        query = self.query
        if query.distinct or query.group_by is not None or query.values_select or query.has_select_fields:
            # PostgreSQL cannot lock what is grouped. The update itself asks the whole question again, of locked rows.
            rows = self.model._base_manager.using(using).filter(pk__in=rows.order_by().values("pk"))
        names = [field.name for field in subject.fields]
        rows = rows.select_related(None).prefetch_related(None).order_by("pk").defer(None).only("pk", *names)
        links = tuple(_parent_links(self.model))
        return {row.pk: values_of(row, subject) for row in locked(rows, using=using, of=("self", *links))}

    def _conflicts(self, option: str) -> EventStoreError:
        return EventStoreError(
            f"bulk_create({option}=True) of {self.model._meta.label}, which is captured: the database does not say which "
            "rows are new. Use get_or_create() or update_or_create(), or look for the existing rows first and split; or wrap "
            "the call in suppressed() and record what happened yourself."
        )

    def _may_change(self, subject: Subject, written: Collection[str]) -> bool:
        """Whether a field that counts can change. EventStoreError for the primary key, of which nothing could be told."""
        columns = subject.keys.union(self.model._meta.pk_fields)
        keys = {"pk", *(name for key in columns for name in (key.name, key.attname))}
        if not keys.isdisjoint(written):
            raise EventStoreError(
                f"update() of the primary key of {self.model._meta.label}, which is captured: its stream would have another "
                "name. Make new rows and delete the old ones, or wrap the call in suppressed()."
            )
        return subject.may_change(written)


def _parent_links(model: type[models.Model], prefix: str = "") -> Iterator[str]:
    for parent, link in model._meta.concrete_model._meta.parents.items():  # type: ignore[union-attr]
        if link is not None:
            yield f"{prefix}{link.name}"
            yield from _parent_links(parent, f"{prefix}{link.name}__")


def _chunks(keys: Collection[Any], using: str) -> Iterator[list[Any]]:
    # Half of what the database takes: a statement has values beside the keys.
    size = min(CHUNK, (connections[using].features.max_query_params or 2 * CHUNK) // 2)
    ordered = list(keys)
    return (ordered[start : start + size] for start in range(0, len(ordered), size))


def _creations(created: Sequence[models.Model], subject: Subject, using: str) -> Iterator[tuple[models.Model, Changes]]:
    if not subject.builder.takes_changes:
        return ((instance, {}) for instance in as_written(created, using=using))
    rows = subject.model._base_manager.using(using).in_bulk([instance.pk for instance in created])
    values = {key: values_of(row, subject) for key, row in rows.items()}
    return (
        (instance, changed({name: Change(None, value) for name, value in values[instance.pk].items()}))
        for instance in as_written(created, using=using)
    )


def _updates(
    model: type[models.Model], before: dict[Any, Row], subject: Subject, using: str
) -> Iterator[tuple[models.Model, Changes]]:
    after = model._base_manager.using(using).in_bulk(list(before))
    for key, row in before.items():
        if key in after and (changes := differences(row, values_of(after[key], subject), subject)):
            yield after[key], changes
