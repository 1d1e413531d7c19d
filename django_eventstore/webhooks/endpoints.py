"""What is done to endpoints: registered, given new secrets, tried out, stopped, started, set back and forth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.db.models import F, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.module_loading import import_string

from ..consumers import Consumer, OffsetStore, declared_consumer, declared_consumers
from ..events import selects
from ..models import Endpoint, EventEntry
from ..models.fields import DatabaseNow
from ..store import EventStore, log_state
from .posting import Item, Try
from .sender import WebhookSender
from .signing import new_secret
from .standings import FREE, WELL
from .targets import parse_url
from .vault import encrypt

__all__ = [
    "create_endpoint",
    "disable",
    "enable",
    "give_secret",
    "place",
    "replay",
    "rotate_secret",
    "send_test_event",
    "skip",
    "validate_endpoint",
    "webhook_consumers",
]

OVERLAP = timedelta(days=1)
TEST_TYPE = "webhooks.Test"


def create_endpoint(
    url: str, *, events: Sequence[str] = ("*",), consumer: str = "webhooks", description: str = ""
) -> tuple[Endpoint, str]:
    """Register an endpoint. Returns it with its secret, which cannot be shown again.

    It gets the events after the consumer's offset. Raises ValidationError for a URL or events that are not allowed,
    UnknownConsumer, and ImproperlyConfigured without ``cryptography``.
    """
    endpoint = Endpoint(consumer=consumer, url=url, events="\n".join(events), description=description)
    secret = give_secret(endpoint)
    endpoint.full_clean()
    validate_endpoint(endpoint)
    place(endpoint)
    endpoint.save(using=_using())
    return endpoint, secret


def give_secret(endpoint: Endpoint) -> str:
    """Give one that is not saved yet its first secret, and return it."""
    secret = new_secret()
    endpoint.secret = encrypt(secret)
    return secret


def place(endpoint: Endpoint) -> None:
    """Let one that is not saved yet begin after its consumer's offset. A batch that is on its way has begun without it."""
    offsets = OffsetStore(_using())
    offsets.register([declared_consumer(endpoint.consumer)])  # one that nobody has seen yet begins here
    progress = offsets.load(endpoint.consumer)
    if progress is not None:
        endpoint.offset, endpoint.epoch = progress.offset, progress.epoch


def validate_endpoint(endpoint: Endpoint) -> None:
    """Raise ValidationError unless the options of its consumer's sender allow the URL.

    Its addresses are looked at each time that it is connected to, and not here, where they say nothing about tomorrow.
    """
    try:
        parse_url(endpoint.url, _sender_of(endpoint.consumer).rules)
    except ValueError as error:
        raise ValidationError({"url": str(error)}) from error


def webhook_consumers() -> dict[str, Consumer]:
    """The declared consumers whose sender sends webhooks, by name."""
    return {name: consumer for name, consumer in declared_consumers().items() if _is_ours(consumer)}


def rotate_secret(endpoint: Endpoint, *, overlap: timedelta = OVERLAP) -> str:
    """Give it a new secret, and return it; it cannot be shown again. The one before signs as well for ``overlap``."""
    if overlap < timedelta(0):
        raise ValueError(f"overlap must not be negative, got {overlap!r}.")
    secret = new_secret()
    with transaction.atomic(using=_using()):
        row = _row(endpoint).select_for_update().get()
        _row(endpoint).update(
            secret=encrypt(secret), previous_secret=row.secret, previous_until=timezone.now() + overlap
        )
    return secret


def disable(endpoint: Endpoint, *, reason: str = "") -> None:
    """Send it nothing more. Where it stands is kept, so that enable() can go on from there."""
    progress = OffsetStore(_using()).load(endpoint.consumer)
    offset, epoch = (progress.offset, progress.epoch) if progress is not None else (0, None)
    _row(endpoint).update(
        active=False,
        disabled_at=DatabaseNow(),
        disabled_reason=reason[:300],
        # What it has got of a batch that is on its way comes again.
        offset=Coalesce(F("offset"), Value(offset)),
        epoch=Coalesce(F("epoch"), Value(epoch, output_field=models.IntegerField())),
        **FREE,
    )


