"""System check of the senders."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error

from ..conf import setting_problems
from ..consumers import Consumer, declared_consumers
from .forwarder import make_sender

__all__ = ["check_senders"]


def check_senders(**kwargs: object) -> list[CheckMessage]:
    """Make every consumer's sender and ask it; what it says keeps its own ids."""
    if setting_problems():
        return []
    try:
        consumers = declared_consumers().values()
    except ValueError:
        return []  # reported by check_consumers
    return [message for consumer in consumers for message in _check(consumer)]


def _check(consumer: Consumer) -> list[CheckMessage]:
    try:
        return make_sender(consumer).check()
    except Exception as error:  # noqa: BLE001 - whatever a project's class raises is what is wrong with it
        where = f"EVENTSTORE['CONSUMERS'][{consumer.name!r}]"
        return [
            Error(
                f"Consumer {consumer.name!r} has no usable sender: {error}",
                hint=f"Correct {where}['SENDER'], a dotted path of an EventSender class, and ['OPTIONS'], its keywords.",
                id="django_eventstore.E003",
            )
        ]
