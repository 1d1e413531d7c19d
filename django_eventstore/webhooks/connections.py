"""The open connections of one process: one for each endpoint at most, and not more than so many in all."""

from __future__ import annotations

import ssl
import threading
import time
from collections import OrderedDict
from datetime import timedelta

from ..models import Endpoint
from .client import Connection, Limits
from .targets import Rules, parse_url

__all__ = ["Connections"]

MOST_IDLE = 200
LONGEST_USE = timedelta(minutes=5)
"""After which a connection is made anew, so that a name that has moved is followed."""


class Connections:
    """Keeps connections open between two events. A thread takes one, and gives it back when it may be used again."""

    def __init__(self, *, rules: Rules, limits: Limits, tls: ssl.SSLContext) -> None:
        self._rules, self._limits, self._tls = rules, limits, tls
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[int, str], Connection] = OrderedDict()

    def take(self, endpoint: Endpoint) -> Connection:
        """An idle connection to the endpoint, or a new one, not open yet. Raises ValueError for a URL against the rules."""
        target = parse_url(endpoint.url, self._rules)
        with self._lock:
            found = self._idle.pop((endpoint.pk, endpoint.url), None)
        if found is not None and time.monotonic() - found.opened_at < LONGEST_USE.total_seconds():
            return found
        if found is not None:
            found.close()
        return Connection(target, rules=self._rules, limits=self._limits, tls=self._tls)

    def give_back(self, endpoint: Endpoint, connection: Connection) -> None:
        """Keep it for the next event."""
        if not connection.is_open:
            return
        with self._lock:
            before = self._idle.pop((endpoint.pk, endpoint.url), None)
            self._idle[endpoint.pk, endpoint.url] = connection
            surplus = self._idle.popitem(last=False)[1] if len(self._idle) > MOST_IDLE else None
        for each in (before, surplus):
            if each is not None:
                each.close()

    def close(self) -> None:
        """Close those that are idle."""
        with self._lock:
            idle, self._idle = list(self._idle.values()), OrderedDict()
        for each in idle:
            each.close()