def enable(endpoint: Endpoint, *, missed: bool = True) -> None:
    """Send to it again, at once. ``missed``: also what it has missed since; else from the consumer's offset on."""
    values: dict[str, int | None] = {}
    if not missed:
        values = {"offset": None, "epoch": None}
        progress = OffsetStore(_using()).load(endpoint.consumer)
        if progress is not None:  # a batch that is on its way has begun without it
            values = {"offset": progress.offset, "epoch": progress.epoch}
    _row(endpoint).update(active=True, disabled_at=None, disabled_reason="", milliseconds=0, **WELL, **FREE, **values)


def replay(endpoint: Endpoint, offset: int) -> None:
    """Send it again, or for the first time, what it wants after this offset of the log."""
    state = log_state(_using())
    if not 0 <= offset <= state.head:
        raise ValueError(f"offset must be from 0 to {state.head}, the end of the log, got {offset}.")
    _row(endpoint).update(offset=offset, epoch=state.epoch, **WELL, **FREE)


def skip(endpoint: Endpoint) -> int | None:
    """Pass over the event that a failing endpoint does not accept. Returns its position; None when there is none to skip."""
    row = _row(endpoint).filter(offset__isnull=False, attempts__gt=0).first()
    if row is None:
        return None
    wanted = declared_consumer(row.consumer).events
    position = _next_position(row, wanted)
    if position is None:
        return None
    changed = _row(endpoint).filter(offset=row.offset).update(offset=position, retry_at=None, **FREE)
    return position if changed else None


def send_test_event(endpoint: Endpoint) -> Try:
    """Post an event of type ``webhooks.Test`` that is in no log, and say what came of it. It is not tried again."""
    sender = _sender_of(endpoint.consumer)
    state = log_state(_using())
    entry = _TestEntry(event_id=uuid4(), timestamp=timezone.now())
    try:
        wire = sender.format.writer(log=state.log, epoch=state.epoch)(entry)
        return sender.try_out(endpoint, Item.of(entry, wire), using=_using())
    finally:
        sender.close()


@dataclass(kw_only=True)
class _TestEntry:
    """What a sender reads of an entry."""

    event_id: UUID
    timestamp: datetime
    type: str = TEST_TYPE
    version: int = 1
    content_type: str = "application/json"
    payload: str = '{"test":true}'
    stream: str = ""
    stream_version: int | None = None
    metadata: str = "{}"
    correlation_id: str | None = None
    causation_id: str | None = None
    subject: str | None = None
    position: int | None = None
    is_replay: bool = False


def _next_position(row: Endpoint, wanted: Iterable[str]) -> int | None:
    """Of the first entry after the endpoint's offset that it and its consumer want."""
    offset, patterns = row.offset or 0, tuple(wanted)
    while True:
        page = EventStore(_using()).get(offset, 100, types=row.patterns)
        for entry in page.entries:
            if selects(patterns, entry.type):
                return entry.position
        if page.complete or page.next_offset == offset:
            return None
        offset = page.next_offset


def _sender_of(consumer: str) -> WebhookSender:
    """Raises UnknownConsumer, and ValidationError for a consumer that sends something else."""
    declared = declared_consumer(consumer)
    if not _is_ours(declared):
        raise ValidationError({"consumer": f"Consumer {consumer!r} sends no webhooks."})
    sender: WebhookSender = import_string(declared.sender)(**declared.options)
    return sender


def _is_ours(consumer: Consumer) -> bool:
    try:
        found = import_string(consumer.sender)
    except ImportError:  # named by a check
        return False
    return isinstance(found, type) and issubclass(found, WebhookSender)


def _row(endpoint: Endpoint) -> models.QuerySet[Endpoint]:
    rows: models.QuerySet[Endpoint] = Endpoint.objects.using(_using()).filter(pk=endpoint.pk)
    return rows


def _using() -> str:
    return router.db_for_write(EventEntry)
