"""What a user's code looks like to mypy. Checked, never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.checks import CheckMessage
from django.db import models, transaction
from django.http import HttpRequest
from django.test import TestCase, TransactionTestCase

from django_eventstore import (
    Batch,
    CapturingQuerySet,
    EventContext,
    EventEntry,
    EventForwarder,
    EventSender,
    EventStore,
    OffsetStore,
    Outcome,
    Page,
    arecord,
    capture,
    event,
    event_context,
    get_event_context,
    handles,
    record,
    suppressed,
    upcast,
)
from django_eventstore.consumers import (
    Progress,
    Standing,
    declared_consumer,
    discard,
    forget_keys,
    move,
    once,
    rename,
    retry,
    set_partitions,
    skip,
)
from django_eventstore.consumers import retire as retire_consumer
from django_eventstore.events import retire
from django_eventstore.exceptions import (
    ConcurrencyError,
    EpochChanged,
    EventStoreError,
    PermanentError,
    RetryAfter,
    Unavailable,
)
from django_eventstore.forwarding import Forwarded
from django_eventstore.inspection import FailureStatus, delivery_decisions, failed_deliveries, failure_status
from django_eventstore.models import FailedDelivery
from django_eventstore.recording import Changes, EventContextMiddleware, drain_after_commit
from django_eventstore.signals import events_committed
from django_eventstore.testing import (
    Drained,
    EntryList,
    EventStoreTestMixin,
    Failure,
    Faults,
    RecordingSender,
    adrain,
    assert_idempotent,
    assert_not_recorded,
    assert_recorded,
    captured_events,
    drain,
    freeze_forwarding,
)
from django_eventstore.webhooks import WebhookSender, create_endpoint, rotate_secret
from django_eventstore.webhooks import skip as skip_event


@event("orders.OrderCancelled", version=1)
@dataclass(frozen=True)
class OrderCancelled:
    order_id: int
    reason: str


# The decorator keeps the class what it is.
cancelled: OrderCancelled = OrderCancelled(order_id=1, reason="late")
order_id: int = cancelled.order_id


@event("sales.OrderCancelled", version=2, aliases=["orders.OrderCancelled2"])
@dataclass(frozen=True)
class Renamed:
    order: int


@upcast("sales.OrderCancelled", from_version=1)
def renamed_field(payload: dict[str, Any]) -> dict[str, Any]:
    return {"order": payload["order_id"]}


# The decorator keeps the function what it is.
upcasted: dict[str, Any] = renamed_field({})
retire("orders.OrderForgotten", reason="never used")


@upcast("sales.OrderCancelled", from_version="1")  # type: ignore[arg-type]
def wrong_version(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@upcast("sales.OrderCancelled", from_version=2)  # type: ignore[type-var]
def takes_no_payload(payload: int) -> int:
    return payload


class Order(models.Model):
    @transaction.atomic
    def cancel(self, reason: str) -> Sequence[EventEntry]:
        return record(OrderCancelled(order_id=1, reason=reason), stream=self)


def recording(order: Order, event_id: UUID) -> None:
    entries: Sequence[EventEntry] = record(
        cancelled, cancelled, stream="order-1", metadata={"actor": "ann"}, subject="7"
    )
    record("orders.OrderPlaced", {"order_id": 1}, stream=order, event_id=event_id, using="default")
    record(cancelled, stream=order, expected_version=3)
    position: int | None = entries[0].position
    payload: str = entries[0].payload
    del position, payload


async def recording_async() -> None:
    entries: Sequence[EventEntry] = await arecord(cancelled, stream="order-1")
    page: Page = await EventStore().aget(0, 10)
    saved: Sequence[EventEntry] = await EventStore("other").asave(cancelled)
    del entries, page, saved


def status_changed(invoice: Invoice, changes: Changes) -> tuple[str, dict[str, object]]:
    return "billing.StatusChanged", {"from": changes["status"].before, "tags": changes["tags"].added}


@capture(updated=status_changed, deleted=lambda invoice: None, fields=["status", "tags"])
class Invoice(models.Model):
    status = models.CharField(max_length=10)

    objects = CapturingQuerySet["Invoice"].as_manager()


# Decorated or called, the model stays what it is.
paid: list[str] = list(Invoice.objects.filter(status="paid").values_list("status", flat=True))
same: type[Order] = capture(Order, created=lambda order: cancelled)


def capturing(invoices: list[Invoice]) -> None:
    with suppressed(reason="import"):
        created: list[Invoice] = Invoice.objects.bulk_create(invoices)
    changed: int = Invoice.objects.filter(status="open").update(status="paid")
    suppressed()  # type: ignore[call-arg]
    capture(Order, created="placed")  # type: ignore[call-overload]
    del created, changed


@handles(OrderCancelled)
def refund(event: OrderCancelled, entry: EventEntry) -> None: ...


@handles("orders.*", name="log", consumer="log", transaction="batch", start="beginning")
def log(event: dict[str, object]) -> None: ...


def in_context(user: models.Model, run: UUID) -> None:
    with event_context(actor=user, correlation_id=run, metadata={"why": "import"}) as context:
        correlation_id: str | None = context.correlation_id
    with event_context(actor=lambda: user, causation_id="e-1", traceparent="00-…"):
        now: EventContext = get_event_context()
    now.correlation_id = "x"  # type: ignore[misc]
    event_context("ada")  # type: ignore[call-arg]
    event_context(correlation_id=7)  # type: ignore[arg-type]
    drain_after_commit(timeout=timedelta(seconds=1))
    del correlation_id


class TenantMiddleware(EventContextMiddleware):
    correlation_headers = ("X-Tenant-Request",)

    def actor(self, request: HttpRequest) -> object:
        return request.headers.get("X-Tenant")


@handles(OrderCancelled, mode="after_commit")
def tell(event: OrderCancelled) -> None: ...


@handles(OrderCancelled, mode="sync", start=7)
async def check(event: OrderCancelled) -> None: ...


@handles(OrderCancelled, max_attempts=3, on_parked="continue", replay=False)
def pay(event: OrderCancelled, entry: EventEntry) -> None:
    if entry.is_replay or not once(str(entry.event_id), scope="pay"):
        return
    if event.reason == "closed":
        raise PermanentError("The account is closed.")
    if event.reason == "busy":
        raise RetryAfter(timedelta(minutes=10))
    raise Unavailable("The bank does not answer.")


def handlers_stay_functions(entry: EventEntry) -> None:
    refund(cancelled, entry)
    refund(cancelled)  # type: ignore[call-arg]
    log(cancelled)  # type: ignore[arg-type]
    handles(OrderCancelled, mode="later")  # type: ignore[arg-type]
    handles(OrderCancelled, transaction="none")  # type: ignore[arg-type]
    handles(3)  # type: ignore[arg-type]
    handles(OrderCancelled, on_parked="stop")  # type: ignore[arg-type]
    RetryAfter(10)  # type: ignore[arg-type]


def reading() -> None:
    page = EventStore().get(offset=0, limit=100, types=["orders.*"], stream="order-1", epoch=1)
    entries: tuple[EventEntry, ...] = page.entries
    offset: int = page.next_offset
    head: int | None = page.head
    log_id: UUID = page.log
    complete: bool = page.complete
    page.next_offset = 7  # type: ignore[misc]
    EventStore().get(limit="100")  # type: ignore[arg-type]
    del entries, offset, head, log_id, complete


class PrintSender(EventSender):
    def __init__(self, *, prefix: str = "") -> None:
        self.prefix = prefix

    def send(self, batch: Batch) -> Outcome:
        refused: dict[int, BaseException] = {}
        for entry in batch.entries:
            text: str = entry.payload
            if entry.position is not None and not text:
                refused[entry.position] = ValueError()
        return Outcome(done=len(batch.entries), refused=refused)

    def check(self) -> list[CheckMessage]:
        return []


def sending() -> None:
    forwarder = EventForwarder("warehouse", sender=PrintSender(prefix="> "))
    forwarded: Forwarded = forwarder.get_and_send(most_events=10, longest=timedelta(seconds=1))
    delivered: int = forwarded.delivered
    progress: Progress | None = OffsetStore().load("warehouse")
    Outcome(3)  # type: ignore[call-arg]
    del delivered, progress


def operating() -> None:
    failures = failed_deliveries(consumer="warehouse", types=["orders.*"], using="default")
    status: FailureStatus = failure_status(failures[0])
    asked: int = retry(failures, by="ann", per_second=10)
    retry([failures[0]], by="ann", payload={"order_id": 1})
    skip(FailedDelivery.objects.filter(position=status.position), by="ann")
    discard(failures, by="ann", reason="orders of a bot")
    discard(failures, by="ann")  # type: ignore[call-arg]
    who: list[str] = [decision.by for decision in delivery_decisions(using="default")]
    before: int = move(declared_consumer("warehouse"), 0, using="default")
    set_partitions(declared_consumer("warehouse"), 4, using="default")
    standing: Standing = rename("depot", declared_consumer("warehouse"), using="default")
    offset: int = retire_consumer("depot", using="default").offset
    forgotten: int = forget_keys(older_than=timedelta(days=30))
    del asked, who, before, standing, offset, forgotten


def failing(order: Order) -> tuple[str, int, int | None]:
    try:
        record(cancelled, stream=order, expected_version=0)
    except ConcurrencyError as error:
        return error.stream, error.expected, error.actual
    except EpochChanged as error:
        return "", error.epoch, error.reader_epoch
    except EventStoreError:
        raise
    return "", 0, None


def listening(sender: object, using: str, entries: Sequence[EventEntry], **kwargs: object) -> None: ...


events_committed.connect(listening)


class CancelTests(EventStoreTestMixin, TestCase):
    def test_a_cancelled_order_is_refunded(self) -> None:
        order = Order()
        entries: EntryList = self.assert_recorded("orders.OrderCancelled", stream=order, reason="late")
        self.assert_not_recorded(OrderCancelled, stream="order-1", order_id=2)
        drained: Drained = self.drain(faults=Faults(crash=True))
        first: EventEntry = self.recorded_events.of(OrderCancelled)[0]
        self.assert_idempotent(lambda: len(entries), consumers=[refund, "log"], repeat="crash")
        self.assert_idempotent(repeat="twice")  # type: ignore[arg-type]
        del drained, first

    @classmethod
    def setUpTestData(cls) -> None:
        cls.drain()


class CommitTests(EventStoreTestMixin, TransactionTestCase):
    eventstore_using = "other"


@freeze_forwarding()
def testing_with_functions(order: Order) -> int:
    with captured_events(using="other") as events, freeze_forwarding():
        entries: EntryList = assert_recorded(cancelled, within=events, times=1)
    assert_not_recorded("orders.*", metadata={"actor": "ann"}, fields={"times": 1}, using="other")
    sender = RecordingSender([None, 3, ConnectionError()], refuse={"orders.*": ValueError()})
    drained = drain(consumers=refund, senders={"log": sender}, raise_errors=False, until_quiet=False)
    sent: RecordingSender = drained.sent["warehouse"]
    failures: tuple[Failure, ...] = drained.failures
    assert_idempotent()
    drain(senders="none")  # type: ignore[arg-type]
    Faults(crash=1, typo=True)  # type: ignore[call-arg, arg-type]
    del entries, failures
    return len(sent.entries)


number_sent: int = testing_with_functions(Order())


async def testing_async() -> Drained:
    return await adrain(faults=Faults.all(seed=3))


def register_and_look_after_an_endpoint(url: str) -> str:
    endpoint, secret = create_endpoint(url, events=["orders.*"], description="Till")
    sender: EventSender = WebhookSender(timeout=timedelta(seconds=5), ports=[443], headers={"X-Tenant": "7"})
    sender.tend("webhooks", events=("orders.*",), using="default")
    rotated: str = rotate_secret(endpoint, overlap=timedelta(hours=1))
    skipped: int | None = skip_event(endpoint)
    return f"{secret} {rotated} {skipped}"
