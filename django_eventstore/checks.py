"""The system checks of every room, collected. Each room writes its own beside what it checks."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error, Tags, register

from .conf import setting_problems
from .consumers.checks import check_consumers, check_stored_consumers
from .forwarding.celery_checks import check_beat, check_broker
from .forwarding.checks import check_listening, check_senders
from .inspection.event_checks import check_events, check_stored_types
from .recording.capture_checks import check_captures
from .recording.checks import check_handler_modes, check_routing
from .store.checks import check_databases

__all__ = ["TAG", "check_settings", "register_checks"]

TAG = "django_eventstore"


def check_settings(**kwargs: object) -> list[CheckMessage]:
    """Unknown keys and wrong values of ``EVENTSTORE``."""
    return [
        Error(problem, hint="Correct EVENTSTORE in the settings.", id="django_eventstore.E001")
        for problem in setting_problems()
    ]


def register_checks() -> None:
    """Make Django run the checks: ``manage.py check``, and with ``--database default`` those of the database too."""
    for check in (
        check_settings,
        check_consumers,
        check_senders,
        check_listening,
        check_captures,
        check_beat,
        check_broker,
        check_events,
        check_routing,
        check_handler_modes,
    ):
        register(check, TAG)
    for database_check in (check_databases, check_stored_consumers, check_stored_types):
        register(database_check, TAG, Tags.database)
