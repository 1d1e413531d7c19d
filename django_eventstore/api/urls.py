"""``path("", include("django_eventstore.api.urls"))`` serves ``events`` and ``events/head``."""

from __future__ import annotations

from django.urls import path

from .views import EventViewSet

app_name = "eventstore"

urlpatterns = [
    path("events", EventViewSet.as_view({"get": "list"}), name="events"),
    path("events/head", EventViewSet.as_view({"get": "head_of_log"}), name="head"),
]
