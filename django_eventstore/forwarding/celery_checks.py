"""System checks of Celery and beat: whether the forward task is sent, and whether it reaches a worker."""

from __future__ import annotations

from celery import current_app
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004 - Django's name for it

from ..conf import get_settings, setting_problems

__all__ = ["check_beat", "check_broker"]

SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
# The last is the entry point that django_celery_beat registers.
SCHEDULERS = (SCHEDULER, SCHEDULER.replace(":", "."), "django")


def check_beat(**kwargs: object) -> list[CheckMessage]:
    """Beat and its scheduler, unless the project says that it schedules the forwarder itself."""
    if setting_problems() or not get_settings().CREATE_BEAT_SCHEDULE:
        return []
    every = get_settings().FORWARD_EVERY.total_seconds()
    snippet = (
        'CELERY_BEAT_SCHEDULE = {"django_eventstore.forward": {"task": "django_eventstore.forward", '
        f'"schedule": {every:g}, "kwargs": {{"source": "beat"}}}}}}'
    )
    own = f"or set EVENTSTORE['CREATE_BEAT_SCHEDULE'] = False and schedule the task yourself: {snippet}"
    if not apps.is_installed("django_celery_beat"):
        return [
            Warning(
                "django_celery_beat is not installed: nothing forwards events periodically.",
                hint=f"Add 'django_celery_beat' to INSTALLED_APPS and run `manage.py migrate`, {own}",
                id="django_eventstore.W001",
            )
        ]
    scheduler = _configured("beat_scheduler", "celery.beat:PersistentScheduler")
    if scheduler in SCHEDULERS:
        return []
    return [
        Warning(
            f"Celery beat's scheduler is {scheduler!r}, which does not read the periodic task that migrate creates.",
            hint=(
                f"With Celery's settings in Django's, under the namespace CELERY: CELERY_BEAT_SCHEDULER = {SCHEDULER!r}; "
                f"{own}. Silence this check when beat is started with --scheduler."
            ),
            id="django_eventstore.W002",
        )
    ]


def check_broker(**kwargs: object) -> list[CheckMessage]:
    """A broker that lives inside one process connects nobody."""
    if not _configured("broker_url", "").startswith("memory:"):
        return []
    return [
        Warning(
            "Celery's broker is memory://, which lives inside one process: beat and worker never reach each other.",
            hint="Name a broker that processes share, in CELERY_BROKER_URL: redis://, amqp://, or filesystem:// at a desk.",
            id="django_eventstore.W003",
        )
    ]


def _configured(name: str, default: str) -> str:
    """A setting of the project's Celery app; where none is loaded, what Django's settings hold for one."""
    if current_app.main == "default":  # the app that Celery makes up when there is no other
        return str(getattr(settings, f"CELERY_{name.upper()}", None) or default)
    return str(current_app.conf.get(name) or default)
