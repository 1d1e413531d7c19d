"""What a test can see of what handlers have done, without being told where to look."""

from __future__ import annotations

from collections.abc import Mapping

from django.apps import apps
from django.core import mail
from django.db import models, router

from ..models import EventEntry

__all__ = ["changes", "database_state"]

MOST_SHOWN = 3
# The offsets and leases of the event store change with every delivery; what handlers record is looked at apart.
OWN = EventEntry._meta.app_label


def database_state(*, using: str | None = None) -> dict[str, list[object]]:
    """Every row of the project's models, the recorded events, and the mails of ``mail.outbox``.

    Fields with ``auto_now`` are left out: they change when a row is saved as it was. For a small database, as tests have.
    ``using``: look there; by default where the router writes each model.
    """
    state: dict[str, list[object]] = {}
    for model in apps.get_models(include_auto_created=True):
        options = model._meta
        alias = using or router.db_for_write(model)
        if options.app_label == OWN or not options.managed or options.proxy or not _lives_on(alias, model):
            continue
        names = [field.attname for field in options.local_concrete_fields if not getattr(field, "auto_now", False)]
        state[options.label] = list(model._base_manager.using(alias).order_by("pk").values(*names))
    entries = EventEntry.objects.using(using or router.db_for_write(EventEntry)).order_by("id")
    state["events"] = list(entries.values("type", "stream", "payload"))
    state["mails"] = [
        {"to": message.to, "subject": message.subject, "body": message.body} for message in getattr(mail, "outbox", [])
    ]
    return state


def changes(before: object, after: object) -> str:
    """What differs between two observations, one line each."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return "\n".join(f"  {name}: {_change(before.get(name), after.get(name))}" for name in names)
    return f"  {_change(before, after)}"


def _change(before: object, after: object) -> str:
    if isinstance(before, list) and isinstance(after, list):
        more = [f"+ {item!r}" for item in _without(after, before)]
        less = [f"- {item!r}" for item in _without(before, after)]
        shown = [*less, *more]
        rest = f", … {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
        return f"{len(before)} became {len(after)}: {', '.join(shown[:MOST_SHOWN])}{rest}"
    return f"{before!r} became {after!r}"


def _without(items: list[object], others: list[object]) -> list[object]:
    """The items, less as many equal ones as there are among the others."""
    left = list(others)
    rest = []
    for item in items:
        if item in left:
            left.remove(item)
        else:
            rest.append(item)
    return rest


def _lives_on(alias: str, model: type[models.Model]) -> bool:
    return router.allow_migrate_model(alias, model)
