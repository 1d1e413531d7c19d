from __future__ import annotations

from decimal import Decimal

from django.db import models, transaction

from django_eventstore import record
from tests.shop.events import OrderCancelled, OrderPlaced


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        CANCELLED = "cancelled"

    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PLACED)
    total = models.DecimalField(max_digits=12, decimal_places=2)

    def __str__(self) -> str:
        return f"order {self.pk}"

    @classmethod
    @transaction.atomic
    def place(cls, total: Decimal) -> Order:
        order = cls.objects.create(total=total)
        record(OrderPlaced(order_id=order.pk, total=total), stream=order)
        return order

    @transaction.atomic
    def cancel(self, reason: str) -> None:
        self.status = self.Status.CANCELLED
        self.save(update_fields=["status"])
        record(OrderCancelled(order_id=self.pk, reason=reason), stream=self)


class Refund(models.Model):
    """Not unique by order, so that a refund that is paid twice can be seen."""

    order_id = models.BigIntegerField()

    def __str__(self) -> str:
        return f"refund of order {self.order_id}"


class Counter(models.Model):
    """One row a stream. A writer raises it in the transaction that records the event, and so holds its row lock:
    the value in an event tells a reader whether one is lost, doubled, out of order or half rolled back."""

    name = models.CharField(max_length=100, unique=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"
