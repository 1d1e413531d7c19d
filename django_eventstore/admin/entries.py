"""The entries: a list that stays quick however long the log is, and a page for each."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import EventEntry, EventType, LogPosition
from .entry_pages import by_id, entry_page
from .keyset import KeysetChangeList, KeysetPage
from .read_only import ReadOnlyAdmin, preformatted, readable

__all__ = ["EventEntryAdmin"]

MOST_TYPES = 200


class TypeFilter(admin.SimpleListFilter):
    """The types that occur in the log. What is chosen is found by the list itself, through the log's index."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = EventType.objects.using(model_admin.get_queryset(request).db).order_by("name")
        return [(name, name) for name in names.values_list("name", flat=True)[:MOST_TYPES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None


class EntryChangeList(KeysetChangeList):
    """The pages of the log."""

    def page(self) -> KeysetPage:
        return entry_page(
            self.root_queryset,
            search=self.query.strip(),
            type_name=self.params.get(TypeFilter.parameter_name),
            cursor=self.cursor,
            size=self.list_per_page,
        )


@admin.register(EventEntry)
class EventEntryAdmin(ReadOnlyAdmin):
    """What was recorded, the newest first."""

    list_display = ("position", "event_id", "stream", "type", "version", "timestamp")
    list_display_links = ("position", "event_id")
    list_filter = (TypeFilter,)
    lookups = (TypeFilter.parameter_name,)
    search_help_text = _(
        "The whole of a stream, a correlation id, an event id or a position. An event id that the database or another "
        "program made up is found near the time it carries."
    )
    fields = (
        "position",
        "event_id",
        "type",
        "version",
        "content_type",
        "stream",
        "stream_version",
        "timestamp",
        "correlation_id",
        "causation_id",
        "subject",
        "readable_metadata",
        "readable_payload",
    )
    readonly_fields = fields

    def get_changelist(self, request: HttpRequest, **keywords: Any) -> type[ChangeList]:
        return EntryChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> EventEntry | None:
        entry: EventEntry | None = super().get_object(request, object_id, from_field)
        if entry is not None:
            places = LogPosition.objects.using(entry._state.db).filter(entry_id=entry.id)
            entry.position = places.values_list("position", flat=True).first()
        return entry

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *arguments: Any, **keywords: Any
    ) -> HttpResponse:
        entry = keywords["obj"]
        if entry.stream:
            same = self.get_queryset(request).filter(stream=entry.stream)
            context["previous_in_stream"] = by_id(same.filter(id__lt=entry.id)).values_list("id", flat=True).last()
            context["next_in_stream"] = by_id(same.filter(id__gt=entry.id)).values_list("id", flat=True).first()
            context["stream_query"] = _search_for(entry.stream)
        return super().render_change_form(request, context, *arguments, **keywords)

    @admin.display(description=_("position"), empty_value="–")
    def position(self, entry: EventEntry) -> int | None:
        return entry.position

    @admin.display(description=_("metadata"))
    def readable_metadata(self, entry: EventEntry) -> SafeString:
        return preformatted(readable(entry.metadata))

    @admin.display(description=_("payload"))
    def readable_payload(self, entry: EventEntry) -> SafeString:
        return preformatted(readable(entry.payload))


def _search_for(text: str) -> str:
    query = QueryDict(mutable=True)
    query["q"] = text
    return query.urlencode()
