"""The shop's own tests: `python manage.py test`. What is recorded, what follows, and what a bad day does to it."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.test import TestCase, override_settings

from django_eventstore.testing import EventStoreTestMixin, Faults

from .events import OrderCancelled, OrderPlaced, OrderRefunded, PriceChanged
from .handlers import mail_customer, refund
from .models import Order, Product, Refund, Refused


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
class ShopTests(EventStoreTestMixin, TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.ada = User.objects.create_user("ada", email="ada@example.com")
        cls.tea = Product.objects.create(sku="tea", name="Tea", price=Decimal("4.50"), stock=10)

    def setUp(self) -> None:
        super().setUp()
        cache.clear()

    def paid_order(self, *, quantity: int = 2) -> Order:
        order = Order.place(customer=self.ada, product=self.tea, quantity=quantity)
        order.pay()
        return order

    def test_a_cancelled_order_is_refunded_and_the_customer_hears_of_it(self) -> None:
        order = self.paid_order()

        order.cancel("changed my mind")

        self.assert_recorded(OrderCancelled, stream=order, reason="changed my mind", amount_paid=Decimal("9.00"))
        self.drain()
        self.assertEqual(Decimal("9.00"), Refund.objects.get(order=order).amount)
        self.assert_recorded(OrderRefunded, times=1, stream=order)
        self.assertEqual(
            [f"Thank you for your order {order.pk}", f"Your order {order.pk} is cancelled"],
            [message.subject for message in mail.outbox[:2]],
        )

    def test_an_order_that_was_not_paid_is_not_refunded(self) -> None:
        order = Order.place(customer=self.ada, product=self.tea, quantity=1)
        order.cancel("never paid")
        self.drain()
        self.assert_not_recorded(OrderRefunded)

    def test_an_order_of_more_than_there_is_leaves_nothing_behind(self) -> None:
        with self.assertRaises(Refused):
            Order.place(customer=self.ada, product=self.tea, quantity=11)
        self.assert_not_recorded(OrderPlaced)
        self.assertFalse(Order.objects.exists())

    def test_a_worker_that_dies_refunds_once_and_mails_twice(self) -> None:
        self.paid_order().cancel("changed my mind")
        self.drain(faults=Faults(crash=True), consumers=[refund, mail_customer])
        self.assertEqual(1, Refund.objects.count())
        sent = [message.extra_headers["Message-ID"] for message in mail.outbox]
        # Placed, cancelled, refunded. The receiving side can tell: a repeat has the id of the first.
        self.assertEqual((6, 3), (len(sent), len(set(sent))))

    def test_a_new_price_is_told_by_whichever_way_it_is_saved(self) -> None:
        self.tea.price = Decimal("4.80")
        self.tea.save()
        Product.objects.filter(sku="tea").update(price=Decimal("5.00"))
        Product.objects.filter(sku="tea").update(stock=3)
        self.assert_recorded(PriceChanged, stream=self.tea, before=Decimal("4.50"), after=Decimal("4.80"))
        self.assert_recorded(PriceChanged, times=2, stream=self.tea)

    def test_the_list_of_products_follows_the_price(self) -> None:
        self.assertEqual("4.50", self.shown_price())
        self.tea.price = Decimal("4.80")
        self.tea.save()
        self.assertEqual("4.50", self.shown_price(), "nothing has run yet: this is the cache")
        self.drain()
        self.assertEqual("4.80", self.shown_price())

    def shown_price(self) -> str:
        [tea] = self.client.get("/products").json()["products"]
        return str(tea["price"])

    def test_an_event_says_who_asked_and_because_of_what(self) -> None:
        order = self.paid_order()
        self.client.force_login(self.ada)
        headers = {"X-Request-ID": "request-7"}
        answer = self.client.post(f"/orders/{order.pk}/cancel", {"reason": "late"}, headers=headers)
        self.assertEqual(200, answer.status_code)
        actor = {"model": "auth.user", "id": str(self.ada.pk), "label": "ada"}
        [cancelled] = self.assert_recorded(OrderCancelled, stream=order, metadata={"actor": actor})

        self.drain()

        [refunded] = self.assert_recorded(OrderRefunded, stream=order)
        self.assertEqual("request-7", refunded.correlation_id)
        self.assertEqual(str(cancelled.event_id), refunded.causation_id)
