"""Who is at work, and because of what: the context that record() writes into every event. Plain Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from uuid import UUID, uuid4

__all__ = [
    "EventContext",
    "entered",
    "event_context",
    "get_event_context",
    "is_identifier",
    "new_identifier",
    "valid_traceparent",
]

LONGEST_IDENTIFIER = 100
LONGEST_ACTOR = 200
TRACEPARENT = re.compile(r"([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

ActorData = str | Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventContext:
    """What record() adds to an event. ``event_context()`` makes one and validates it.

    ``correlation_id`` and ``causation_id`` go into the columns of these names, the rest into the metadata.
    """

    actor: str | Mapping[str, str] | Callable[[], object] | None = None
    """A name, what ``who()`` made of a user, or a function that is asked each time an event is recorded."""
    correlation_id: str | None = None
    """The same on everything that follows from one beginning: a request, a task, a first event."""
    causation_id: str | None = None
    """The id of the event that is being handled."""
    traceparent: str | None = None
    """The place in a distributed trace, in the form of W3C Trace Context."""
    metadata: Mapping[str, object] = field(default_factory=dict)

    def current_actor(self) -> ActorData | None:
        """The actor as it is stored; asks the function where one was given, which may query the database."""
        return who(self.actor()) if callable(self.actor) else self.actor

    def add_to(self, metadata: Mapping[str, object] | None) -> Mapping[str, object] | None:
        """The metadata of an event: actor, traceparent and metadata of the context, and over them those of the caller."""
        if metadata is not None and not isinstance(metadata, Mapping):
            return metadata  # refused where it is encoded, by an error that says what it must be
        added: dict[str, object] = {}
        actor = self.current_actor()
        if actor is not None:
            added["actor"] = actor
        if self.traceparent is not None:
            added["traceparent"] = self.traceparent
        added.update(self.metadata)
        added.update(metadata or {})
        return added or None

    def to_mapping(self) -> dict[str, object]:
        """What is set, as plain data that ``from_mapping`` reads in another process; the actor is asked for now."""
        given = {name.name: getattr(self, name.name) for name in fields(self)}
        given["actor"] = self.current_actor()
        return {name: value for name, value in given.items() if value}

    @classmethod
    def from_mapping(cls, given: Mapping[str, object]) -> EventContext:
        """What of the mapping is valid; it may come from another version of the package, or from anybody."""
        correlation_id, causation_id = given.get("correlation_id"), given.get("causation_id")
        actor, metadata = given.get("actor"), given.get("metadata")
        return cls(
            actor=actor if _is_actor_data(actor) else None,  # type: ignore[arg-type]
            correlation_id=correlation_id if is_identifier(correlation_id) else None,  # type: ignore[arg-type]
            causation_id=causation_id if is_identifier(causation_id) else None,  # type: ignore[arg-type]
            traceparent=valid_traceparent(given.get("traceparent")),
            metadata=metadata if isinstance(metadata, Mapping) else {},
        )


EMPTY = EventContext()
_context: ContextVar[EventContext | None] = ContextVar("django_eventstore.context", default=None)
# What record() asks for each event: None costs it nothing more.
active_context = _context.get


def get_event_context() -> EventContext:
    """The context of the code that runs now; an empty one outside every ``event_context()``."""
    return _context.get() or EMPTY


class entered(AbstractContextManager[EventContext]):  # noqa: N801 - read as a verb: with entered(context)
    """Run a block in exactly this context, whatever the one around it is."""

    __slots__ = ("_given", "_token")

    def __init__(self, context: EventContext) -> None:
        self._given = context

    def __enter__(self) -> EventContext:
        self._token: Token[EventContext | None] = _context.set(self._given)
        return self._given

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _context.reset(self._token)


def event_context(
    *,
    actor: object = None,
    correlation_id: str | UUID | None = None,
    causation_id: str | UUID | None = None,
    traceparent: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> AbstractContextManager[EventContext]:
    """``with event_context(actor="import", correlation_id=run_id):`` events recorded inside carry these values.

    Blocks nest: what an inner one does not name it inherits; metadata is merged key by key. Works in sync and async code,
    and flows into tasks, threads of ``sync_to_async`` and Celery tasks that are started inside.

    ``actor``: a text, a user, or a function that returns one and is asked at each recording. A user is kept as data, so
    that the event still says who it was when the user is gone.

    Raises ValueError for ids that are empty, longer than 100 characters or not printable, for a traceparent that is not of
    the form of W3C Trace Context, and for an actor that is none of the above.
    """
    given: dict[str, object] = {}
    if actor is not None:
        given["actor"] = actor if callable(actor) else who(actor)
    if correlation_id is not None:
        given["correlation_id"] = _identifier(correlation_id, name="correlation_id")
    if causation_id is not None:
        given["causation_id"] = _identifier(causation_id, name="causation_id")
    if traceparent is not None:
        given["traceparent"] = valid_traceparent(traceparent)
        if given["traceparent"] is None:
            raise ValueError(f"traceparent must be of the form of W3C Trace Context, got {traceparent!r}.")
    around = get_event_context()
    if metadata is not None:
        given["metadata"] = {**around.metadata, **metadata}
    return entered(replace(around, **given))  # type: ignore[arg-type]


def who(actor: object) -> ActorData | None:
    """An actor as it is stored: a text as it is, a user as model, key and name; None for nobody and for anonymous.

    A user need not be a model: what authenticates by a token often makes one that has a key or a name only.
    Raises ValueError for anything else.
    """
    if actor is None or _is_actor_data(actor):
        return actor  # type: ignore[return-value]
    if getattr(actor, "is_anonymous", False):
        return None
    meta = getattr(actor, "_meta", None)
    key = getattr(actor, "pk", None) if meta is not None else getattr(actor, "pk", getattr(actor, "id", None))
    if key is None and (meta is not None or not getattr(actor, "is_authenticated", False)):
        raise ValueError(
            f"An actor is a text of 1 to {LONGEST_ACTOR} printable characters, a saved user, or a function that returns "
            f"one, got {actor!r}."
        )
    get_name = getattr(actor, "get_username", None)
    label = str((get_name() if callable(get_name) else actor) or key)
    described = {
        "model": None if meta is None else meta.label_lower,
        "id": key,
        "label": _printable(label)[:LONGEST_ACTOR],
    }
    return {name: str(value) for name, value in described.items() if value is not None}


def is_identifier(value: object) -> bool:
    """Whether this can be a correlation or causation id: 1 to 100 printable characters."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_IDENTIFIER and value.isprintable()


def new_identifier() -> str:
    """A correlation id for something that begins now."""
    return str(uuid4())


def valid_traceparent(value: object) -> str | None:
    """The traceparent if it is one, else None. Of a version to come it is the part that version 00 knows."""
    if not isinstance(value, str):
        return None
    match = TRACEPARENT.match(value)
    if match is None or match[1] == "ff":
        return None
    rest = value[match.end() :]
    return match[0] if not rest or (match[1] != "00" and rest.startswith("-")) else None


def _identifier(value: object, *, name: str) -> str:
    text = str(value) if isinstance(value, UUID) else value
    if not is_identifier(text):
        raise ValueError(f"{name} must have 1 to {LONGEST_IDENTIFIER} printable characters, got {value!r}.")
    return text  # type: ignore[return-value]


def _is_actor_data(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(key, str) and _is_name(text) for key, text in value.items())
    return _is_name(value)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ACTOR and value.isprintable()


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
