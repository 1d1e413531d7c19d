"""Moving a consumer as a whole: to another offset, or to another number of partitions.

Both lock the leases of all its partitions, which waits for the batches in hand, give them a new token, so that whoever held
one finds it lost, and write where each partition stands, in one transaction: nobody delivers in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..exceptions import EventStoreError
from ..models import ConsumerOffset, ConsumerState, FailedDelivery, Lease, SlotOffset
from ..store import log_state
from ..store.sequencing import sequence
from .definition import Consumer
from .leases import LONG_AGO, make_rows
from .offsets import OffsetStore
from .partitions import SLOTS, Partition
from .replays import Replays
from .transactions import fresh_transaction

__all__ = ["move", "set_partitions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """Where a consumer stands, while all its leases are locked. ``offsets``: by slot."""

    offsets: Mapping[int, int]
    epoch: int
    token: int
    """One that nobody has had."""
    partitions: int
    owner: str
    """Of a lease that nobody let go of; what its worker had in hand may be what it died of, and stays known."""


def set_partitions(consumer: Consumer, count: int, *, using: str) -> None:
    """Divide the consumer into so many partitions, 1 to 64, which as many workers can deliver for at once.

    On a live system: nothing is lost, nothing doubled beyond the batches in hand (to the outside only), and the order of
    each stream stays. Every slot takes along the offset of the partition that it leaves; a partition whose slots stand
    apart reads from the lowest and passes over what the others have had. Raises ValueError, and EventStoreError while its
    partitions are in different epochs.
    """
    Partition(consumer=consumer.name, count=count)  # refuses a wrong number
    _make_rows(consumer, using=using)
    with fresh_transaction(using):
        standing = _hold(consumer, using=using)
        if standing.partitions != count:
            _write(consumer.name, replace(standing, partitions=count), using=using)


def move(consumer: Consumer, offset: int, *, using: str) -> int:
    """Go on after ``offset``; returns the highest offset that the consumer had before.

    Moved back, it has events again that it had before, known to handlers by ``entry.is_replay``; what had failed among them
    is forgotten, since it comes again. Moved forwards, what lies between is never delivered, except in streams that are
    blocked meanwhile: those catch up with everything. Raises EventStoreError for an offset that is not in the log.
    """
    sequence(using)  # so that the head is not behind what has committed
    _make_rows(consumer, using=using)
    with fresh_transaction(using):
        standing = _hold(consumer, using=using)
        state = log_state(using)
        if not 0 <= offset <= state.head:
            raise EventStoreError(f"An offset lies between 0 and the head, {state.head}; got {offset}.")
        highest = max(standing.offsets.values())
        row = ConsumerState.objects.using(using).filter(pk=consumer.name)
        if offset < highest:
            failures = FailedDelivery.objects.using(using).filter(consumer=consumer.name, position__gt=offset)
            before = Replays.from_text(*row.values_list("replay_until", "replay_except").get())
            # Of slots that are further nobody keeps account: rather once more to a handler than never.
            replays = before.after_move(min(standing.offsets.values()), failures)
            row.update(replay_until=replays.until, replay_except=replays.to_text())
            failures.delete()
        row.update(waiting_since=None, attempts=0, error="", retry_at=None)
        moved = replace(standing, offsets=dict.fromkeys(range(SLOTS), offset), epoch=state.epoch)
        _write(consumer.name, moved, using=using)
    return highest


def _make_rows(consumer: Consumer, *, using: str) -> None:
    """Before the transaction, whose first look must be the one that locks: at REPEATABLE READ it sees nothing later.

    The lease as well, or the consumer's first worker would take one that nobody has locked.
    """
    OffsetStore(using).register([consumer])
    make_rows(consumer.name, using=using)


def _hold(consumer: Consumer, *, using: str) -> _Standing:
    """Lock what its workers need, in the open transaction, and read where the consumer stands."""
    offsets = OffsetStore(using)
    state = ConsumerState.objects.using(using).select_for_update().get(pk=consumer.name)
    leases = list(Lease.objects.using(using).filter(consumer=consumer.name).order_by("partition").select_for_update())
    ahead = dict(SlotOffset.objects.using(using).filter(consumer=consumer.name).values_list("slot", "offset"))
    by_slot: dict[int, int] = {}
    epochs: set[int] = set()
    for number in range(state.partitions):
        progress = offsets.load(consumer.name, partition=number)
        if progress is None:
            raise EventStoreError(f"Consumer {consumer.name!r}: partition {number} has no offset.")
        epochs.add(progress.epoch)
        slots = Partition(consumer=consumer.name, number=number, count=state.partitions).slots or range(SLOTS)
        by_slot.update({slot: max(progress.offset, ahead.get(slot, 0)) for slot in slots})
    if len(epochs) > 1:
        raise EventStoreError(
            f"The partitions of consumer {consumer.name!r} are in different epochs of the log: let all of them run first."
        )
    token = max((lease.token for lease in leases), default=0) + 1
    owner = next((lease.owner for lease in leases if lease.owner), "")
    return _Standing(offsets=by_slot, epoch=epochs.pop(), token=token, partitions=state.partitions, owner=owner)


def _write(consumer: str, standing: _Standing, *, using: str) -> None:
    """Let it stand so: the leases of its partitions, free and with a new token, their offsets, and what is ahead."""
    offsets, count = standing.offsets, standing.partitions
    for model in (Lease, ConsumerOffset, SlotOffset):
        model._default_manager.using(using).filter(consumer=consumer).delete()
    partitions = [Partition(consumer=consumer, number=number, count=count) for number in range(count)]
    starts = {p.number: min(offsets[slot] for slot in p.slots or range(SLOTS)) for p in partitions}
    Lease.objects.using(using).bulk_create(
        Lease(
            consumer=consumer,
            partition=p.number,
            token=standing.token,
            owner=standing.owner,
            expires_at=LONG_AGO,
        )
        for p in partitions
    )
    ConsumerOffset.objects.using(using).bulk_create(
        ConsumerOffset(
            consumer=consumer,
            partition=p.number,
            offset=starts[p.number],
            epoch=standing.epoch,
            token=standing.token,
        )
        for p in partitions
    )
    SlotOffset.objects.using(using).bulk_create(
        SlotOffset(consumer=consumer, slot=slot, offset=offsets[slot])
        for p in partitions
        for slot in p.slots or range(SLOTS)
        if offsets[slot] > starts[p.number]
    )
    ConsumerState.objects.using(using).filter(pk=consumer).update(partitions=count)
