"""The event that is recorded, of 300 bytes as JSON, and a million stored entries of it made by the database itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from uuid import UUID

from django.db import connections, transaction

from django_eventstore import event
from django_eventstore.events import encode
from django_eventstore.store.sequencing import sequence
from tests.shop.models import Counter

COMMON = "benchmarks.Common"
"""The type of every 20th entry that `load` makes with ``mixed=True``,"""
RARE = "benchmarks.Rare"
"""and that of every 10,000th."""

STREAMS = 1_000
FIRST_ORDER = 10**12
ORDINARY = "benchmarks.OrderShipped"


@event(ORDINARY, version=1)
@dataclass(frozen=True)
class OrderShipped:
    order_id: int
    customer_id: UUID
    shipped_at: datetime
    total: Decimal
    carrier: str
    address: str
    items: list[int]
    gift: bool


def order_shipped(order_id: int) -> OrderShipped:
    """The event of one order; its JSON has 300 bytes."""
    return OrderShipped(
        order_id=FIRST_ORDER + order_id,
        customer_id=UUID(int=0x0192F0C1_7A3B_7C44_9D55_000000000000 + order_id),
        shipped_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone.utc),
        total=Decimal("1249.90"),
        carrier="Post & Parcel",
        address="Ada Example, 42 Long Street, 10115 Sampletown",
        items=[4711, 4712, 4713, 4714, 4715],
        gift=False,
    )


def payload_of(order: OrderShipped) -> str:
    """As record() stores it."""
    return encode(order, max_bytes=1_000_000)


def counter_row(*, using: str = "default") -> Counter:
    """The row that a transaction changes before it records."""
    counter: Counter = Counter.objects.using(using).get_or_create(name="benchmarks")[0]
    return counter


def begin_log(*, using: str = "default") -> None:
    """Without a tick the first pass is a rebase, which is not what is measured."""
    counter_row(using=using)
    catch_up(using=using)


def catch_up(*, using: str = "default") -> int:
    """Passes until everything committed has its position; how many entries they numbered."""
    numbered = 0
    while True:
        done = sequence(using)
        numbered += done.numbered
        if done.reached:
            return numbered
        if not done.more:
            raise AssertionError(f"a pass was refused or did not get its lock: {done}")


def load(count: int, *, transactions: int = 1, mixed: bool = False) -> None:
    """Commit ``count`` entries, made on the server: no client stands between."""
    each = -(-count // transactions)
    for first in range(1, count + 1, each):
        with transaction.atomic():
            insert(first, min(first + each - 1, count), mixed=mixed)


def insert(first: int, last: int, *, mixed: bool = False, using: str = "default") -> None:
    """INSERT ... SELECT of one entry for each number, in the open transaction if there is one."""
    vendor = connections[using].vendor
    numbers, event_id, now = _SOURCES[vendor]
    # Behind the parameters a doubled percent sign is one, on every driver.
    kind = f"CASE WHEN n %% 10000 = 0 THEN '{RARE}' WHEN n %% 20 = 1 THEN '{COMMON}' ELSE %s END" if mixed else "%s"
    payload, stream = _joined(vendor, "%s", f"{FIRST_ORDER} + n", "%s"), _joined(vendor, "'order-'", f"n %% {STREAMS}")
    before, after = payload_of(order_shipped(0)).split(str(FIRST_ORDER))
    with connections[using].cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventstore_entry (event_id, type, version, content_type, payload, stream, metadata, timestamp) "
            f"SELECT {event_id}, {kind}, 1, 'application/json', {payload}, {stream}, '{{}}', {now} "
            f"FROM {numbers.format(first=first, last=last)} ORDER BY n",
            [ORDINARY, before, after],
        )
        if cursor.rowcount != last - first + 1:
            raise AssertionError(f"{cursor.rowcount} entries instead of {last - first + 1}")


# By vendor: a table of the numbers n, an event id, and the time.
_SOURCES = {
    "postgresql": ("generate_series({first}, {last}) AS numbers(n)", "gen_random_uuid()", "now()"),
    "mysql": ("(SELECT seq AS n FROM seq_{first}_to_{last}) AS numbers", "UUID()", "UTC_TIMESTAMP(6)"),
    "sqlite": (
        (
            "(WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}) "
            "SELECT n FROM numbers)"
        ),
        "lower(hex(randomblob(16)))",
        "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
    ),
}


def _joined(vendor: str, *parts: str) -> str:
    return f"CONCAT({', '.join(parts)})" if vendor == "mysql" else " || ".join(f"({part})" for part in parts)


def settle(vendor: str) -> None:
    """What the server would do later by itself is done now, so that no measurement meets it."""
    with connections["default"].cursor() as cursor:
        if vendor == "postgresql":
            cursor.execute("VACUUM (ANALYZE)")
            cursor.execute("CHECKPOINT")
        elif vendor == "mariadb":
            cursor.execute("ANALYZE TABLE eventstore_entry, eventstore_position, eventstore_pending")
            cursor.fetchall()
        else:
            cursor.execute("ANALYZE")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
