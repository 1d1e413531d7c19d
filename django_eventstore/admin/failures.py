"""What could not be delivered, and the decisions that operators ask for. A worker carries them out with its next tick."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_permission_codename
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import router
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..consumers import declared_consumers, discard, retry, skip
from ..exceptions import EventStoreError
from ..inspection import delivered_entry, delivery_decisions, queued_behind
from ..models import ConsumerState, DeliveryState, EventEntry, FailedDelivery
from .decision_forms import DecisionForm, EditForm
from .filters import ConsumerFilter, StateFilter, TypeFilter, search_deliveries
from .read_only import ReadOnlyAdmin, preformatted, readable

__all__ = ["FailedDeliveryAdmin"]

CHOSEN = re.compile(r"[0-9]{1,18}:[0-9]{1,18}(,[0-9]{1,18}:[0-9]{1,18})*")
MOST_SHOWN = 20
LONGEST_IN_A_CELL = 200
TITLES = {
    "retry": _("Try again"),
    "skip": _("Skip"),
    "discard": _("Discard"),
}
MEANINGS = {
    "retry": _("They are tried again, with all their attempts before them."),
    "skip": _("Their consumers never get these events. What waits behind them is delivered."),
    "discard": _("Their consumers never get these events, nor what waits behind them now."),
}


@admin.register(FailedDelivery)
class FailedDeliveryAdmin(ReadOnlyAdmin):
    """Blocked and parked events by consumer and position.

    Deciding needs the permission to change failed deliveries, and leaves an entry in the admin's log. The pages are
    Django's own, by number: a consumer has no more than MAX_FAILURES of them, and all that match can be chosen at once.
    """

    list_display = ("position", "consumer", "stream", "type", "state", "attempts", "retry_at", "asked_for", "error_end")
    list_filter = (ConsumerFilter, StateFilter, TypeFilter)
    lookups = (ConsumerFilter.parameter_name, StateFilter.parameter_name, TypeFilter.parameter_name)
    ordering = ("consumer", "position")
    search_fields = ("stream",)
    search_help_text = _("The whole of a stream, a position or an event id.")
    actions = ("retry", "skip", "discard")
    fields = (
        "consumer",
        "position",
        "event",
        "type",
        "stream",
        "state",
        "blocking",
        "queued",
        "attempts",
        "tries",
        "crashes",
        "first_failed_at",
        "failed_at",
        "retry_at",
        "asked_for",
        "decided",
        "readable_error",
        "readable_payload",
        "readable_edited_payload",
    )
    readonly_fields = fields

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Whether the user may ask for decisions."""
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename('change', self.opts)}")

    def may_see_events(self, request: HttpRequest) -> bool:
        """Whether the user may see payloads, which are the events'."""
        return request.user.has_perm(f"{self.opts.app_label}.view_evententry")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).using(_using())
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search_deliveries(queryset, search_term), False

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        view = self.admin_site.admin_view
        return [
            path("decide/<str:decision>/", view(self.decide_view), name=f"{name}_decide"),
            path("edit/<int:pk>/", view(self.edit_view), name=f"{name}_edit"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method not in ("GET", "HEAD") and not self.has_decide_permission(request):
            raise PermissionDenied
        return super(ReadOnlyAdmin, self).changelist_view(request, extra_context)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> FailedDelivery | None:
        row: Any = super().get_object(request, object_id, from_field)
        if row is not None:
            row.entry = delivered_entry(row) if self.may_see_events(request) else None
        found: FailedDelivery | None = row
        return found

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        hidden = () if self.may_see_events(request) else ("readable_payload", "readable_edited_payload")
        return [name for name in self.fields if name not in hidden]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *arguments: Any, **keywords: Any
    ) -> HttpResponse:
        row = keywords["obj"]
        if self.has_decide_permission(request) and row.state != DeliveryState.TRYING:
            context["decisions"] = [
                (title, f"{self._url('decide', decision)}?failure={row.pk}") for decision, title in TITLES.items()
            ]
            if row.entry is not None:
                context["decisions"].append((gettext("Edit and try again"), self._url("edit", row.pk)))
        return super().render_change_form(request, context, *arguments, **keywords)

    @admin.action(description=_("Try again…"), permissions=["decide"])
    def retry(self, request: HttpRequest, queryset: QuerySet[FailedDelivery]) -> HttpResponse:
        return self._ask(request, "retry", list(queryset))

    @admin.action(description=_("Skip…"), permissions=["decide"])
    def skip(self, request: HttpRequest, queryset: QuerySet[FailedDelivery]) -> HttpResponse:
        return self._ask(request, "skip", list(queryset))

    @admin.action(description=_("Discard, with what waits behind…"), permissions=["decide"])
    def discard(self, request: HttpRequest, queryset: QuerySet[FailedDelivery]) -> HttpResponse:
        return self._ask(request, "discard", list(queryset))

    def decide_view(self, request: HttpRequest, decision: str) -> HttpResponse:
        """The page that asks, and what its answer does. Nothing is decided by GET."""
        if not self.has_decide_permission(request):
            raise PermissionDenied
        if decision not in TITLES:
            raise Http404
        if request.method != "POST":
            rows = list(self.get_queryset(request).filter(pk__in=_numbers(request.GET.getlist("failure"))))
            if not rows:
                return self._gone(request)
            return self._ask(request, decision, rows)
        rows = self._chosen(request, request.POST.get("chosen", ""))
        form = DecisionForm(request.POST, decision=decision)
        if not form.is_valid() or _undeclared(rows):
            return self._ask(request, decision, rows, form=form)
        given = {"by": request.user.get_username(), "reason": form.cleaned_data["reason"]}
        if decision == "retry":
            asked = retry(rows, per_second=form.cleaned_data["per_second"], **given)
        else:
            asked = {"skip": skip, "discard": discard}[decision](rows, **given)
        self._log(request, rows, decision, given["reason"])
        return self._done(request, asked, left=len(rows) - asked)

    def edit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The form with the payload, and a retry with what was made of it."""
        if not (self.has_decide_permission(request) and self.may_see_events(request)):
            raise PermissionDenied
        row: Any = self.get_queryset(request).filter(pk=pk).first()
        entry = delivered_entry(row) if row is not None else None
        if entry is None:
            return self._gone(request)
        if request.method != "POST":
            text = row.edited_payload if row.edited_payload is not None else entry.payload
            initial = {"payload": _indented(text), "position": row.position}
            return self._edit_page(request, row, EditForm(initial=initial, type_name=row.type))
        form = EditForm(request.POST, type_name=row.type)
        if not form.is_valid() or _undeclared([row]):
            return self._edit_page(request, row, form)
        if form.cleaned_data["position"] != row.position:
            return self._gone(request)
        given = {"by": request.user.get_username(), "reason": form.cleaned_data["reason"]}
        try:
            asked = retry([row], payload=form.cleaned_data["payload"], **given)
        except (EventStoreError, ValueError) as error:
            form.add_error("payload", str(error))
            return self._edit_page(request, row, form)
        self._log(request, [row], "edit", given["reason"])
        return self._done(request, asked, left=1 - asked)

    @admin.display(description=_("event"), empty_value="–")
    def event(self, row: Any) -> SafeString | str:
        if row.entry is None:
            return str(row.event_id)
        url = reverse(
            "admin:django_eventstore_evententry_change", args=[row.entry.pk], current_app=self.admin_site.name
        )
        return format_html('<a href="{}">{}</a>', url, row.event_id)

    @admin.display(description=_("events that wait behind it"))
    def queued(self, row: FailedDelivery) -> str:
        return str(queued_behind(row))

    @admin.display(description=_("asked for"), empty_value="–")
    def asked_for(self, row: FailedDelivery) -> str | None:
        if not row.request:
            return None
        words = gettext("%(request)s, by %(who)s") % {"request": row.request, "who": row.requested_by}
        return f"{words}: {row.requested_reason}" if row.requested_reason else words

    @admin.display(description=_("decided before"), empty_value="–")
    def decided(self, row: FailedDelivery) -> SafeString | None:
        found = delivery_decisions(consumer=row.consumer, using=_using()).filter(position=row.position)
        lines = [f"{each.at:%Y-%m-%d %H:%M} {each.decision} {each.by}: {each.reason}" for each in found[:MOST_SHOWN]]
        return preformatted("\n".join(lines)) if lines else None

    @admin.display(description=_("error"), empty_value="–")
    def error_end(self, row: FailedDelivery) -> str | None:
        lines = row.error.strip().splitlines()
        return lines[-1][:LONGEST_IN_A_CELL] if lines else None

    @admin.display(description=_("error"), empty_value="–")
    def readable_error(self, row: FailedDelivery) -> SafeString | None:
        return preformatted(row.error) if row.error else None

    @admin.display(description=_("payload"))
    def readable_payload(self, row: Any) -> SafeString | str:
        if row.entry is None:
            return gettext("The event is not in the log any more.")
        return preformatted(readable(row.entry.payload))

    @admin.display(description=_("edited payload"), empty_value="–")
    def readable_edited_payload(self, row: FailedDelivery) -> SafeString | None:
        return preformatted(readable(row.edited_payload)) if row.edited_payload is not None else None

    def _ask(
        self, request: HttpRequest, decision: str, rows: Sequence[FailedDelivery], *, form: DecisionForm | None = None
    ) -> HttpResponse:
        """The page that says what is about to be decided, and for how many."""
        rows = [row for row in rows if row.state != DeliveryState.TRYING]
        names = {row.consumer for row in rows}
        paused = ConsumerState.objects.using(_using()).filter(pk__in=names, paused_at__isnull=False)
        return self._page(
            request,
            "decide",
            title=TITLES[decision],
            meaning=MEANINGS[decision],
            count=len(rows),
            rows=rows[:MOST_SHOWN],
            more=len(rows) - len(rows[:MOST_SHOWN]),
            chosen=",".join(f"{row.pk}:{row.position}" for row in rows),
            action_url=self._url("decide", decision),
            form=form or DecisionForm(decision=decision),
            undeclared=_undeclared(rows),
            paused=list(paused.order_by("pk").values_list("pk", flat=True)),
        )

    def _edit_page(self, request: HttpRequest, row: FailedDelivery, form: EditForm) -> HttpResponse:
        return self._page(
            request, "edit", title=gettext("Edit and try again"), row=row, form=form, undeclared=_undeclared([row])
        )

    def _page(self, request: HttpRequest, name: str, **context: Any) -> HttpResponse:
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/django_eventstore/faileddelivery/{name}.html",
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
        )

    def _chosen(self, request: HttpRequest, text: str) -> list[FailedDelivery]:
        """The rows that the page was about, where they still stand for the event that they stood for."""
        if text and not CHOSEN.fullmatch(text):
            raise BadRequest("Not a list of failed deliveries.")
        pairs = [each.split(":") for each in text.split(",") if each]
        positions = {int(pk): int(position) for pk, position in pairs}
        found = self.get_queryset(request).in_bulk(list(positions))
        return [row for pk, row in found.items() if row.position == positions[pk]]

    def _log(self, request: HttpRequest, rows: Sequence[FailedDelivery], decision: str, reason: str) -> None:
        LogEntry.objects.log_actions(
            request.user.pk, rows, CHANGE, f"Asked for: {decision}" + (f", because: {reason}" if reason else "")
        )

    def _done(self, request: HttpRequest, asked: int, *, left: int) -> HttpResponse:
        if asked:
            done = ngettext(
                "Asked for %d decision; the next tick carries it out.",
                "Asked for %d decisions; the next tick carries them out.",
                asked,
            )
            self.message_user(request, done % asked, messages.SUCCESS)
        if left or not asked:
            self.message_user(request, gettext("What was delivered meanwhile is left alone."), messages.WARNING)
        return HttpResponseRedirect(self._url("changelist"))

    def _gone(self, request: HttpRequest) -> HttpResponse:
        self.message_user(
            request, gettext("It was delivered meanwhile, or the event is not in the log any more."), messages.WARNING
        )
        return HttpResponseRedirect(self._url("changelist"))

    def _url(self, view: str, *arguments: object) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"
        return reverse(name, args=arguments, current_app=self.admin_site.name)


def _using() -> str:
    return router.db_for_write(EventEntry)


def _undeclared(rows: Sequence[FailedDelivery]) -> list[str]:
    """Consumers for which no worker of this project carries anything out."""
    return sorted({row.consumer for row in rows} - set(declared_consumers()))


def _numbers(texts: Sequence[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) <= 18]


def _indented(text: str) -> str:
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return text
