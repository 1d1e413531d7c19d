"""Goods, a customer, an administrator, and an account for the bookkeeping service."""

from __future__ import annotations

import json
import secrets
from decimal import Decimal
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User
from django.core.management.base import BaseCommand
from django.db import transaction
from rest_framework.authtoken.models import Token

from shop.models import Product

GOODS = (("tea", "Tea", "4.50", 100), ("teapot", "Teapot", "29.90", 3), ("coffee", "Coffee", "7.20", 100))


class Command(BaseCommand):
    help = "Creates what is missing, gives the administrator a new password, and prints the credentials as JSON."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        for sku, name, price, stock in GOODS:
            Product.objects.get_or_create(sku=sku, defaults={"name": name, "price": Decimal(price), "stock": stock})
        # None: a password that fits nothing. These two come with their tokens.
        ada = {"email": "ada@example.com", "password": make_password(None)}
        customer = User.objects.get_or_create(username="ada", defaults=ada)[0]
        bookkeeping = User.objects.get_or_create(username="bookkeeping", defaults={"password": make_password(None)})[0]
        # Reading the log is granted, never given; this account can do nothing else.
        bookkeeping.user_permissions.add(
            Permission.objects.get(content_type__app_label="django_eventstore", codename="view_evententry")
        )
        admin = User.objects.get_or_create(username="admin", defaults={"is_staff": True, "is_superuser": True})[0]
        password = secrets.token_urlsafe(9)
        admin.set_password(password)
        admin.save()
        credentials = {
            "customer_token": Token.objects.get_or_create(user=customer)[0].key,
            "bookkeeping_token": Token.objects.get_or_create(user=bookkeeping)[0].key,
            "admin_name": admin.username,
            "admin_password": password,
        }
        self.stdout.write(json.dumps(credentials))
