"""The settings: one ``EVENTSTORE`` dict, parsed into a frozen, typed object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal, get_args

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

__all__ = ["ConsumerSettings", "OutsideTransaction", "Settings", "get_settings", "setting_problems"]

OutsideTransaction = Literal["allow", "warn", "error"]
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "OUTSIDE_TRANSACTION": get_args(OutsideTransaction),
    "ON_PARKED": ("block", "continue"),
    "ON_UNDECODABLE": ("retry", "park", "pause"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """One consumer of ``EVENTSTORE["CONSUMERS"]``."""

    SENDER: str
    """Dotted path of the EventSender class that delivers for this consumer."""
    OPTIONS: Mapping[str, object] = field(default_factory=dict)
    """Keyword arguments of the sender class."""
    EVENTS: tuple[str, ...] = ("*",)
    """Type names, or prefixes such as ``orders.*``; ``*`` is every event."""
    START: Literal["now", "beginning"] | int | datetime = "now"
    """Where the consumer begins when it is first seen: at the head of the log, at its beginning, after a position, or at an
    aware datetime."""
    LIMIT: int | None = None
    """Most entries per batch; by default the sender's ``batch_size``."""
    MAX_ATTEMPTS: int | None = None
    """Failures of one event after which it is parked; by default the setting of the same name."""
    ON_PARKED: Literal["block", "continue"] | None = None
    """Whether a parked event blocks its stream; by default the setting of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its default. The names are the keys of the ``EVENTSTORE`` dict."""

    CONSUMERS: Mapping[str, ConsumerSettings] = field(default_factory=dict)
    """Consumers with a sender, by name. Durable handlers need no entry: each is a consumer of its own."""
    MAX_PAYLOAD_BYTES: int = 1_000_000
    """Largest payload, in bytes of UTF-8 JSON, and the largest metadata; more is refused where the event is recorded."""
    OUTSIDE_TRANSACTION: OutsideTransaction = "warn"
    """What record() does outside atomic(), where the event and the change it reports cannot commit together."""
    CREATE_BEAT_SCHEDULE: bool = True
    """Whether migrate creates the periodic task of the forwarder (never changed once it exists)."""
    FORWARD_EVERY: timedelta = timedelta(seconds=1)
    """Period of that periodic task when it is created."""
    FORWARD_SECONDS: timedelta = timedelta(seconds=20)
    """Longest run of one forward task; with more to do it enqueues itself again."""
    FORWARD_EVENTS: int = 10_000
    """Most events one forward task delivers before it enqueues itself again."""
    LEASE: timedelta = timedelta(seconds=60)
    """How long a worker holds a consumer without renewing; a stopped worker delays its consumer no longer than this.

    Longer than the slowest handler takes for one event: when a lease ends in the middle of one, another worker begins the
    same event, and what the first one did is rolled back."""
    WAKE_UP: bool = True
    """Whether a commit that recorded events sends a forward task at once, besides the periodic one."""
    WAKE_UP_INTERVAL: timedelta = timedelta(milliseconds=100)
    """Shortest time between two such wake-ups of one process."""
    NOTIFY: bool = True
    """Whether a commit that recorded events tells followers (``eventstore_forward --follow``) at once, on PostgreSQL and
    where one was seen at work; otherwise they look for themselves."""
    LISTEN_ALIAS: str | None = None
    """Database alias on which followers listen; beside PgBouncer in transaction mode one that goes to the server directly."""
    TRACING: bool = True
    """Whether there are spans of OpenTelemetry, where its API is installed."""
    RETRY_BASE: timedelta = timedelta(seconds=1)
    """Upper bound of the first delay after a failed delivery; it doubles with each attempt."""
    RETRY_CAP: timedelta = timedelta(minutes=5)
    """Longest delay between two attempts."""
    MAX_ATTEMPTS: int = 12
    """Failures of one event after which it is parked and waits for an operator; deadlocks and lock time-outs do not count."""
    ON_PARKED: Literal["block", "continue"] = "block"
    """Whether a parked event goes on blocking its stream, or the stream goes on without it."""
    ON_UNDECODABLE: Literal["retry", "park", "pause"] = "retry"
    """An event of an unknown type, or whose payload does not fit its class: tried again like any failure, parked at once, or
    a reason to pause the consumer. It is never passed over."""
    MAX_FAILURES: int = 1_000
    """Open failed deliveries of one consumer at which it is paused: then it is not the events that are bad."""
    MAX_CRASHES: int = 3
    """Workers that may die in the middle of an event before it is parked."""
    AFTER_COMMIT_THREADS: int = 4
    """Most threads of one process that run handlers with ``mode="after_commit"``."""
    AFTER_COMMIT_QUEUE: int = 1_000
    """Most calls of such handlers that wait for a thread; beyond it a call runs in the thread that committed."""
    AFTER_COMMIT_EXIT: timedelta = timedelta(seconds=10)
    """How long a process that ends waits for these handlers."""
    PAGE_LIMIT: int = 1_000
    """Most events in one page of the HTTP API; a larger ``limit`` is taken as this."""


