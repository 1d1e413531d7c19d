"""The consumers a project declares: in its settings, and by its durable handlers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..conf import get_settings
from ..delivery import DeliveryPolicy, OnParked
from ..exceptions import UnknownConsumer
from ..handlers import Handler, Start, handler_registry

__all__ = ["Consumer", "declared_consumer", "declared_consumers"]

HANDLER_SENDER = "django_eventstore.senders.HandlerSender"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A name with its filter, its sender, and where it starts. Its offset lives in the database under the name."""

    name: str
    events: tuple[str, ...]
    sender: str
    """Dotted path of the EventSender class."""
    options: Mapping[str, object] = field(default_factory=dict)
    start: Start = "now"
    limit: int | None = None
    """Most entries per batch; None: its sender's batch_size."""
    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    """What becomes of an event that could not be delivered."""


def declared_consumers() -> dict[str, Consumer]:
    """Every consumer by name: those of the settings first, then one per handler or group of handlers.

    Raises ValueError when a handler names a consumer of the settings, or handlers that share one disagree.
    """
    settings = get_settings().CONSUMERS
    consumers = {
        name: Consumer(
            name=name,
            events=given.EVENTS,
            sender=given.SENDER,
            options=given.OPTIONS,
            start=given.START,
            limit=given.LIMIT,
            policy=_policy(given.MAX_ATTEMPTS, given.ON_PARKED),
        )
        for name, given in settings.items()
    }
    groups: dict[str, list[Handler]] = {}
    for handler in handler_registry.durable():
        groups.setdefault(handler.consumer, []).append(handler)
    for name, handlers in groups.items():
        if name in consumers:
            raise ValueError(
                f"Consumer {name!r} is in EVENTSTORE['CONSUMERS'] and named by the handler {handlers[0].name!r}."
            )
        consumers[name] = _of_handlers(name, handlers)
    return consumers


def declared_consumer(name: str) -> Consumer:
    """The consumer of this name. Raises UnknownConsumer, which lists the declared ones."""
    consumers = declared_consumers()
    if name not in consumers:
        raise UnknownConsumer(consumer=name, known=tuple(consumers))
    return consumers[name]


def _of_handlers(name: str, handlers: list[Handler]) -> Consumer:
    first = handlers[0]
    for other in handlers[1:]:
        if _shared(other) != _shared(first):
            raise ValueError(
                f"Handlers {first.name!r} and {other.name!r} share the consumer {name!r} and differ in transaction, start, "
                "max_attempts or on_parked."
            )
    return Consumer(
        name=name,
        events=tuple(dict.fromkeys(pattern for handler in handlers for pattern in handler.events)),
        sender=HANDLER_SENDER,
        options={"handlers": tuple(handlers), "transaction": first.transaction},
        start=first.start,
        policy=_policy(first.max_attempts, first.on_parked),
    )


def _shared(handler: Handler) -> tuple[object, ...]:
    """What handlers of one consumer must agree on."""
    return handler.transaction, handler.start, handler.max_attempts, handler.on_parked


def _policy(max_attempts: int | None, on_parked: OnParked | None) -> DeliveryPolicy:
    settings = get_settings()
    return DeliveryPolicy(
        max_attempts=max_attempts or settings.MAX_ATTEMPTS,
        base=settings.RETRY_BASE,
        cap=settings.RETRY_CAP,
        on_parked=on_parked or settings.ON_PARKED,
        on_undecodable=settings.ON_UNDECODABLE,
        max_failures=settings.MAX_FAILURES,
        max_crashes=settings.MAX_CRASHES,
    )
