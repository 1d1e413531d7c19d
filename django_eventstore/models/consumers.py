"""Where the consumers stand, who works for them, and what keeps them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import DatabaseNow, ExactCharField

__all__ = ["ConsumerOffset", "ConsumerState", "Heartbeat", "InboxKey", "Lease", "SlotOffset"]


class ConsumerOffset(models.Model):
    """A progress row: insert-only, the newest of the highest token wins.

    A row that is updated again and again gets slower under a long open transaction; rows that are only added do not. The
    holder of the lease removes old ones. Token 0 marks where a consumer starts; of several, the lowest offset counts.
    """

    consumer = ExactCharField(_("consumer"), max_length=150)
    partition = models.PositiveSmallIntegerField(_("partition"), db_default=0)
    offset = models.BigIntegerField(_("offset"))
    epoch = models.PositiveIntegerField(_("epoch"))
    token = models.BigIntegerField()
    at = models.DateTimeField(_("at"), db_default=DatabaseNow())

    class Meta:
        db_table = "eventstore_consumer_offset"
        indexes = (models.Index(fields=("consumer", "partition", "token", "id"), name="eventstore_offset_newest"),)

    def __str__(self) -> str:
        return f"{self.consumer} {self.offset}"


class SlotOffset(models.Model):
    """A slot that is ahead of its partition, since another grouping of the slots brought it there.

    Its events up to ``offset`` were delivered; the row goes when the partition has passed it.
    """

    pk = models.CompositePrimaryKey("consumer", "slot")
    consumer = ExactCharField(max_length=150)
    slot = models.PositiveSmallIntegerField()
    offset = models.BigIntegerField()

    class Meta:
        db_table = "eventstore_slot_offset"

    def __str__(self) -> str:
        return f"{self.consumer} slot {self.slot} {self.offset}"


class Lease(models.Model):
    """Who delivers for a partition of a consumer, until when by the database's clock, and the tenure's fencing token."""

    pk = models.CompositePrimaryKey("consumer", "partition")
    consumer = ExactCharField(max_length=150)
    partition = models.PositiveSmallIntegerField(default=0)
    owner = models.CharField(max_length=200, blank=True)
    """Empty when the last worker let go of it; the name of one that is over its time and has not."""
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "eventstore_lease"

    def __str__(self) -> str:
        return f"{self.consumer} {self.partition} {self.owner} {self.token}"


class ConsumerState(models.Model):
    """What is decided about a consumer and what keeps it: its partitions, a pause, the sender that it waits for."""

    consumer = ExactCharField(_("consumer"), max_length=150, primary_key=True)
    partitions = models.PositiveSmallIntegerField(_("partitions"), default=1)
    events = models.TextField(_("events"), blank=True, default="")
    """The filter it runs with, as a JSON list, so that a change of it is noticed."""
    replay_until = models.BigIntegerField(_("replay until"), default=0)
    """The last position that had been delivered when the offset was moved back: up to it, deliveries are repeats."""
    replay_except = models.TextField(_("replay except"), blank=True, default="")
    """The events below it that had not been, as JSON: they had failed."""
    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True)
    paused_reason = models.CharField(_("paused because"), max_length=500, blank=True, default="")
    waiting_since = models.DateTimeField(_("waiting since"), null=True, blank=True)
    """When its sender became unavailable."""
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.TextField(_("error"), blank=True, default="")
    retry_at = models.DateTimeField(_("retry at"), null=True, blank=True)

    class Meta:
        db_table = "eventstore_consumer_state"
        verbose_name = _("consumer")
        verbose_name_plural = _("consumers")

    def __str__(self) -> str:
        return str(self.consumer)


class InboxKey(models.Model):
    """Something that was done, so that it is not done again: see ``once()``."""

    pk = models.CompositePrimaryKey("scope", "key")
    scope = ExactCharField(max_length=150)
    key = ExactCharField(max_length=200)
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        db_table = "eventstore_inbox_key"
        indexes = (models.Index(fields=("at",), name="eventstore_inbox_at"),)

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"


class Heartbeat(models.Model):
    """When something was last seen at work: ``worker`` (a forward task ran), ``beat`` (it had sent one), ``follower``."""

    name = models.CharField(max_length=50, primary_key=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "eventstore_heartbeat"

    def __str__(self) -> str:
        return f"{self.name} {self.at}"
