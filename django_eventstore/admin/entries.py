"""The entries: a list that stays quick however long the log is, and a page for each."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import EventEntry, EventType, LogPosition
from .entry_pages import LARGEST, Cursor, by_id, entry_page
from .read_only import ReadOnlyAdmin, preformatted

__all__ = ["EventEntryAdmin"]

BEFORE, AFTER = "before", "after"
DIGITS = re.compile(r"[0-9]{1,19}")
MOST_TYPES = 200
LONGEST_TEXT = 100_000


class TypeFilter(admin.SimpleListFilter):
    """The types that occur in the log. What is chosen is found by the list itself, through the log's index."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = EventType.objects.using(model_admin.get_queryset(request).db).order_by("name")
        return [(name, name) for name in names.values_list("name", flat=True)[:MOST_TYPES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None


class EntryChangeList(ChangeList):
    """Django's list of objects with pages by key in place of pages by number."""

    def __init__(self, request: HttpRequest, *arguments: Any, **keywords: Any) -> None:
        self.cursor = _cursor(request.GET)
        super().__init__(request, *arguments, **keywords)
        # Given here and not by the ModelAdmin: there it would open the autocomplete view, whose pages are counted.
        self.search_fields = ("stream",)

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[EventEntry]:
        # A link to another filter, or a new search, begins with the first page again.
        for name in (BEFORE, AFTER):
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return ["-id"]

    def get_ordering_field_columns(self) -> dict[int, Any]:
        return {}

    def get_results(self, request: HttpRequest) -> None:
        page = entry_page(
            self.root_queryset,
            search=self.query.strip(),
            type_name=self.params.get(TypeFilter.parameter_name),
            cursor=self.cursor,
            size=self.list_per_page,
        )
        self.result_list = page.entries
        self.newest_url = self.get_query_string() if page.newer or self.cursor else None
        self.newer_url = self._url(page.newer)
        self.older_url = self._url(page.older)
        # Nothing is counted, so no template may show a number of all; what Django's ones ask for is there.
        self.result_count = self.full_result_count = len(page.entries)
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False

    def _url(self, cursor: Cursor | None) -> str | None:
        return self.get_query_string({AFTER if cursor.newer else BEFORE: cursor.key}) if cursor is not None else None


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
        return preformatted(_readable(entry.metadata))

    @admin.display(description=_("payload"))
    def readable_payload(self, entry: EventEntry) -> SafeString:
        return preformatted(_readable(entry.payload))


def _cursor(query: QueryDict) -> Cursor | None:
    for name in (BEFORE, AFTER):
        if name in query:
            key = str(query[name])
            if not DIGITS.fullmatch(key) or int(key) > LARGEST:
                raise IncorrectLookupParameters
            return Cursor(key=int(key), newer=name == AFTER)
    return None


def _search_for(text: str) -> str:
    query = QueryDict(mutable=True)
    query["q"] = text
    return query.urlencode()


def _readable(text: str) -> str:
    """JSON with indentation, its numbers and keys as they are stored; cut before it is worked on, and after."""
    readable = text[:LONGEST_TEXT]
    if len(text) <= LONGEST_TEXT:
        try:
            readable = msgspec.json.format(text, indent=2)
        except (msgspec.DecodeError, RecursionError):  # deeper than Python goes; shown as it is stored
            readable = text
    if len(text) > LONGEST_TEXT or len(readable) > LONGEST_TEXT:
        return readable[:LONGEST_TEXT] + "\n" + _("… %d characters in all") % len(text)
    return readable
