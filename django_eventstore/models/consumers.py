"""Where the consumers stand, who works for them, and what stopped them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import DatabaseNow, ExactCharField

__all__ = ["ConsumerOffset", "ConsumerState", "Heartbeat", "Lease"]


class ConsumerOffset(models.Model):
    """A progress row: insert-only, the newest of the highest token wins.

    A row that is updated again and again gets slower under a long open transaction; rows that are only added do not. The
    holder of the lease removes old ones. Token 0 marks where a consumer starts; of several, the lowest offset counts.
    """

    consumer = ExactCharField(_("consumer"), max_length=150)
    offset = models.BigIntegerField(_("offset"))
    epoch = models.PositiveIntegerField(_("epoch"))
    token = models.BigIntegerField()
    at = models.DateTimeField(_("at"), db_default=DatabaseNow())

    class Meta:
        db_table = "eventstore_consumer_offset"
        indexes = (models.Index(fields=("consumer", "token", "id"), name="eventstore_offset_newest"),)

    def __str__(self) -> str:
        return f"{self.consumer} {self.offset}"


class Lease(models.Model):
    """Who delivers for a consumer, until when by the database's clock, and the fencing token of this tenure."""

    consumer = ExactCharField(max_length=150, primary_key=True)
    owner = models.CharField(max_length=200, blank=True)
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "eventstore_lease"

    def __str__(self) -> str:
        return f"{self.consumer} {self.owner} {self.token}"


class ConsumerState(models.Model):
    """What keeps a consumer from running: an operator's pause, or the failure it waits for."""

    consumer = ExactCharField(_("consumer"), max_length=150, primary_key=True)
    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True)
    paused_reason = models.CharField(_("paused because"), max_length=500, blank=True, default="")
    failed_at = models.DateTimeField(_("failed at"), null=True, blank=True)
    failed_position = models.BigIntegerField(_("failed position"), null=True, blank=True)
    """The event that failed; None while the sender as a whole is unavailable."""
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.TextField(_("error"), blank=True, default="")
    retry_at = models.DateTimeField(_("retry at"), null=True, blank=True)

    class Meta:
        db_table = "eventstore_consumer_state"
        verbose_name = _("consumer")
        verbose_name_plural = _("consumers")

    def __str__(self) -> str:
        return str(self.consumer)


class Heartbeat(models.Model):
    """When something was last seen at work: ``worker`` (a forward task ran), ``beat`` (the beat had sent one)."""

    name = models.CharField(max_length=50, primary_key=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "eventstore_heartbeat"

    def __str__(self) -> str:
        return f"{self.name} {self.at}"
