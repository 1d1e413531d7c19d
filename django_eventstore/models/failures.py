"""Deliveries that failed, and what operators decided about them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .entries import MAX_STREAM
from .fields import DatabaseNow, ExactCharField, ExactTextField

__all__ = ["DeliveryDecision", "DeliveryRequest", "DeliveryState", "FailedDelivery"]


class DeliveryState(models.TextChoices):
    """``trying``: begun by a careful worker; left behind, it says that the worker died, perhaps of it. ``blocked``: tried
    again at ``retry_at``. ``parked``: not tried again before somebody decides."""

    TRYING = "trying"
    BLOCKED = "blocked"
    PARKED = "parked"


class DeliveryRequest(models.TextChoices):
    """What an operator asks the holder of the lease to do."""

    RETRY = "retry"
    SKIP = "skip"
    DISCARD = "discard"


class FailedDelivery(models.Model):
    """An event that a consumer could not deliver.

    While it is ``blocking`` it is the head of its stream's queue: the queue is the log itself, from here to the consumer's
    offset, and is delivered in order after it. Only the holder of the lease changes what the delivery knows; operators
    write the request, and the holder acts on it between two batches.
    """

    consumer = ExactCharField(_("consumer"), max_length=150)
    position = models.BigIntegerField(_("position"))
    slot = models.PositiveSmallIntegerField(_("slot"))
    event_id = models.UUIDField(_("event id"))
    type = ExactCharField(_("type"), max_length=150)
    stream = ExactCharField(_("stream"), max_length=MAX_STREAM, blank=True, default="")
    state = models.CharField(_("state"), max_length=10, choices=DeliveryState.choices)
    blocking = models.BooleanField(_("blocks its stream"))
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    """Failures that count towards the most that are allowed; deadlocks and the like do not."""
    tries = models.PositiveIntegerField(_("tries"), default=0)
    """Failures of every kind since the event came up."""
    crashes = models.PositiveIntegerField(_("crashes"), default=0)
    """Tries that their worker did not survive, as far as is known."""
    error = models.TextField(_("error"), blank=True, default="")
    first_failed_at = models.DateTimeField(_("first failed at"), db_default=DatabaseNow())
    failed_at = models.DateTimeField(_("failed at"), db_default=DatabaseNow())
    retry_at = models.DateTimeField(_("retry at"), null=True, blank=True)
    edited_payload = ExactTextField(_("edited payload"), null=True, blank=True)
    """Delivered in place of the payload in the log, which stays as it is."""
    request = models.CharField(_("request"), max_length=10, choices=DeliveryRequest.choices, blank=True, default="")
    requested_by = models.CharField(_("requested by"), max_length=150, blank=True, default="")
    requested_reason = models.CharField(_("because"), max_length=500, blank=True, default="")

    class Meta:
        db_table = "eventstore_failed_delivery"
        verbose_name = _("failed delivery")
        verbose_name_plural = _("failed deliveries")
        constraints = (models.UniqueConstraint(fields=("consumer", "position"), name="eventstore_failed_delivery_one"),)

    def __str__(self) -> str:
        return f"{self.consumer} {self.position} {self.state}"


class DeliveryDecision(models.Model):
    """What was decided about a failed delivery, by whom and why; written when it is carried out, and kept."""

    consumer = ExactCharField(_("consumer"), max_length=150)
    position = models.BigIntegerField(_("position"))
    event_id = models.UUIDField(_("event id"))
    type = ExactCharField(_("type"), max_length=150)
    stream = ExactCharField(_("stream"), max_length=MAX_STREAM, blank=True, default="")
    decision = models.CharField(_("decision"), max_length=10)
    by = models.CharField(_("by"), max_length=150, blank=True, default="")
    reason = models.CharField(_("because"), max_length=500, blank=True, default="")
    edited_payload = ExactTextField(_("edited payload"), null=True, blank=True)
    at = models.DateTimeField(_("at"), db_default=DatabaseNow())

    class Meta:
        db_table = "eventstore_delivery_decision"
        verbose_name = _("delivery decision")
        verbose_name_plural = _("delivery decisions")
        indexes = (models.Index(fields=("consumer", "position"), name="eventstore_decision_of"),)

    def __str__(self) -> str:
        return f"{self.consumer} {self.position} {self.decision}"
