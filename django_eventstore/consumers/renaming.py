"""Consumers that the code does not declare any more: their offset goes to another name, or they are forgotten.

As in ``moving``, the leases are locked, which waits for the batches in hand, and whoever holds one finds it lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import EventStoreError
from ..models import ConsumerOffset, ConsumerState, Endpoint, FailedDelivery, Lease, SlotOffset
from ..models.fields import DatabaseNow
from .definition import Consumer, declared_consumers
from .leases import LONG_AGO, make_rows
from .offsets import OffsetStore
from .transactions import fresh_transaction

__all__ = ["Standing", "rename", "retire"]

# The failed deliveries last: workers lock a lease before them.
STORED = (Lease, ConsumerOffset, SlotOffset, ConsumerState, FailedDelivery)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a consumer stood: its offset, of several partitions the lowest, and how many of its events had failed."""

    offset: int
    failures: int


def rename(old: str, new: Consumer, *, using: str, again: bool = False) -> Standing:
    """Let ``new`` go on where ``old`` stands, with its partitions, its pause, its failed deliveries and its endpoints of
    webhooks; nothing is lost.

    What had been decided about deliveries of ``old`` stays written under that name. ``new`` must not have delivered
    anything by itself yet, or it has those events again: ``again`` says that it may. Raises EventStoreError when ``old`` is
    declared, is not known, or is held by a worker, which must run an earlier version of the code.
    """
    make_rows(new.name, using=using)  # or its first worker would take a lease that nobody has locked
    with fresh_transaction(using):
        leases = _hold(old, new.name, using=using)
        standing = _standing(old, using=using)
        _require_fresh(new.name, old, standing, again=again, using=using)
        state = _joined_state(old, new.name, using=using)
        for model in STORED:
            model._default_manager.using(using).filter(consumer=new.name).delete()
        for model in (Lease, ConsumerState):
            model._default_manager.using(using).filter(consumer=old).delete()
        state.save(using=using, force_insert=True)
        token = max((lease.token for lease in leases), default=0) + 1
        # A worker that died holding one may have died of what it had in hand: the next one is told, by the name.
        owners = {lease.partition: lease.owner for lease in leases if lease.consumer == old}
        Lease.objects.using(using).bulk_create(
            Lease(consumer=new.name, partition=number, token=token, owner=owners.get(number, ""), expires_at=LONG_AGO)
            for number in range(state.partitions)
        )
        ahead = list(SlotOffset.objects.using(using).filter(consumer=old).values("slot", "offset"))
        SlotOffset.objects.using(using).filter(consumer=old).delete()
        SlotOffset.objects.using(using).bulk_create(SlotOffset(consumer=new.name, **slot) for slot in ahead)
        for rows in (ConsumerOffset, FailedDelivery, Endpoint):
            rows._default_manager.using(using).filter(consumer=old).update(consumer=new.name)
    return standing


def retire(name: str, *, using: str) -> Standing:
    """Forget a consumer: its offset, and what of it had failed, which is then never delivered. Returns where it stood.

    What had been decided about its deliveries is kept. Raises EventStoreError as rename() does.
    """
    with fresh_transaction(using):
        _hold(name, using=using)
        standing = _standing(name, using=using)
        for model in STORED:
            model._default_manager.using(using).filter(consumer=name).delete()
    return standing


def _hold(old: str, *others: str, using: str) -> list[Lease]:
    """Lock what workers of these consumers need, in the open transaction; refuse when somebody works for ``old``."""
    if old in declared_consumers():
        raise EventStoreError(f"Consumer {old!r} is declared: it is in use.")
    names = (old, *others)
    list(ConsumerState.objects.using(using).filter(pk__in=names).order_by("pk").select_for_update())
    leases = Lease.objects.using(using).filter(consumer__in=names).order_by("consumer", "partition")
    locked = list(leases.select_for_update())
    held = leases.filter(consumer=old, expires_at__gt=DatabaseNow()).first()
    if held is not None:
        raise EventStoreError(
            f"Consumer {old!r} is held by the worker {held.owner}, which runs a version of the code that declares it. "
            "Stop that worker first; when it is dead already, its lease ends by itself."
        )
    return locked


def _standing(name: str, *, using: str) -> Standing:
    numbers = ConsumerOffset.objects.using(using).filter(consumer=name).order_by().values_list("partition", flat=True)
    stands = [OffsetStore(using).load(name, partition=number) for number in set(numbers.distinct())]
    if not stands:
        raise EventStoreError(f"Nothing is stored of a consumer {name!r}.")
    return Standing(
        offset=min(progress.offset for progress in stands if progress is not None),
        failures=FailedDelivery.objects.using(using).filter(consumer=name).count(),
    )


def _require_fresh(name: str, old: str, standing: Standing, *, again: bool, using: str) -> None:
    """Token 0 is where a consumer begins; any other is that of a worker, or of somebody who moved it."""
    worked = ConsumerOffset.objects.using(using).filter(consumer=name, token__gt=0).exists()
    if worked and not again:
        own = _standing(name, using=using)
        raise EventStoreError(
            f"Consumer {name!r} has been at work by itself and stands at offset {own.offset}, {old!r} at "
            f"{standing.offset}. When it takes that over, it has events again that it has had: say so with --again."
        )


def _joined_state(old: str, new: str, *, using: str) -> ConsumerState:
    """The row of ``old`` under the new name; paused if either is."""
    rows = ConsumerState.objects.using(using)
    state = rows.filter(pk=old).first() or ConsumerState()
    paused = rows.filter(pk=new, paused_at__isnull=False).first()
    state.consumer = new
    if paused is not None and state.paused_at is None:
        state.paused_at, state.paused_reason = paused.paused_at, paused.paused_reason
    return state
