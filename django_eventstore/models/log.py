"""Which log this is, which history of it, and what each database's sequencer remembers."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import DatabaseNow

__all__ = ["Epoch", "Head", "Pending", "Shown", "Tick"]


class Epoch(models.Model):
    """One history of the log. The newest number is in force; every row carries the same log id."""

    number = models.PositiveIntegerField(_("number"), primary_key=True)
    log = models.UUIDField(_("log"))
    began_after = models.BigIntegerField(_("began after"))
    """The last position this history shares with the one before it."""
    began_at = models.DateTimeField(_("began at"), db_default=DatabaseNow())
    reason = models.CharField(_("reason"), max_length=200)

    class Meta:
        db_table = "eventstore_epoch"
        verbose_name = _("epoch")
        verbose_name_plural = _("epochs")

    def __str__(self) -> str:
        return f"{self.log} epoch {self.number}"


class Tick(models.Model):
    """PostgreSQL: how far the log is sequenced, one row per pass that did something; the newest counts."""

    head = models.BigIntegerField()
    snapshot = models.TextField()
    """The log holds what had committed as of this snapshot …"""
    target = models.TextField(null=True)
    """… and is on its way to this one, when one pass could not take all of the difference,"""
    cuts = models.TextField(null=True)
    """in windows of ids that end here; the first number is the last id taken."""
    cluster = models.TextField()
    """System identifier and table, so that a moved log is recognised."""
    timeline = models.TextField()
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        db_table = "eventstore_tick"

    def __str__(self) -> str:
        return f"{self.head} {self.snapshot}"


class Pending(models.Model):
    """MariaDB: entries that have no position yet; written by the trigger, removed by the sequencer."""

    entry_id = models.BigIntegerField(primary_key=True)

    class Meta:
        db_table = "eventstore_pending"

    def __str__(self) -> str:
        return str(self.entry_id)


class Head(models.Model):
    """MariaDB: the last position given out; its one row is the sequencer's lock."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    head = models.BigIntegerField()
    barrier = models.BigIntegerField(db_default=0)
    """Counted up so that a pass with nothing to write still waits for the log of an earlier one."""

    class Meta:
        db_table = "eventstore_head"

    def __str__(self) -> str:
        return str(self.head)


class Shown(models.Model):
    """MariaDB: the last position that is known to survive a crash; readers stop here."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    position = models.BigIntegerField()

    class Meta:
        db_table = "eventstore_shown"

    def __str__(self) -> str:
        return str(self.position)
