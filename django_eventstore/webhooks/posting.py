"""One event posted to one endpoint, and what came of it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from ..delivery import DeliveredEntry
from ..events.wire import WireEvent
from ..models import Endpoint
from .client import AnswerTooLong
from .connections import Connections
from .signing import secret_key, signature_headers
from .targets import AddressRefused
from .vault import SecretUnreadable, decrypt

__all__ = ["LONGEST_PROBLEM", "Failure", "Item", "Poster", "Try"]

GONE = 410
LONGEST_PROBLEM = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An event as it is posted; its signature is made for each endpoint and try."""

    event_id: UUID
    type: str
    position: int | None
    wire: WireEvent

    @classmethod
    def of(cls, entry: DeliveredEntry, wire: WireEvent) -> Item:
        """The event of an entry, written."""
        return cls(event_id=entry.event_id, type=entry.type, position=entry.position, wire=wire)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an endpoint cannot go on for now."""

    problem: str
    retry_after: timedelta | None = None
    """When it wants to be asked again, if it said so."""
    is_gone: bool = False
    """It says that it is no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try: when, how long it took, what the answer was, and what is wrong with it."""

    item: Item
    at: datetime
    seconds: float
    status: int | None = None
    problem: str = ""
    """Empty: the endpoint has accepted the event."""
    retry_after: timedelta | None = None

    @property
    def accepted(self) -> bool:
        """Whether the endpoint has the event for good."""
        return not self.problem

    @property
    def failure(self) -> Failure | None:
        """What is wrong, as the endpoint's row keeps it; None when the event was accepted."""
        if self.accepted:
            return None
        return Failure(problem=self.problem, retry_after=self.retry_after, is_gone=self.status == GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """Posts events. Threads may share it, each with another endpoint."""

    connections: Connections
    headers: Mapping[str, str]

    def post(self, endpoint: Endpoint, item: Item) -> Try:
        """Post the event and wait for the answer. What goes wrong is told by the Try; nothing of it is raised."""
        at, began = timezone.now(), time.monotonic()
        try:
            connection = self.connections.take(endpoint)
        except ValueError as error:  # the rules are stricter than they were
            return Try(item=item, at=at, seconds=0, problem=str(error)[:LONGEST_PROBLEM])
        try:
            headers = {
                **self.headers,
                "User-Agent": "django-eventstore",
                "Content-Type": item.wire.content_type,
                **item.wire.headers,
                **signature_headers(
                    id=str(item.event_id), timestamp=int(at.timestamp()), body=item.wire.body, keys=keys_of(endpoint)
                ),
            }
            answer = connection.post(item.wire.body, headers)
            self.connections.give_back(endpoint, connection)
        except (AddressRefused, AnswerTooLong, SecretUnreadable) as error:
            problem = str(error)
        except (http.client.HTTPException, ValueError) as error:  # their texts hold what the endpoint has said
            problem = f"The answer is none of HTTP: {type(error).__name__}."
        except OSError as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            return Try(
                item=item,
                at=at,
                seconds=time.monotonic() - began,
                status=answer.status,
                problem="" if 200 <= answer.status < 300 else _meaning(answer.status),
                retry_after=answer.retry_after,
            )
        return Try(item=item, at=at, seconds=time.monotonic() - began, problem=problem[:LONGEST_PROBLEM])


def keys_of(endpoint: Endpoint) -> list[bytes]:
    """The keys that sign now: the newest first, and the one before while it still does."""
    until = endpoint.previous_until
    stored = [endpoint.secret]
    if endpoint.previous_secret and until is not None and until > timezone.now():
        stored.append(endpoint.previous_secret)
    return [_key(text, settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS) for text in stored]


@lru_cache(maxsize=4096)
def _key(stored: str, *keys: str | bytes) -> bytes:
    """To decrypt takes as long as to sign ten times. ``keys``: those of the settings, which may be others in a moment."""
    return secret_key(decrypt(stored))


def _meaning(status: int) -> str:
    if 300 <= status < 400:
        return f"The answer is {status}: a redirect is not followed."
    if status == GONE:
        return "The answer is 410: the endpoint is gone."
    return f"The answer is {status}."
