"""Orders. Each method is one transaction: the change, and the event that reports it.

Prices are changed by people in the admin, who call no method of ours: there the change itself is captured.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import models, transaction

from django_eventstore import CapturingQuerySet, capture, record

from .events import OrderCancelled, OrderPaid, OrderPlaced, OrderRefunded, PriceChanged


class Refused(Exception):
    """The shop does not do this; the text is for the customer."""


def price_changed(product: Product, changes: Mapping[str, Any]) -> PriceChanged:
    """What the log is told of a new price, in the transaction that saves it. Called only when it did change."""
    price = changes["price"]
    return PriceChanged(sku=product.sku, before=price.before, after=price.after)


@capture(updated=price_changed, fields=["price"])
class Product(models.Model):
    sku = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField()

    # Prices that are changed in bulk are told as well.
    objects = CapturingQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        PAID = "paid"
        CANCELLED = "cancelled"
        REFUNDED = "refunded"

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="orders")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField()
    total = models.DecimalField(max_digits=10, decimal_places=2)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PLACED)

    def __str__(self) -> str:
        return f"order {self.pk}"

    @classmethod
    @transaction.atomic
    def place(cls, *, customer: Any, product: Product, quantity: int) -> Order:
        order = cls.objects.create(
            customer=customer, product=product, quantity=quantity, total=product.price * quantity
        )
        record(
            OrderPlaced(order_id=order.pk, sku=product.sku, quantity=quantity, total=order.total),
            stream=order,
        )
        return order

    @transaction.atomic
    def pay(self) -> None:
        self._lock(Order.Status.PLACED, to="pay")
        self.status = Order.Status.PAID
        self.save(update_fields=["status"])
        record(OrderPaid(order_id=self.pk, amount=self.total), stream=self)

    @transaction.atomic
    def cancel(self, reason: str) -> None:
        self._lock(Order.Status.PLACED, Order.Status.PAID, to="cancel")
        amount_paid = self.total if self.status == Order.Status.PAID else Decimal(0)
        self.status = Order.Status.CANCELLED
        self.save(update_fields=["status"])
        record(OrderCancelled(order_id=self.pk, reason=reason, amount_paid=amount_paid), stream=self)

    @transaction.atomic
    def refund(self, amount: Decimal) -> None:
        self._lock(Order.Status.CANCELLED, to="refund")
        Refund.objects.create(order=self, amount=amount)
        self.status = Order.Status.REFUNDED
        self.save(update_fields=["status"])
        record(OrderRefunded(order_id=self.pk, amount=amount), stream=self)

    def _lock(self, *allowed: str, to: str) -> None:
        """Read the order again and hold its row until the transaction ends.

        The status that was on the customer's screen may be old; and because every writer of an order waits for its row, its
        events stand in the log in the order in which things happened to it.
        """
        self.refresh_from_db(from_queryset=Order.objects.select_for_update())
        if self.status not in allowed:
            raise Refused(f"Order {self.pk} is {self.status}: too late to {to} it.")


class Refund(models.Model):
    order = models.OneToOneField(Order, on_delete=models.PROTECT, related_name="refund_paid")
    amount = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return f"refund of {self.order}"
