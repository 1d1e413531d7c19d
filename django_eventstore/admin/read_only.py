"""Pages that only show."""

from __future__ import annotations

from typing import Any

import msgspec
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

__all__ = ["LONGEST_TEXT", "ReadOnlyAdmin", "preformatted", "readable"]

LONGEST_TEXT = 100_000


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows rows and changes none, for superusers too: whatever is not a reading request is refused."""

    actions: Any = None
    # The query string is input: no lookups but those a class names itself, no facets (they count), no other order.
    lookups: tuple[str, ...] = ()
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in self.lookups

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)


def preformatted(text: str) -> SafeString:
    """The text, escaped, with its line breaks."""
    return format_html("<pre>{}</pre>", text)


def readable(text: str) -> str:
    """JSON with indentation, its numbers and keys as they are stored; cut before it is worked on, and after."""
    found = text[:LONGEST_TEXT]
    if len(text) <= LONGEST_TEXT:
        try:
            found = msgspec.json.format(text, indent=2)
        except (msgspec.DecodeError, RecursionError):  # deeper than Python goes; shown as it is stored
            found = text
    if len(text) > LONGEST_TEXT or len(found) > LONGEST_TEXT:
        return found[:LONGEST_TEXT] + "\n" + _("… %d characters in all") % len(text)
    return found
