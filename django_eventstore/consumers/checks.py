"""System check of the declared consumers."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error

from ..conf import setting_problems
from .definition import declared_consumers

__all__ = ["check_consumers"]


def check_consumers(**kwargs: object) -> list[CheckMessage]:
    """Handlers and settings that contradict each other about a consumer."""
    if setting_problems():
        return []  # reported by themselves; the settings cannot be read until they are right
    try:
        declared_consumers()
    except ValueError as error:
        return [
            Error(
                str(error),
                hint=(
                    "Give the handlers the same transaction and start, or another consumer; a consumer with a sender in "
                    "EVENTSTORE['CONSUMERS'] takes no handlers."
                ),
                id="django_eventstore.E002",
            )
        ]
    return []
