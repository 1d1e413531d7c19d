"""The endpoints of webhooks: registered, watched, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.db import models, router, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..exceptions import EventStoreError
from ..models import Endpoint, EndpointAttempt, EventEntry
from ..webhooks import disable, enable, replay, rotate_secret, send_test_event, skip
from ..webhooks.attempts import KEPT
from ..webhooks.endpoints import give_secret, place
from ..webhooks.standings import FREE
from .endpoint_forms import HOUR, DisableForm, EmptyForm, EnableForm, EndpointForm, ReplayForm, RotateForm

__all__ = ["EndpointAdmin"]

LONGEST_IN_A_CELL = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something that is done to an endpoint: how it is called, what it means, and what it asks."""

    title: Any
    meaning: Any
    form: type[forms.Form] = EmptyForm
    suits: Callable[[Endpoint], bool] = lambda endpoint: True


OPERATIONS = {
    "test": Operation(
        title=_("Send a test event"),
        meaning=_("An event of the type webhooks.Test is sent now, once, and is in no log."),
    ),
    "rotate": Operation(
        title=_("New secret"),
        meaning=_("It gets a new secret. For some time both sign, so that the receiver can change over."),
        form=RotateForm,
    ),
    "disable": Operation(
        title=_("Disable"),
        meaning=_("Nothing more is sent to it. It is kept where it stands."),
        form=DisableForm,
        suits=lambda endpoint: endpoint.active,
    ),
    "enable": Operation(
        title=_("Enable"),
        meaning=_("It is sent to again."),
        form=EnableForm,
        suits=lambda endpoint: not endpoint.active,
    ),
    "replay": Operation(
        title=_("Replay"),
        meaning=_("It gets events again that are in the log. The other endpoints do not."),
        form=ReplayForm,
    ),
    "skip": Operation(
        title=_("Skip the event that it does not take"),
        meaning=_("It never gets this event. What comes after it is sent."),
        suits=lambda endpoint: endpoint.active and endpoint.attempts > 0,
    ),
}


