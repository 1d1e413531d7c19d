"""Models of every kind that capture() meets. What is captured is declared by each test."""

from __future__ import annotations

from uuid import uuid4

from django.db import models

from django_eventstore import CapturingQuerySet


class Tag(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Customer(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        CANCELLED = "cancelled"

    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PLACED)
    total = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    note = models.TextField(blank=True)
    stock = models.IntegerField(default=10)
    customer = models.ForeignKey(Customer, null=True, on_delete=models.SET_NULL, related_name="orders")
    attachment = models.FileField(blank=True)
    tags = models.ManyToManyField(Tag, related_name="orders")

    objects = CapturingQuerySet.as_manager()

    def __str__(self) -> str:
        return f"order {self.pk}"


class UrgentOrder(Order):
    class Meta:
        proxy = True


class Line(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    sku = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.sku


class Place(models.Model):
    name = models.CharField(max_length=50)

    objects = CapturingQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Numbered(models.Model):
    number = models.IntegerField(default=0)

    class Meta:
        abstract = True


class Invoice(Numbered):
    def __str__(self) -> str:
        return str(self.number)


class Reminder(Invoice):
    fee = models.IntegerField(default=0)


class Ticket(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid4)
    title = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.title


class Country(models.Model):
    code = models.CharField(primary_key=True, max_length=2)
    name = models.CharField(max_length=50)

    objects = CapturingQuerySet.as_manager()

    def __str__(self) -> str:
        return self.code


class Person(models.Model):
    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self")

    def __str__(self) -> str:
        return self.name


class Seat(models.Model):
    pk = models.CompositePrimaryKey("row", "number")
    row = models.IntegerField()
    number = models.IntegerField()
    guest = models.CharField(max_length=50, blank=True)

    objects = CapturingQuerySet.as_manager()

    def __str__(self) -> str:
        return f"seat {self.row}/{self.number}"


class Account(models.Model):
    """Its base manager records, too, so that what Django changes through it is seen."""

    balance = models.IntegerField(default=0)
    is_overdrawn = models.GeneratedField(
        expression=models.Q(balance__lt=0), output_field=models.BooleanField(), db_persist=True
    )

    owner = models.ForeignKey(Customer, null=True, on_delete=models.SET_NULL, related_name="accounts")

    objects = CapturingQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"account {self.pk}"
