"""The composition root: what is found, connected and checked when Django starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

__all__ = ["EventStoreConfig"]


class EventStoreConfig(AppConfig):
    """The event store."""

    name = "django_eventstore"
    verbose_name = _("Event store")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        autodiscover_modules("events", "handlers")
