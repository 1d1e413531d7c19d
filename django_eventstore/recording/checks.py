"""System checks of recording: where events go, and what a declaration of a handler does not do."""

from __future__ import annotations

from django.core.checks import CheckMessage, Warning  # noqa: A004 - Django's name for it
from django.db import connections, router

from ..handlers import Handler, handler_registry
from ..models import EventEntry

__all__ = ["check_handler_modes", "check_routing"]


def check_routing(**kwargs: object) -> list[CheckMessage]:
    """Several databases, and nobody says which of them have the log."""
    aliases = [alias for alias in connections if router.allow_migrate_model(alias, EventEntry)]
    if len(aliases) < 2 or router.routers:
        return []
    return [
        Warning(
            f"There are the databases {', '.join(map(repr, aliases))} and no router: an event goes to the one on which a "
            "transaction is open, also where the log's tables were never made.",
            hint=(
                "Name in DATABASE_ROUTERS a router whose allow_migrate() says for the app label 'django_eventstore' which "
                "databases have a log, or migrate each of them and silence this check."
            ),
            id="django_eventstore.W020",
        )
    ]


def check_handler_modes(**kwargs: object) -> list[CheckMessage]:
    """Handlers that declare for a worker what no worker will do."""
    return [
        Warning(
            f"Handler {handler.name!r} has mode={handler.mode!r}, in which {named} no effect.",
            hint="Remove it, or make the handler durable: mode='durable' is the default.",
            id="django_eventstore.W021",
        )
        for handler in handler_registry.all()
        if handler.mode != "durable" and (named := _without_effect(handler))
    ]


def _without_effect(handler: Handler) -> str:
    names = [
        name
        for name, declared in (
            ("consumer", handler.consumer != handler.name),
            ("transaction", handler.transaction != "event"),
            ("start", handler.start != "now"),
            ("max_attempts", handler.max_attempts is not None),
            ("on_parked", handler.on_parked is not None),
            ("replay", not handler.replay),
        )
        if declared
    ]
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'}" if names else ""