@admin.register(Endpoint)
class EndpointAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """A secret is shown once, where it is made. What is done to an endpoint needs the permission to change it."""

    form = EndpointForm
    list_display = ("url", "consumer", "events_in_short", "standing", "problem_in_short", "description")
    list_filter = ("active",)
    lookups = ("active__exact",)
    search_fields = ("url", "description")
    ordering = ("pk",)
    actions: Any = None
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    fields = ("consumer", "url", "events", "description")
    watched = (
        "standing",
        "active",
        "disabled_at",
        "disabled_reason",
        "offset",
        "failing_since",
        "attempts",
        "retry_at",
        "problem",
        "previous_until",
        "created_at",
        "attempts_of_late",
    )

    # --- what is shown ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).using(_using())
        return rows

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj is None else (*self.fields, *self.watched)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Of another consumer it would have another offset.
        return () if obj is None else ("consumer", *self.watched)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in self.lookups

    @admin.display(description=_("events"))
    def events_in_short(self, endpoint: Endpoint) -> str:
        return ", ".join(endpoint.patterns)[:LONGEST_IN_A_CELL]

    @admin.display(description=_("problem"), empty_value="")
    def problem_in_short(self, endpoint: Endpoint) -> str:
        return (endpoint.problem or endpoint.disabled_reason)[:LONGEST_IN_A_CELL]

    @admin.display(description=_("standing"))
    def standing(self, endpoint: Endpoint) -> str:
        if not endpoint.active:
            return gettext("disabled")
        if endpoint.attempts:
            return gettext("failing")
        return gettext("with its consumer") if endpoint.offset is None else gettext("by its own offset")

    @admin.display(description=_("last attempts"), empty_value="–")
    def attempts_of_late(self, endpoint: Endpoint) -> SafeString | None:
        rows = EndpointAttempt.objects.using(_using()).filter(endpoint=endpoint).order_by("-id")[:KEPT]
        if not rows:
            return None
        cells = (
            (f"{row.at:%Y-%m-%d %H:%M:%S}", row.status or "–", row.milliseconds, row.type, row.position, row.problem)
            for row in rows
        )
        line = "<tr><td>{}</td><td>{}</td><td>{} ms</td><td>{}</td><td>{}</td><td>{}</td></tr>"
        return format_html("<table>{}</table>", format_html_join("", line, cells))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *arguments: Any, **keywords: Any
    ) -> HttpResponse:
        endpoint = keywords.get("obj")
        if endpoint is not None and self.may_operate(request):
            context["operations"] = [
                (operation.title, self._url("operate", endpoint.pk, name))
                for name, operation in OPERATIONS.items()
                if operation.suits(endpoint)
            ]
        return super().render_change_form(request, context, *arguments, **keywords)

    # --- what is changed ---

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.shown_secret = give_secret(obj)
            place(obj)
        # Who sends to it by its own offset does so by what it was: that ends, and what it passed over is looked at again.
        for name, value in FREE.items():
            setattr(obj, name, value)
        # Nothing else: how far it is may have changed since it was read.
        obj.save(using=_using(), update_fields=["url", "events", "description", *FREE] if change else None)

    def delete_model(self, request: HttpRequest, obj: models.Model) -> None:
        obj.delete(using=_using())

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self._secret_page(request, obj, obj.shown_secret)

    def may_operate(self, request: HttpRequest) -> bool:
        """Whether the user may do to endpoints what is done here."""
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename('change', self.opts)}")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.operate_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_operate"
        return [path("<int:pk>/operate/<str:name>/", view, name=name), *super().get_urls()]

    @transaction.non_atomic_requests  # a test event may take seconds
    def operate_view(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """The page that asks, and what its answer does. Nothing is done by GET."""
        if not self.may_operate(request):
            raise PermissionDenied
        endpoint: Any = self.get_queryset(request).filter(pk=pk).first()
        operation = OPERATIONS.get(name)
        if endpoint is None or operation is None:
            raise Http404
        form = operation.form(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                answer = self._operate(request, endpoint, name, form.cleaned_data)
            except ValidationError as error:
                form.add_error(None, error.messages)
            except (ValueError, EventStoreError, ImproperlyConfigured) as error:
                form.add_error(None, str(error))
            else:
                return answer or HttpResponseRedirect(self._url("change", endpoint.pk))
        return self._page(
            request, "operate", title=operation.title, meaning=operation.meaning, endpoint=endpoint, form=form
        )

    def _operate(
        self, request: HttpRequest, endpoint: Endpoint, name: str, given: dict[str, Any]
    ) -> HttpResponse | None:
        by = request.user.get_username()
        done, level, answer = gettext("Done."), messages.SUCCESS, None
        if name == "test":
            found = send_test_event(endpoint)
            facts = {"status": found.status, "milliseconds": int(found.seconds * 1_000), "problem": found.problem}
            if found.accepted:
                done = gettext("It was accepted: %(status)s, after %(milliseconds)d ms.") % facts
            else:
                done, level = gettext("It failed after %(milliseconds)d ms: %(problem)s") % facts, messages.ERROR
        elif name == "rotate":
            answer = self._secret_page(request, endpoint, rotate_secret(endpoint, overlap=given["hours"] * HOUR))
        elif name == "disable":
            disable(endpoint, reason=given["reason"] or gettext("by %s") % by)
        elif name == "enable":
            enable(endpoint, missed=given["missed"])
        elif name == "replay":
            replay(endpoint, given["offset"])
        elif (position := skip(endpoint)) is None:
            done, level = gettext("There is nothing to skip any more."), messages.WARNING
        else:
            done = gettext("Position %d is skipped.") % position
        self.log_change(request, endpoint, f"{name} {given}" if given else name)
        if answer is None:
            self.message_user(request, done, level)
        return answer

    def _secret_page(self, request: HttpRequest, endpoint: Endpoint, secret: str) -> HttpResponse:
        page = self._page(request, "secret", title=gettext("The secret"), endpoint=endpoint, secret=secret)
        page["Cache-Control"] = "no-store"
        return page

    def _page(self, request: HttpRequest, name: str, **context: Any) -> HttpResponse:
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/django_eventstore/endpoint/{name}.html",
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
        )

    def _url(self, view: str, *arguments: object) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"
        return reverse(name, args=arguments, current_app=self.admin_site.name)


def _using() -> str:
    return router.db_for_write(EventEntry)
