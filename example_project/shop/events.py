"""What happens in the shop, in the past tense. Facts and numbers only: names and addresses stay in their own tables."""

from dataclasses import dataclass
from decimal import Decimal

from django_eventstore import event


@event("shop.PriceChanged", version=1)
@dataclass(frozen=True)
class PriceChanged:
    sku: str
    before: Decimal
    after: Decimal


@event("shop.OrderPlaced", version=1)
@dataclass(frozen=True)
class OrderPlaced:
    order_id: int
    sku: str
    quantity: int
    total: Decimal


@event("shop.OrderPaid", version=1)
@dataclass(frozen=True)
class OrderPaid:
    order_id: int
    amount: Decimal


@event("shop.OrderCancelled", version=1)
@dataclass(frozen=True)
class OrderCancelled:
    order_id: int
    reason: str
    amount_paid: Decimal


@event("shop.OrderRefunded", version=1)
@dataclass(frozen=True)
class OrderRefunded:
    order_id: int
    amount: Decimal
