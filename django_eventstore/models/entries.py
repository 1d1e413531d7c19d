"""The events themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..events import decode_event, decode_mapping
from ..exceptions import AppendOnlyError
from .fields import DatabaseNow, ExactCharField, ExactTextField, Uuid7

__all__ = [
    "MAX_CORRELATION",
    "MAX_STREAM",
    "MAX_SUBJECT",
    "EventEntry",
    "EventEntryQuerySet",
    "EventKey",
    "StreamVersion",
]

MAX_STREAM = 200
MAX_SUBJECT = 200
MAX_CORRELATION = 100


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    raise AppendOnlyError()


class EventEntryQuerySet(models.QuerySet["EventEntry"]):
    """Reads and inserts; what would change or remove an entry raises AppendOnlyError."""

    def update(self, **kwargs: Any) -> NoReturn:
        _refuse()

    async def aupdate(self, **kwargs: Any) -> NoReturn:
        _refuse()

    def delete(self) -> NoReturn:
        _refuse()

    async def adelete(self) -> NoReturn:
        _refuse()

    def bulk_update(self, objs: Iterable[EventEntry], fields: Iterable[str], batch_size: int | None = None) -> NoReturn:
        _refuse()

    async def abulk_update(
        self, objs: Iterable[EventEntry], fields: Iterable[str], batch_size: int | None = None
    ) -> NoReturn:
        _refuse()

    def update_or_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse()

    async def aupdate_or_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse()

    def bulk_create(self, objs: Iterable[EventEntry], *args: Any, **kwargs: Any) -> list[EventEntry]:
        if kwargs.get("update_conflicts"):
            _refuse()
        return super().bulk_create(objs, *args, **kwargs)

    def _raw_delete(self, using: str | None) -> NoReturn:
        _refuse()


class EventEntry(models.Model):
    """One domain event as it is stored: created and read, never changed.

    On PostgreSQL the table has one more column, ``xid``, which belongs to the sequencer alone.
    """

    event_id = models.UUIDField(_("event id"), db_default=Uuid7())
    type = ExactCharField(_("type"), max_length=150)
    version = models.PositiveIntegerField(_("version"), db_default=1)
    content_type = ExactCharField(_("content type"), max_length=100, db_default="application/json")
    payload = ExactTextField(_("payload"))
    """The event as JSON text, byte for byte as it was recorded."""
    stream = ExactCharField(_("stream"), max_length=MAX_STREAM, blank=True, db_default="")
    """What the event is about, the unit of ordering; empty when it is about nothing in particular."""
    stream_version = models.BigIntegerField(_("stream version"), null=True, blank=True)
    """1, 2, 3, … within the stream, when the stream is recorded with ``expected_version``."""
    metadata = ExactTextField(_("metadata"), db_default="{}")
    """A JSON object about the event: who, why, from where."""
    timestamp = models.DateTimeField(_("timestamp"), db_default=DatabaseNow())
    correlation_id = ExactCharField(_("correlation id"), max_length=MAX_CORRELATION, null=True, blank=True)
    causation_id = ExactCharField(_("causation id"), max_length=MAX_CORRELATION, null=True, blank=True)
    subject = ExactCharField(_("subject"), max_length=MAX_SUBJECT, null=True, blank=True)
    """Whose data it is, for erasure."""

    objects = EventEntryQuerySet.as_manager()

    position: int | None = None
    """The place in the log, on entries that were read from the log; None on entries just recorded."""
    slot: int | None = None
    """0 to 63, by its stream: the unit that partitions are made of; on entries that were read from the log."""
    is_replay: bool = False
    """Whether a consumer that was moved back has had this event before."""

    class Meta:
        db_table = "eventstore_entry"
        verbose_name = _("event")
        verbose_name_plural = _("events")
        # Indexes "where set" differ by database and are made in sql/0001_log.*.sql.
        indexes = (models.Index(fields=("stream", "id"), name="eventstore_entry_stream"),)

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert a new entry; on a stored one raises AppendOnlyError. Events are recorded with record()."""
        if not self._state.adding:
            _refuse()
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse()

    async def adelete(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse()

    @property
    def data(self) -> dict[str, Any]:
        """The payload as plain Python values, in the form it was recorded in."""
        return decode_mapping(self.payload, type=self.type, version=self.version)

    @property
    def event(self) -> object:
        """The event as an instance of its class, in the form of today; upcasters have run.

        Raises UnknownEventType when no class has this type name or alias, and EventDecodingError.
        """
        return decode_event(self.type, self.version, self.payload)


class StreamVersion(models.Model):
    """One row per versioned event: the primary key is what makes optimistic concurrency exact."""

    pk = models.CompositePrimaryKey("stream", "version")
    stream = ExactCharField(max_length=MAX_STREAM)
    version = models.BigIntegerField()

    class Meta:
        db_table = "eventstore_stream_version"

    def __str__(self) -> str:
        return f"{self.stream} {self.version}"


class EventKey(models.Model):
    """An event id that the caller supplied, so that recording it again is a no-op."""

    event_id = models.UUIDField(primary_key=True)
    entry = models.ForeignKey(
        EventEntry, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )

    class Meta:
        db_table = "eventstore_event_key"

    def __str__(self) -> str:
        return str(self.event_id)
