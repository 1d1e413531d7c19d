"""What failed deliveries and the decisions about them are found by."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import DeliveryState
from .keyset import DIGITS, LARGEST

__all__ = ["ConsumerFilter", "DecisionFilter", "StateFilter", "TypeFilter", "search_deliveries"]

MOST_CHOICES = 200


class ColumnFilter(admin.SimpleListFilter):
    """Rows with exactly this value."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        # No database has a text with NUL, and PostgreSQL's driver refuses to ask.
        rows: QuerySet[Any] = queryset.none() if "\0" in value else queryset.filter(**{str(self.parameter_name): value})
        return rows


class OccurringFilter(ColumnFilter):
    """Its choices are the values that occur, of a table that is never long."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        column = str(self.parameter_name)
        values = model_admin.get_queryset(request).order_by(column).values_list(column, flat=True).distinct()
        return [(value, value) for value in values[:MOST_CHOICES]]


class ConsumerFilter(OccurringFilter):
    title = _("consumer")
    parameter_name = "consumer"


class TypeFilter(OccurringFilter):
    title = _("type")
    parameter_name = "type"


class StateFilter(ColumnFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(DeliveryState.choices)


class DecisionFilter(ColumnFilter):
    title = _("decision")
    parameter_name = "decision"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(decision, decision) for decision in ("retry", "edit", "skip", "discard", "gone")]


def search_deliveries(rows: QuerySet[Any], text: str) -> QuerySet[Any]:
    """By the whole of a stream, a position or an event id."""
    wanted = text.strip().replace("\0", "")
    if not wanted:
        return rows
    found = Q(stream=wanted)
    if DIGITS.fullmatch(wanted) and int(wanted) <= LARGEST:
        found |= Q(position=int(wanted))
    with suppress(ValueError):
        found |= Q(event_id=UUID(wanted))
    matching: QuerySet[Any] = rows.filter(found)
    return matching
