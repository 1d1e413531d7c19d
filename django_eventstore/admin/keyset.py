"""Lists with pages by key in place of pages by number: nothing is counted or skipped, however long the table is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest, QueryDict

__all__ = ["LARGEST", "Cursor", "KeysetChangeList", "KeysetPage", "neighbours"]

BEFORE, AFTER = "before", "after"
DIGITS = re.compile(r"[0-9]{1,19}")
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the page begins: above (``newer``) or below this key."""

    key: int
    newer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysetPage:
    """Rows, the newest first. ``older`` and ``newer``: the cursors of the neighbouring pages, None where there is none."""

    rows: Sequence[Model]
    older: Cursor | None
    newer: Cursor | None


def neighbours(keys: Sequence[int], *, cursor: Cursor | None, more: bool) -> tuple[Cursor | None, Cursor | None]:
    """(older, newer) of a page with these keys, the newest first. ``more``: there are more in the direction it was read."""
    newer = cursor is not None and cursor.newer
    # A page that was reached by a cursor has the page it came from beside it.
    has_older, has_newer = (True, more) if newer else (more, cursor is not None)
    return (
        Cursor(key=keys[-1], newer=False) if keys and has_older else None,
        Cursor(key=keys[0], newer=True) if keys and has_newer else None,
    )


class KeysetChangeList(ChangeList):
    """Django's list of objects, the newest first, with links to the newer and older page."""

    def __init__(self, request: HttpRequest, *arguments: Any, **keywords: Any) -> None:
        self.cursor = _cursor(request.GET)
        super().__init__(request, *arguments, **keywords)
        # Given here and not by the ModelAdmin: there it would open the autocomplete view, whose pages are counted.
        self.search_fields = ("stream",)

    def page(self) -> KeysetPage:
        """The page that was asked for: of the rows that match, by their ids."""
        newer = self.cursor is not None and self.cursor.newer
        rows = self.queryset.order_by("id" if newer else "-id")
        if self.cursor is not None:
            rows = rows.filter(**{"id__gt" if newer else "id__lt": self.cursor.key})
        found = list(rows[: self.list_per_page + 1])
        more, found = len(found) > self.list_per_page, found[: self.list_per_page]
        if newer:
            found.reverse()
        older, later = neighbours([row.pk for row in found], cursor=self.cursor, more=more)
        return KeysetPage(rows=found, older=older, newer=later)

    def get_queryset(self, request: HttpRequest, exclude_parameters: list[str | None] | None = None) -> QuerySet[Any]:
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
        page = self.page()
        self.result_list = page.rows
        self.newest_url = self.get_query_string() if page.newer or self.cursor else None
        self.newer_url = self._url(page.newer)
        self.older_url = self._url(page.older)
        # Nothing is counted, so no template may show a number of all; what Django's ones ask for is there.
        self.result_count = self.full_result_count = len(page.rows)
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False

    def _url(self, cursor: Cursor | None) -> str | None:
        return self.get_query_string({AFTER if cursor.newer else BEFORE: cursor.key}) if cursor is not None else None


def _cursor(query: QueryDict) -> Cursor | None:
    for name in (BEFORE, AFTER):
        if name in query:
            key = str(query[name])
            if not DIGITS.fullmatch(key) or int(key) > LARGEST:
                raise IncorrectLookupParameters
            return Cursor(key=int(key), newer=name == AFTER)
    return None
