"""What follows from the shop's events: two rules inside the transaction, a reaction right after the commit, and two
that surely follow."""

from __future__ import annotations

from django.core.cache import cache
from django.core.mail import EmailMessage
from django.db.models import F

from django_eventstore import EventEntry, handles

from .events import OrderCancelled, OrderPlaced, OrderRefunded, PriceChanged
from .models import Order, Product, Refused
from .products import PRODUCTS


@handles(OrderPlaced, mode="sync")
def reserve_stock(event: OrderPlaced) -> None:
    """Inside the transaction that places the order: raising takes the order back, and no event is recorded."""
    enough = Product.objects.filter(sku=event.sku, stock__gte=event.quantity)
    if not enough.update(stock=F("stock") - event.quantity):
        raise Refused(f"There are not {event.quantity} of {event.sku} left.")


@handles(OrderCancelled, mode="sync")
def return_stock(event: OrderCancelled) -> None:
    order = Order.objects.get(pk=event.order_id)
    Product.objects.filter(pk=order.product_id).update(stock=F("stock") + order.quantity)


@handles(PriceChanged, OrderPlaced, OrderCancelled, mode="after_commit")
def forget_products(event: PriceChanged | OrderPlaced | OrderCancelled) -> None:
    """Right after the commit, on a thread of the process that recorded, and lost when that dies before.

    Then customers see the old list until it expires. Where that were not good enough, this would be a durable handler.
    """
    cache.delete(PRODUCTS)


@handles(OrderCancelled)
def refund(event: OrderCancelled) -> None:
    """By the worker. The refund, the new status, the next event and this handler's offset are one transaction, so a
    crash at any moment leaves either all of them or none, and the refund happens once."""
    if event.amount_paid:
        Order.objects.get(pk=event.order_id).refund(event.amount_paid)


SUBJECTS = {
    OrderPlaced: "Thank you for your order {}",
    OrderCancelled: "Your order {} is cancelled",
    OrderRefunded: "The money for your order {} is on its way",
}


@handles(OrderPlaced, OrderCancelled, OrderRefunded)
def mail_customer(event: OrderPlaced | OrderCancelled | OrderRefunded, entry: EventEntry) -> None:
    """By the worker, and outside the database: at least once.

    A mail cannot be rolled back. A worker that dies between sending it and committing the offset leaves the event
    unhandled, and the next worker sends the mail again. The id of the event in Message-ID lets the receiving side see that
    it is the same mail; no setting turns this into "exactly once".
    """
    order = Order.objects.select_related("customer", "product").get(pk=event.order_id)
    EmailMessage(
        subject=SUBJECTS[type(event)].format(order.pk),
        body=f"{order.quantity} × {order.product}, {order.total} EUR in all.",
        to=[order.customer.email],
        headers={"Message-ID": f"<{entry.event_id}@shop.example>"},
    ).send()
