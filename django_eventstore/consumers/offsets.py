"""OffsetStore: where each consumer stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connections, router
from django.db.models import Max, Min

from ..exceptions import LeaseLost
from ..models import ConsumerOffset, EventEntry
from ..store import LogState, log_state, position_before
from .definition import Consumer

__all__ = ["OffsetStore", "Progress"]

# One statement: the row is written only while this worker's token is the newest, and shares the lease's row until the
# transaction ends, so that nobody takes over in between.
ADVANCE = (
    "INSERT INTO eventstore_consumer_offset (consumer, {partition}, {offset}, epoch, token) "
    "SELECT l.consumer, l.{partition}, %s, %s, l.token FROM eventstore_lease l "
    "WHERE l.consumer = %s AND l.{partition} = %s AND l.token = %s{lock}"
)
LOCKS = {"postgresql": " FOR SHARE", "mysql": " LOCK IN SHARE MODE", "sqlite": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A consumer's offset and the epoch it was read in."""

    offset: int
    epoch: int


class OffsetStore:
    """Loads and saves offsets on one database. Rows are only added; the newest of the highest token counts."""

    def __init__(self, using: str | None = None) -> None:
        self.using = using or router.db_for_write(EventEntry)

    def load(self, consumer: str, *, partition: int = 0) -> Progress | None:
        """Where the consumer stands, or one of its partitions; None when it has never been seen."""
        rows = ConsumerOffset.objects.using(self.using).filter(consumer=consumer, partition=partition)
        newest = rows.order_by("-token", "-id").values_list("offset", "epoch", "token").first()
        if newest is None:
            return None
        offset, epoch, token = newest
        if token == 0:
            # Several processes may have seen the consumer first at the same time: what all of them know is not missed.
            offset = rows.filter(token=0).aggregate(lowest=Min("offset"))["lowest"]
        return Progress(offset=offset, epoch=epoch)

    def register(self, consumers: Iterable[Consumer]) -> bool:
        """Fix where consumers start that have not been seen before. Returns whether there was one.

        The head is read before the existing rows: a position given out in between belongs to a transaction that ended
        after somebody else's row was there to be seen, so the start is never too late.
        """
        wanted = {consumer.name: consumer for consumer in consumers}
        if not self._unseen(wanted):  # mostly, and each tick asks
            return False
        state = log_state(self.using)
        unseen = self._unseen(wanted)
        ConsumerOffset.objects.using(self.using).bulk_create(
            ConsumerOffset(
                consumer=consumer.name,
                offset=self._start(consumer, state),
                epoch=state.epoch,
                token=0,
            )
            for consumer in unseen
        )
        return bool(unseen)

    def _unseen(self, consumers: Mapping[str, Consumer]) -> list[Consumer]:
        rows = ConsumerOffset.objects.using(self.using).filter(consumer__in=consumers)
        seen = set(rows.values_list("consumer", flat=True).distinct())
        return [consumer for name, consumer in consumers.items() if name not in seen]

    def _start(self, consumer: Consumer, state: LogState) -> int:
        if isinstance(consumer.start, datetime):
            return position_before(consumer.start, head=state.head, using=self.using)
        return (
            {"now": state.head, "beginning": 0}[consumer.start] if isinstance(consumer.start, str) else consumer.start
        )

    def advance(self, consumer: str, offset: int, *, epoch: int, token: int, partition: int = 0) -> None:
        """Save the offset, in the open transaction if there is one.

        Raises LeaseLost when ``token`` is not the newest any more; the transaction must then be rolled back.
        """
        connection = connections[self.using]
        quote = connection.ops.quote_name
        sql = ADVANCE.format(offset=quote("offset"), partition=quote("partition"), lock=LOCKS[connection.vendor])
        with connection.cursor() as cursor:
            cursor.execute(sql, [offset, epoch, consumer, partition, token])
            if cursor.rowcount != 1:
                raise LeaseLost(consumer=consumer, token=token)

    def prune(self, consumer: str, *, token: int, partition: int = 0) -> int:
        """Remove the rows that a newer one has replaced; only the holder of the lease does this. Returns their number."""
        rows = ConsumerOffset.objects.using(self.using).filter(consumer=consumer, partition=partition, token__lte=token)
        newest = rows.filter(token=token).aggregate(newest=Max("id"))["newest"]
        if newest is None:
            return 0
        removed: int = rows.filter(id__lt=newest).delete()[0]
        return removed
