"""The consumers: where each stands and why, and the two things an operator does to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..consumers import pause, resume
from ..inspection import ConsumerStatus, consumer_statuses
from ..models import ConsumerState, EventEntry
from .read_only import ReadOnlyAdmin, preformatted

__all__ = ["ConsumerAdmin"]


@admin.register(ConsumerState)
class ConsumerAdmin(ReadOnlyAdmin):
    """Every declared consumer, also one that has no row, with what it waits for.

    Pausing and resuming need the permission to change consumers, and leave an entry in the admin's log.
    """

    fields = (
        "consumer",
        "state",
        "reason",
        "offset",
        "lag",
        "partitions",
        "blocked",
        "parked",
        "failing_since",
        "sender",
        "held_by",
        "paused_at",
        "waiting_since",
        "attempts",
        "retry_at",
        "readable_error",
    )
    readonly_fields = fields

    def may_operate(self, request: HttpRequest) -> bool:
        """Whether the user may pause and resume consumers."""
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename('change', self.opts)}")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._operate(request)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.opts.verbose_name_plural,
            "consumers": [(status, lag_text(status)) for status in consumer_statuses(_using())],
            "may_operate": self.may_operate(request),
            "failures_url": self._failures_url(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/django_eventstore/consumerstate/change_list.html", context)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ConsumerState | None:
        """Its row, or a new one where nothing has ever kept the consumer from running."""
        status = next((status for status in consumer_statuses(_using()) if status.name == object_id), None)
        if status is None:
            return None
        row: Any = ConsumerState.objects.using(_using()).filter(pk=object_id).first() or ConsumerState(
            consumer=object_id
        )
        row.status = status
        found: ConsumerState = row
        return found

    @admin.display(description=_("state"))
    def state(self, row: Any) -> str:
        return str(row.status.state)

    @admin.display(description=_("because"))
    def reason(self, row: Any) -> str:
        return str(row.status.reason)

    @admin.display(description=_("offset"))
    def offset(self, row: Any) -> int | None:
        offset: int | None = row.status.offset
        return offset

    @admin.display(description=_("lag"))
    def lag(self, row: Any) -> str:
        return lag_text(row.status)

    @admin.display(description=_("blocked"))
    def blocked(self, row: Any) -> int:
        blocked: int = row.status.blocked
        return blocked

    @admin.display(description=_("parked"))
    def parked(self, row: Any) -> int:
        parked: int = row.status.parked
        return parked

    @admin.display(description=_("failing since"), empty_value="–")
    def failing_since(self, row: Any) -> datetime | None:
        since: datetime | None = row.status.failing_since
        return since

    @admin.display(description=_("sender"))
    def sender(self, row: Any) -> str:
        return str(row.status.sender)

    @admin.display(description=_("held by"))
    def held_by(self, row: Any) -> str:
        return str(row.status.held_by)

    @admin.display(description=_("error"))
    def readable_error(self, row: ConsumerState) -> SafeString | str:
        return preformatted(row.error) if row.error else ""

    def _failures_url(self, request: HttpRequest) -> str | None:
        """The list of failed deliveries, for those who may see it."""
        if not request.user.has_perm(f"{self.opts.app_label}.view_faileddelivery"):
            return None
        return reverse(f"admin:{self.opts.app_label}_faileddelivery_changelist", current_app=self.admin_site.name)

    def _operate(self, request: HttpRequest) -> HttpResponse:
        if not self.may_operate(request):
            raise PermissionDenied
        action, names = request.POST.get("action"), request.POST.getlist("consumer")
        unknown = set(names) - {status.name for status in consumer_statuses(_using())}
        if action not in ("pause", "resume") or not names or unknown:
            self.message_user(
                request, gettext("Choose consumers, and whether to pause or resume them."), messages.ERROR
            )
        else:
            reason = request.POST.get("reason", "").replace("\0", "").strip()
            for name in dict.fromkeys(names):
                self._operate_one(request, name, action, reason or gettext("by %s") % request.user.get_username())
            done = gettext("Paused: %s") if action == "pause" else gettext("Resumed: %s")
            self.message_user(request, done % ", ".join(names), messages.SUCCESS)
        return HttpResponseRedirect(
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist", current_app=self.admin_site.name)
        )

    def _operate_one(self, request: HttpRequest, name: str, action: str, reason: str) -> None:
        with transaction.atomic(using=_using()):
            if action == "pause":
                pause(name, reason=reason, using=_using())
                message = f"Paused: {reason}"
            else:
                resume(name, using=_using())
                message = "Resumed"
            self.log_change(request, ConsumerState(consumer=name), message)


def lag_text(status: ConsumerStatus) -> str:
    """Events and seconds behind, as far as they are known."""
    if status.lag is None:
        return ""
    events = f"≥ {status.lag}" if status.lag_is_capped else str(status.lag)
    if status.lag_seconds is None:
        return gettext("%s events") % events
    return gettext("%(events)s events, %(seconds).0f s") % {"events": events, "seconds": status.lag_seconds}


def _using() -> str:
    return router.db_for_write(EventEntry)
