"""The forwarder's PeriodicTask: made once, and the operator's from then on."""

from __future__ import annotations

import json
from datetime import timedelta

from django.apps import apps
from django.db import connections, router

from ..conf import get_settings

__all__ = ["PERIODIC_TASK", "beat_is_ready", "ensure_periodic_task"]

PERIODIC_TASK = "django_eventstore.forward"


def beat_is_ready(*, using: str) -> bool:
    """Whether django_celery_beat is installed, looks for its tasks on this database, and has its tables there."""
    if not apps.is_installed("django_celery_beat"):
        return False
    # Of several databases that have the tables, the scheduler reads one; the model's own checks look there, too.
    if router.db_for_write(apps.get_model("django_celery_beat", "PeriodicTask")) != using:
        return False
    models = (apps.get_model("django_celery_beat", name) for name in ("PeriodicTask", "IntervalSchedule"))
    return {model._meta.db_table for model in models} <= set(connections[using].introspection.table_names())


def ensure_periodic_task(*, using: str) -> bool:
    """Create the periodic task unless it exists; an existing one is left as it is, edits and all. True if created.

    Does nothing where django_celery_beat is not installed or not migrated on this database yet.
    """
    if not beat_is_ready(using=using):
        return False
    periodic_task = apps.get_model("django_celery_beat", "PeriodicTask")
    interval = apps.get_model("django_celery_beat", "IntervalSchedule")
    if periodic_task.objects.using(using).filter(name=PERIODIC_TASK).exists():
        return False
    every = get_settings().FORWARD_EVERY
    if not every % timedelta(seconds=1):
        amount, unit = every // timedelta(seconds=1), interval.SECONDS
    else:
        amount, unit = every // timedelta(microseconds=1), interval.MICROSECONDS
    schedule = interval.objects.using(using).filter(every=amount, period=unit).first()
    if schedule is None:
        schedule = interval.objects.using(using).create(every=amount, period=unit)
    _, created = periodic_task.objects.using(using).get_or_create(
        name=PERIODIC_TASK,
        defaults={
            "task": PERIODIC_TASK,
            "interval": schedule,
            "kwargs": json.dumps({"source": "beat"}),
            # Ticks that no worker took are worth nothing once the next one is there.
            "expire_seconds": max(1, int(every.total_seconds() * 2)),
            "description": "Forwards new events to their consumers. Made once by django_eventstore; yours to change.",
        },
    )
    return bool(created)
