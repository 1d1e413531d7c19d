"""The composition root: what is found, connected and checked when Django starts."""

from __future__ import annotations

from importlib.util import find_spec

from django.apps import AppConfig
from django.db import connections, router
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from .conf import get_settings, setting_problems
from .signals import events_committed
from .tracing import set_tracer

__all__ = ["EventStoreConfig"]


class EventStoreConfig(AppConfig):
    """The event store."""

    name = "django_eventstore"
    verbose_name = _("Event store")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from .checks import register_checks
        from .forwarding.celery import wake_up
        from .forwarding.notifying import notifier
        from .recording.celery import connect_celery

        # Wrong settings are a matter of the checks, which come later.
        if not setting_problems() and get_settings().TRACING and _is_installed("opentelemetry.trace"):
            from .telemetry.opentelemetry import OpenTelemetryTracer

            set_tracer(OpenTelemetryTracer())
        autodiscover_modules("events", "handlers")
        post_migrate.connect(set_up_log, sender=self, dispatch_uid="django_eventstore.set_up_log")
        events_committed.connect(notifier, weak=False, dispatch_uid="django_eventstore.notify")
        events_committed.connect(wake_up, weak=False, dispatch_uid="django_eventstore.wake_up")
        connect_celery()
        register_checks()


def _is_installed(module: str) -> bool:
    """Whether it could be imported. Imports what it is a part of, and not the module."""
    package = module.partition(".")[0]
    return find_spec(package) is not None and find_spec(module) is not None


def set_up_log(*, using: str, **kwargs: object) -> None:
    """After ``migrate`` and after a flush: the log's id, where new consumers start, and the periodic task."""
    from .consumers import OffsetStore, declared_consumers
    from .forwarding.schedule import ensure_periodic_task
    from .models import ConsumerOffset, Epoch, EventEntry
    from .recording import forget_known_consumers
    from .store import ensure_log

    if get_settings().CREATE_BEAT_SCHEDULE:
        ensure_periodic_task(using=using)
    tables = {model._meta.db_table for model in (Epoch, ConsumerOffset)}
    # post_migrate comes for every app that was migrated, also before this one was, and after it was migrated away.
    if router.allow_migrate_model(using, EventEntry) and tables <= set(connections[using].introspection.table_names()):
        ensure_log(using)
        forget_known_consumers()
        OffsetStore(using).register(declared_consumers().values())
