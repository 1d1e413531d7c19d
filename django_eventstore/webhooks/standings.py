"""Where endpoints stand, as the table has it: which go along with their consumer, and which are on their own and how far.

Whoever sends to an endpoint by its own offset holds a claim on its row for a limited time, by the database's clock. What it
writes names the claim, and changes nothing once somebody else, or an operator, has changed the row.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from ..conf import get_settings
from ..consumers import OffsetStore
from ..delivery import Batch, DeliveryPolicy
from ..models import Endpoint, Lease
from ..models.fields import DatabaseNow
from ..signals import endpoint_disabled, send
from .posting import Failure

__all__ = ["Behind", "Claim", "Standings"]

WELL = {"attempts": 0, "failing_since": None, "problem": "", "retry_at": None}
"""An endpoint that has accepted an event."""
FREE = {"claim": 0, "claimed_until": None}
MOST_LOOKED_AT = 1_000
LONGEST_RETRY_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An endpoint that this thread sends to by its own offset, as its row was when it was claimed."""

    endpoint: Endpoint
    number: int


@dataclass(slots=True, kw_only=True)
class Behind:
    """An endpoint that a batch goes on without."""

    endpoint: Endpoint
    offset: int
    """It has everything up to here."""
    failure: Failure | None = None
    is_busy: bool = False
    """Whether a thread still waits for its answer, and is to have a claim."""
    claim: Claim | None = None
    """That claim, unless the row was changed meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """Of the endpoints of one consumer."""

    consumer: str
    policy: DeliveryPolicy
    disable_after: timedelta | None
    patience: timedelta
    using: str

    # --- with the consumer ---

    def saved(self) -> int:
        """The consumer's saved offset."""
        progress = OffsetStore(self.using).load(self.consumer)
        return 0 if progress is None else progress.offset

    def set_back(self, position: int) -> None:
        """Endpoints on their own are to have everything from this position on, also what they had before.

        Either the consumer had put the event aside with what came after it in its stream, and has it now: an endpoint that
        was left behind meanwhile may have an offset above it without having had it. Or the consumer was moved back.
        """
        behind = Endpoint.objects.using(self.using).filter(consumer=self.consumer, offset__gte=position)
        behind.update(offset=position - 1, **FREE)

    def going_along(self, saved: int, batch: Batch) -> list[Endpoint]:
        """Those that are to get the batch: one read. Some of them may have events of it already, up to their ``offset``.

        An endpoint that has caught up joins here, where the holder of the consumer's lease begins a batch: it has all that
        is wanted up to the consumer's ``saved`` offset, and the batch is what comes next.
        """
        well = Q(attempts=0, claimed_until__isnull=True, milliseconds__lt=self._milliseconds)
        found = list(self._rows().filter(Q(offset__isnull=True) | well).order_by("pk"))
        joining = [endpoint for endpoint in found if endpoint.offset is not None and endpoint.offset >= saved]
        joined = self._join(joining, batch) if joining else set()
        return [endpoint for endpoint in found if endpoint.offset is None or endpoint.pk in joined]

    def leave_behind(self, those: Sequence[Behind], *, epoch: int) -> None:
        """Give endpoints offsets of their own, before the batch that goes on without them is claimed to be done."""
        disabled = []
        with transaction.atomic(using=self.using):
            for behind in those:
                rows = self._rows().filter(pk=behind.endpoint.pk, offset__isnull=True)
                values = {"offset": behind.offset, "epoch": epoch}
                if behind.is_busy:
                    number = _draw()
                    if rows.update(**values, claim=number, claimed_until=self._lease_end()):
                        behind.claim = Claim(endpoint=behind.endpoint, number=number)
                elif behind.failure is None:
                    rows.update(**values, **FREE)
                elif rows.update(**values, **FREE):
                    disabled += self._fail(behind.endpoint, behind.failure)
        _tell(disabled)

    # --- on their own ---

    def claim_due(self, *, most: int) -> list[Claim]:
        """Claim endpoints that are behind and may be sent to now. One read when there are none."""
        now = DatabaseNow()
        free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
        due = Q(retry_at__isnull=True) | Q(retry_at__lte=now)
        rows = self._rows().filter(free, due, offset__isnull=False)
        if not rows.exists():
            return []
        # One that has caught up joins with the next batch; it is not to be sent to before, nor looked at in place of another.
        joining = Q(offset__gte=self.saved(), attempts=0, claimed_until__isnull=True)
        # Those that answer before those that do not; among equals everybody has a turn.
        found = rows.exclude(joining).order_by("attempts", "?")[:MOST_LOOKED_AT]
        claims: list[Claim] = []
        for endpoint in found:
            if len(claims) >= most:
                break
            number = _draw()
            if rows.filter(pk=endpoint.pk, offset=endpoint.offset).update(
                claim=number, claimed_until=self._lease_end()
            ):
                claims.append(Claim(endpoint=endpoint, number=number))
        return claims

    def save(self, claim: Claim, offset: int, *, epoch: int, is_well: bool) -> bool:
        """Save how far the endpoint is, and keep the claim. Returns whether it was still there."""
        well = WELL if is_well else {}
        return bool(self._claimed(claim).update(offset=offset, epoch=epoch, claimed_until=self._lease_end(), **well))

    def release(
        self,
        claim: Claim,
        *,
        offset: int | None = None,
        failure: Failure | None = None,
        milliseconds: int | None = None,
    ) -> None:
        """Give the claim back. ``offset``: how far the endpoint is now. ``failure``: what has ended it."""
        values: dict[str, object] = {**FREE}
        if offset is not None:
            values["offset"] = offset
        if milliseconds is not None:
            values["milliseconds"] = milliseconds
        disabled: list[tuple[Endpoint, str]] = []
        with transaction.atomic(using=self.using):
            # The claim is compared where it is given back: what follows is in the same transaction.
            if self._claimed(claim).update(**values) and failure is not None:
                disabled = self._fail(claim.endpoint, failure)
        _tell(disabled)

    # --- rows ---

    @property
    def _milliseconds(self) -> int:
        """Slower ones would hold the others up, and stay on their own."""
        return max(1, int(self.patience.total_seconds() * 1_000 / 2))

    def _rows(self) -> models.QuerySet[Endpoint]:
        rows: models.QuerySet[Endpoint] = Endpoint.objects.using(self.using).filter(consumer=self.consumer, active=True)
        return rows

    def _claimed(self, claim: Claim) -> models.QuerySet[Endpoint]:
        rows: models.QuerySet[Endpoint] = self._rows().filter(pk=claim.endpoint.pk, claim=claim.number)
        return rows

    def _lease_end(self) -> models.expressions.Combinable:
        end: models.expressions.Combinable = DatabaseNow() + get_settings().LEASE
        return end

    def _join(self, those: Sequence[Endpoint], batch: Batch) -> set[int]:
        """The keys of those that have joined. None does when the lease is lost: who has it now has begun without them."""
        leases = Lease.objects.using(self.using).filter(consumer=self.consumer, partition=batch.partition)
        token = leases.values_list("token", flat=True).first()
        if not batch.still_held():
            return set()
        # It was held when the token was read, so that is ours; a newer one means that it was lost since.
        with transaction.atomic(using=self.using):
            batch.begin()
            if leases.filter(token=token).select_for_update().values_list("token").first() is None:
                return set()
            well = self._rows().filter(claimed_until__isnull=True, attempts=0)
            return {
                endpoint.pk
                for endpoint in those
                if well.filter(pk=endpoint.pk, offset=endpoint.offset).update(offset=None, epoch=None)
            }

    def _fail(self, endpoint: Endpoint, failure: Failure) -> list[tuple[Endpoint, str]]:
        """Note the failure in the open transaction. Returns the endpoint, with the reason, if that disables it."""
        rows = self._rows().filter(pk=endpoint.pk)
        attempts = rows.values_list("attempts", flat=True).first()
        if attempts is None:
            return []
        delay = self.policy.delay(attempts + 1)
        if failure.retry_after is not None:
            delay = min(max(failure.retry_after, self.policy.base), LONGEST_RETRY_AFTER)  # "at once" would have no end
        rows.update(
            attempts=F("attempts") + 1,
            failing_since=Coalesce(F("failing_since"), DatabaseNow()),
            problem=failure.problem,
            retry_at=DatabaseNow() + delay,
        )
        reason = failure.problem if failure.is_gone else ""
        if not reason and self.disable_after is not None:
            if rows.filter(failing_since__lte=DatabaseNow() - self.disable_after).exists():
                reason = f"It has failed for {self.disable_after}: {failure.problem}"[:300]
        if reason and rows.update(active=False, disabled_at=DatabaseNow(), disabled_reason=reason):
            return [(endpoint, reason)]
        return []


def _draw() -> int:
    return secrets.randbelow(2**62) + 1


def _tell(disabled: Sequence[tuple[Endpoint, str]]) -> None:
    for endpoint, reason in disabled:
        send(endpoint_disabled, sender=Endpoint, endpoint=endpoint.pk, reason=reason)
