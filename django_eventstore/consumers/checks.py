"""System checks of the declared consumers, and of those that databases know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.db import DatabaseError, connections, router

from ..conf import setting_problems
from ..events import selects
from ..models import ConsumerOffset, ConsumerState
from .definition import Consumer, declared_consumers

__all__ = ["check_consumers", "check_stored_consumers"]


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
                    "Give the handlers the same transaction, start, max_attempts and on_parked, or another consumer; a "
                    "consumer with a sender in EVENTSTORE['CONSUMERS'] takes no handlers."
                ),
                id="django_eventstore.E002",
            )
        ]
    return []


def check_stored_consumers(*, databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    """What each of the named databases knows of consumers that the code declares otherwise, or not at all."""
    if not databases or setting_problems():
        return []
    try:
        declared = declared_consumers()
    except ValueError:
        return []  # reported by check_consumers
    return [
        message
        for alias in databases
        if router.allow_migrate_model(alias, ConsumerOffset)
        for message in _check(alias, declared)
    ]


def _check(using: str, declared: Mapping[str, Consumer]) -> Iterable[CheckMessage]:
    try:
        needed = {model._meta.db_table for model in (ConsumerOffset, ConsumerState)}
        if not needed <= set(connections[using].introspection.table_names()):
            return []  # before the migration
        rows = ConsumerOffset.objects.using(using).order_by().values_list("consumer", flat=True)
        seen = set(rows.distinct())
        filters = dict(ConsumerState.objects.using(using).exclude(events="").values_list("consumer", "events"))
    except DatabaseError:
        return []  # reported by check_databases
    undeclared = [_undeclared(name, using) for name in sorted(seen - set(declared))]
    widened = [
        _widened(name, added, using)
        for name in sorted(seen & set(declared) & set(filters))
        if (added := _added(declared[name].events, json.loads(filters[name])))
    ]
    return [*undeclared, *widened]


def _added(wanted: Iterable[str], known: Sequence[str]) -> list[str]:
    """The patterns that select what no known one does. A known prefix selects those below it like any type, and the new name
    of an event is selected by its old one."""
    return [pattern for pattern in wanted if not selects(known, pattern)]


def _undeclared(name: str, using: str) -> CheckMessage:
    return Warning(
        f"Database alias {using!r} has an offset of the consumer {name!r}, which no handler and no entry of "
        "EVENTSTORE['CONSUMERS'] declares: nothing is delivered to it.",
        hint=(
            f"When it has another name now, run `manage.py eventstore_consumers rename {name} NEW` before NEW begins to "
            f"work; when it is gone for good, `manage.py eventstore_consumers retire {name}`. A consumer of another "
            "project on the same log is right; then silence this check."
        ),
        id="django_eventstore.W005",
    )


def _widened(name: str, added: list[str], using: str) -> CheckMessage:
    return Warning(
        f"The consumer {name!r} wants events that it did not want when it last ran on database alias {using!r}: "
        f"{', '.join(added)}. Of these it gets what lies after its offset only.",
        hint=(
            "Nothing need be done when the older ones are not wanted: the warning goes when the consumer has run. To have "
            f"them, run `manage.py eventstore_consumers move {name} --to-beginning` (or --to, --to-time), which delivers "
            "its other events again as well, with entry.is_replay; or give the new events a consumer of their own with "
            "start='beginning'."
        ),
        id="django_eventstore.W006",
    )
