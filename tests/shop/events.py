from dataclasses import dataclass
from decimal import Decimal

from django_eventstore import event


@event("shop.OrderPlaced", version=1)
@dataclass(frozen=True)
class OrderPlaced:
    order_id: int
    total: Decimal


@event("shop.OrderCancelled", version=1)
@dataclass(frozen=True)
class OrderCancelled:
    order_id: int
    reason: str
