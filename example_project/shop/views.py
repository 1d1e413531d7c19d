"""The shop over HTTP: JSON in, JSON out, a token in the Authorization header."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import Order, Product, Refused
from .products import list_products


class NewOrder(serializers.Serializer):
    sku = serializers.SlugField()
    quantity = serializers.IntegerField(min_value=1, max_value=1_000)


class Cancellation(serializers.Serializer):
    reason = serializers.CharField(max_length=200)


class ProductsView(APIView):
    permission_classes = [AllowAny]

    def get(self, request: Request) -> Response:
        return Response({"products": list_products()})


class ShopView(APIView):
    """What the shop refuses is a conflict with its state, not a mistake in the request: 409 with the reason."""

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Refused):
            return Response({"detail": str(exc)}, status=status.HTTP_409_CONFLICT)
        return super().handle_exception(exc)


class OrdersView(ShopView):
    def post(self, request: Request) -> Response:
        wanted = _valid(NewOrder, request)
        product = get_object_or_404(Product, sku=wanted["sku"])
        order = Order.place(customer=request.user, product=product, quantity=wanted["quantity"])
        return Response(_shown(order), status=status.HTTP_201_CREATED)


class OrderView(ShopView):
    def get(self, request: Request, pk: int) -> Response:
        return Response(_shown(get_object_or_404(_orders_of(request), pk=pk)))


class PayView(ShopView):
    def post(self, request: Request, pk: int) -> Response:
        order = get_object_or_404(_orders_of(request), pk=pk)
        order.pay()
        return Response(_shown(order))


class CancelView(ShopView):
    def post(self, request: Request, pk: int) -> Response:
        order = get_object_or_404(_orders_of(request), pk=pk)
        order.cancel(_valid(Cancellation, request)["reason"])
        return Response(_shown(order))


def _orders_of(request: Request) -> QuerySet[Order]:
    orders = Order.objects.select_related("product", "refund_paid")
    return orders if request.user.is_staff else orders.filter(customer=request.user)


def _valid(serializer: type[serializers.Serializer], request: Request) -> dict[str, Any]:
    checked = serializer(data=request.data)
    checked.is_valid(raise_exception=True)
    return checked.validated_data


def _shown(order: Order) -> dict[str, object]:
    refund = getattr(order, "refund_paid", None)
    return {
        "id": order.pk,
        "sku": order.product.sku,
        "quantity": order.quantity,
        "total": str(order.total),
        "status": order.status,
        "refunded": str(refund.amount) if refund is not None else None,
    }
