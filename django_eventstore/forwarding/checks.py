"""System checks of the senders, and of the alias on which followers listen."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.db import connections, router

from ..conf import get_settings, setting_problems
from ..consumers import Consumer, declared_consumers
from ..models import EventEntry
from ..store import is_postgresql
from .forwarder import make_sender

__all__ = ["check_listening", "check_senders"]


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


def check_listening(**kwargs: object) -> list[CheckMessage]:
    """The alias on which followers listen is a way to the log's database. Connects to nothing."""
    alias = None if setting_problems() else get_settings().LISTEN_ALIAS
    if alias is None:
        return []
    where = f"EVENTSTORE['LISTEN_ALIAS'] is {alias!r}"
    if alias not in connections or not is_postgresql(alias):
        return [
            Error(
                f"{where}, which is no PostgreSQL database of DATABASES.",
                hint="Name an alias that goes to the log's server directly, or remove the setting.",
                id="django_eventstore.E040",
            )
        ]
    using = router.db_for_write(EventEntry)
    names = [connections[each].settings_dict["NAME"] for each in (using, alias)]
    if names[0] != names[1]:
        return [
            Warning(
                f"{where}, database {names[1]!r}, and the log is in {names[0]!r}: nobody notifies there.",
                hint="Notifications stay in their database: give the alias the NAME of the log's. "
                "Silence this check when PgBouncer maps the names.",
                id="django_eventstore.W040",
            )
        ]
    return []
