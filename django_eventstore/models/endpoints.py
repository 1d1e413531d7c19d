"""Who gets webhooks, how far each is, and what became of the last tries."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from ..events import validate_pattern
from .fields import DatabaseNow, ExactCharField

__all__ = ["Endpoint", "EndpointAttempt"]


def validate_patterns(text: str) -> None:
    """Raise ValidationError unless each line is a pattern of event types, and there is one."""
    patterns = text.split()
    if not patterns:
        raise ValidationError(_("Name the events, one line each; * stands for all."))
    for pattern in patterns:
        try:
            validate_pattern(pattern)
        except ValueError as error:
            raise ValidationError(str(error)) from error


def validate_scheme(url: str) -> None:
    """Raise ValidationError for what no page may make a link of. What else a URL must be the sender's options say."""
    if not url.startswith(("https://", "http://")):
        raise ValidationError(_("A URL begins with https:// or http://."))


class Endpoint(models.Model):
    """A URL that one consumer of webhooks sends events to.

    While ``offset`` is NULL the endpoint goes along with its consumer, and has what the consumer has. An endpoint that
    fails or is slow gets an offset of its own, and is caught up from the log by it. See ``django_eventstore.webhooks``.
    """

    consumer = ExactCharField(_("consumer"), max_length=150, default="webhooks")
    url = models.CharField(_("URL"), max_length=2_000, validators=[validate_scheme])
    description = models.CharField(_("description"), max_length=200, blank=True, default="")
    events = models.TextField(
        _("events"),
        default="*",
        validators=[validate_patterns],
        help_text=_("One line each: a type, all types under a prefix (orders.*), or * for all."),
    )
    secret = models.TextField(editable=False)
    """Encrypted."""
    previous_secret = models.TextField(editable=False, blank=True, default="")
    """The one before, encrypted; it signs as well until ``previous_until``."""
    previous_until = models.DateTimeField(_("previous secret signs until"), null=True, blank=True, editable=False)
    active = models.BooleanField(_("active"), default=True)
    disabled_at = models.DateTimeField(_("disabled at"), null=True, blank=True)
    disabled_reason = models.CharField(_("disabled because"), max_length=300, blank=True, default="")
    offset = models.BigIntegerField(_("own offset"), null=True, blank=True)
    epoch = models.PositiveIntegerField(_("epoch"), null=True, blank=True)
    """The epoch that the offset was read in."""
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True)
    attempts = models.PositiveIntegerField(_("failed attempts"), default=0)
    """Since the last success."""
    problem = models.CharField(_("problem"), max_length=300, blank=True, default="")
    retry_at = models.DateTimeField(_("retry at"), null=True, blank=True)
    milliseconds = models.PositiveIntegerField(_("milliseconds"), default=0)
    """What its answers took on average when it was last sent to by its own offset."""
    claim = models.BigIntegerField(default=0, editable=False)
    """Whose worker sends to it by its own offset: a number drawn for each claim."""
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), db_default=DatabaseNow())

    class Meta:
        db_table = "eventstore_endpoint"
        verbose_name = _("webhook endpoint")
        verbose_name_plural = _("webhook endpoints")
        indexes = (models.Index(fields=("consumer", "active", "offset"), name="eventstore_endpoint_of"),)

    def __str__(self) -> str:
        return f"{self.consumer} {self.pk}"

    @property
    def patterns(self) -> tuple[str, ...]:
        """The event filter as a consumer has one."""
        return tuple(self.events.split())


class EndpointAttempt(models.Model):
    """One of the last tries of an endpoint, for those who look after it. Nothing depends on these rows."""

    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="last_attempts"
    )
    event_id = models.UUIDField(_("event id"))
    type = ExactCharField(_("type"), max_length=150)
    position = models.BigIntegerField(_("position"), null=True)
    """NULL: an event that was made up for a test."""
    at = models.DateTimeField(_("at"))
    status = models.PositiveSmallIntegerField(_("status"), null=True)
    """Of the answer; NULL when there was none."""
    milliseconds = models.PositiveIntegerField(_("milliseconds"))
    problem = models.CharField(_("problem"), max_length=300, blank=True, default="")

    class Meta:
        db_table = "eventstore_endpoint_attempt"
        verbose_name = _("attempt of a webhook")
        verbose_name_plural = _("attempts of webhooks")
        indexes = (models.Index(fields=("endpoint", "id"), name="eventstore_attempt_of"),)

    def __str__(self) -> str:
        return f"{self.endpoint_id} {self.event_id} {self.status}"