def _value_problem(name: str, value: object, default: object) -> str | None:
    """What is wrong with a scalar setting, or None."""
    if name in _CHOICES:
        choices = _CHOICES[name]
        return None if value in choices else f"must be one of {', '.join(map(repr, choices))}"
    if default is None:
        return None if value is None or (isinstance(value, str) and value) else "must be a text or None"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "must be True or False"
    if isinstance(default, int):
        return None if _is_integer(value, least=1) else "must be a positive integer"
    if isinstance(default, timedelta):
        ok = isinstance(value, timedelta) and value > timedelta(0)
        return None if ok else "must be a positive datetime.timedelta"
    raise AssertionError(name)


def _is_integer(value: object, *, least: int, most: int = 2**63 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _unknown(where: str, key: object, known: list[str]) -> str:
    close = get_close_matches(str(key), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known)}."
    return f"{where}: unknown key {key!r}.{hint}"


def _consumer(name: object, raw: object, problems: list[str]) -> ConsumerSettings | None:
    where = f"EVENTSTORE['CONSUMERS'][{name!r}]"
    if not isinstance(name, str) or not name or len(name) > 150:
        problems.append(f"{where}: a consumer's name is a text of 1 to 150 characters.")
        return None
    if not isinstance(raw, Mapping):
        problems.append(f"{where} must be a dict with 'SENDER'.")
        return None
    known = [f.name for f in dataclasses.fields(ConsumerSettings)]
    problems.extend(_unknown(where, key, known) for key in raw if key not in known)
    before = len(problems)
    sender, options, events = raw.get("SENDER"), raw.get("OPTIONS", {}), raw.get("EVENTS", ("*",))
    start, limit = raw.get("START", "now"), raw.get("LIMIT")
    max_attempts, on_parked = raw.get("MAX_ATTEMPTS"), raw.get("ON_PARKED")
    if not isinstance(sender, str) or "." not in sender:
        problems.append(f"{where}['SENDER'] must be the dotted path of an EventSender class.")
    if not isinstance(options, Mapping):
        problems.append(f"{where}['OPTIONS'] must be a dict.")
    if not (isinstance(events, list | tuple) and events and all(isinstance(pattern, str) for pattern in events)):
        problems.append(f"{where}['EVENTS'] must be a list of type names or prefixes such as 'orders.*'.")
    if isinstance(start, datetime):
        if start.utcoffset() is None:
            problems.append(f"{where}['START'] is a naive datetime: give it a time zone.")
    elif start not in ("now", "beginning") and not _is_integer(start, least=0):
        problems.append(f"{where}['START'] must be 'now', 'beginning', a position or an aware datetime.")
    if limit is not None and not _is_integer(limit, least=1, most=10_000):
        problems.append(f"{where}['LIMIT'] must be between 1 and 10000.")
    if max_attempts is not None and not _is_integer(max_attempts, least=1):
        problems.append(f"{where}['MAX_ATTEMPTS'] must be a positive integer.")
    if on_parked is not None and on_parked not in _CHOICES["ON_PARKED"]:
        problems.append(f"{where}['ON_PARKED'] must be 'block' or 'continue'.")
    if len(problems) > before:
        return None
    return ConsumerSettings(
        SENDER=str(sender),
        OPTIONS=dict(options),
        EVENTS=tuple(events),
        START=start,
        LIMIT=limit,
        MAX_ATTEMPTS=max_attempts,
        ON_PARKED=on_parked,
    )


def _parse(raw: object) -> tuple[Settings, list[str]]:
    """Settings with the default where a value is wrong, and one sentence per problem."""
    problems: list[str] = []
    if not isinstance(raw, Mapping):
        return Settings(), ["EVENTSTORE must be a dict."]
    defaults = Settings()
    known = [f.name for f in dataclasses.fields(Settings)]
    values: dict[str, object] = {}
    for key, value in raw.items():
        if key not in known:
            problems.append(_unknown("EVENTSTORE", key, known))
        elif key == "CONSUMERS":
            if isinstance(value, Mapping):
                parsed = {name: _consumer(name, given, problems) for name, given in value.items()}
                values[key] = {name: consumer for name, consumer in parsed.items() if consumer is not None}
            else:
                problems.append("EVENTSTORE['CONSUMERS'] must be a dict of consumers by name.")
        elif problem := _value_problem(key, value, getattr(defaults, key)):
            problems.append(f"EVENTSTORE[{key!r}] {problem}.")
        else:
            values[key] = value
    return dataclasses.replace(defaults, **values), problems  # type: ignore[arg-type]


def setting_problems() -> list[str]:
    """One sentence per mistake in ``EVENTSTORE``: unknown keys with the name they resemble, values of a wrong kind."""
    return _parse(getattr(django_settings, "EVENTSTORE", {}))[1]


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The parsed settings.

    Raises ImproperlyConfigured with every problem, so that a misspelt name never silently means the default.
    """
    settings, problems = _parse(getattr(django_settings, "EVENTSTORE", {}))
    if problems:
        raise ImproperlyConfigured(" ".join(problems))
    return settings


@receiver(setting_changed)
def _forget_settings(*, setting: str, **kwargs: object) -> None:
    if setting == "EVENTSTORE":
        get_settings.cache_clear()
