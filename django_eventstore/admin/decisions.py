"""What was decided about failed deliveries: read, never changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import DeliveryDecision, EventEntry
from .filters import DecisionFilter, search_deliveries
from .keyset import KeysetChangeList
from .read_only import ReadOnlyAdmin, preformatted, readable

__all__ = ["DeliveryDecisionAdmin"]


@admin.register(DeliveryDecision)
class DeliveryDecisionAdmin(ReadOnlyAdmin):
    """Who decided what, and why, the newest first. They are kept for ever, so the list is paged by key."""

    list_display = ("at", "consumer", "position", "stream", "type", "decision", "by", "reason")
    list_filter = (DecisionFilter,)
    lookups = (DecisionFilter.parameter_name,)
    search_help_text = _("The whole of a stream, a position or an event id.")
    fields = (
        "at",
        "decision",
        "by",
        "reason",
        "consumer",
        "position",
        "event_id",
        "type",
        "stream",
        "readable_edited_payload",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).using(router.db_for_write(EventEntry))
        return rows

    def get_changelist(self, request: HttpRequest, **keywords: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search_deliveries(queryset, search_term), False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # A payload is an event's: shown to those who may see events.
        may_see = request.user.has_perm(f"{self.opts.app_label}.view_evententry")
        return [name for name in self.fields if may_see or name != "readable_edited_payload"]

    @admin.display(description=_("edited payload"), empty_value="–")
    def readable_edited_payload(self, decision: DeliveryDecision) -> SafeString | None:
        return preformatted(readable(decision.edited_payload)) if decision.edited_payload is not None else None
