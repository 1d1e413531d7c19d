"""The list of products as customers see it, kept in the cache."""

from __future__ import annotations

from typing import Any

from django.core.cache import cache

from .models import Product

PRODUCTS = "products"
LONGEST = 60.0
"""Seconds that an old list may be shown: after a crash, or beside a transaction that commits this moment."""


def list_products() -> list[dict[str, Any]]:
    """Every product with its price and stock, at most ``LONGEST`` seconds old."""
    return cache.get_or_set(PRODUCTS, _read_products, LONGEST)


def _read_products() -> list[dict[str, Any]]:
    products = Product.objects.order_by("sku").values("id", "sku", "name", "price", "stock")
    # A price in JSON is a text: a number would be read as a float.
    return [{**product, "price": str(product["price"])} for product in products]
