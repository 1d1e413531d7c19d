"""The log: the order of the entries."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .entries import EventEntry
from .fields import ExactCharField

__all__ = ["EventType", "LogPosition"]


class EventType(models.Model):
    """A type name that occurs in the log, filled by the sequencer."""

    name = ExactCharField(_("name"), max_length=150, unique=True)

    class Meta:
        db_table = "eventstore_type"
        verbose_name = _("event type")
        verbose_name_plural = _("event types")

    def __str__(self) -> str:
        return str(self.name)


class LogPosition(models.Model):
    """One place in the log: 1, 2, 3, … without holes. Written by the sequencer alone, never changed.

    No database foreign keys: they make a pass 2.8 times slower and let it wait for whoever locks an entry.
    """

    position = models.BigAutoField(primary_key=True)
    entry = models.OneToOneField(
        EventEntry, on_delete=models.DO_NOTHING, db_constraint=False, related_name="log_position"
    )
    type = models.ForeignKey(
        EventType, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    slot = models.PositiveSmallIntegerField()
    """0 to 63, from the stream: stable within one log; partitions of a consumer are groups of slots."""

    class Meta:
        db_table = "eventstore_position"
        indexes = (models.Index(fields=("type", "position"), name="eventstore_position_type"),)

    def __str__(self) -> str:
        return str(self.position)
