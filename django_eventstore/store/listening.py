"""PostgreSQL's LISTEN/NOTIFY: a commit tells of itself on the channel of its log, and a connection of its own hears it.

A notification carries nothing, and none is needed for anything to be delivered: it spares a follower from looking.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..delivery import DeliveryPolicy

__all__ = ["Listener", "Pause", "is_postgresql", "notify"]

logger = logging.getLogger(__name__)

# By the table and not by a name, so that the logs of two schemas of one database do not wake each other.
CHANNEL = "'eventstore_' || 'eventstore_entry'::regclass::oid"
NOTIFY = f"SELECT pg_notify({CHANNEL}, %s)"
LONGEST_ECHO = 0.5
RECONNECT = DeliveryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=1))
# A listener is silent for hours: without these the kernel finds out after two that the other end has gone.
KEEPALIVE = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


class Pause(Protocol):
    """Sleeps, but no longer than until one of the files can be read; returns True when the waiting is to end."""

    def __call__(self, seconds: float, files: Sequence[int] = ()) -> bool: ...


def is_postgresql(using: str) -> bool:
    """Whether the alias is a PostgreSQL database."""
    return connections[using].vendor == "postgresql"


def notify(using: str, *, payload: str = "") -> None:
    """Wake who listens to the log of this alias, in one round trip. Never inside a transaction that does anything else.

    A transaction that notifies holds a lock of the whole server while it commits; one that does nothing else has nothing to
    flush and holds it for microseconds.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(NOTIFY, [payload])


class NotHeard(Exception):
    """What is notified does not arrive on this connection; a pooler in transaction mode may be in between."""


class Listener:
    """Hears the notifications of one log, on a connection that does nothing else.

    ``alias``: where the connection goes, by default to the log's own; behind a pooler in transaction mode, which gives a
    session to another client after each statement, an alias that goes to the server directly. A lost connection is made
    again, with growing delays; meanwhile ``is_listening`` is False and somebody has to look.
    """

    def __init__(
        self,
        using: str,
        *,
        alias: str | None = None,
        pause: Pause,
        clock: Callable[[], float] = time.monotonic,
        retry: DeliveryPolicy = RECONNECT,
    ) -> None:
        self._using = using
        self._alias = alias or using
        self._pause = pause
        self._clock = clock
        self._retry = retry
        self._wrapper: BaseDatabaseWrapper | None = None
        self._failures = 0
        self._not_before = 0.0

    @property
    def is_listening(self) -> bool:
        """Whether a commit would be heard."""
        return self._wrapper is not None

    @property
    def files(self) -> tuple[int, ...]:
        """What becomes readable when there may be something to hear."""
        return () if self._wrapper is None else (self._wrapper.connection.fileno(),)

    def connect(self) -> bool:
        """Listen, if it does not and it is time to try. True if it listens since now: what it has missed is unknown."""
        if self._wrapper is not None or self._clock() < self._not_before:
            return False
        try:
            self._connect()
        except (Error, NotHeard) as error:
            self._lose(error)
            return False
        if self._failures:
            logger.info("Commits are heard again through alias %r", self._alias)
        self._failures = 0
        return True

    def hears(self) -> bool:
        """Whether a commit was told since the last call; returns at once. A lost connection counts: nobody knows."""
        try:
            return self._wrapper is not None and bool(_payloads(self._wrapper))
        except Error as error:
            self._lose(error)
            return True

    def close(self) -> None:
        """Let go of the connection."""
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None:
            wrapper.close()

    def _connect(self) -> None:
        with connections[self._using].cursor() as cursor:
            cursor.execute(f"SELECT {CHANNEL}")
            channel = cursor.fetchone()[0]
        self._wrapper = wrapper = connections[self._alias].copy()
        options = {**KEEPALIVE, **wrapper.settings_dict["OPTIONS"]}
        options.pop("pool", None)  # one that is never given back would be missing there
        wrapper.settings_dict["OPTIONS"] = options
        wrapper.ensure_connection()
        wrapper.set_autocommit(True)
        with wrapper.cursor() as cursor:
            cursor.execute(f"LISTEN {wrapper.ops.quote_name(channel)}")
        self._require_echo(wrapper)

    def _require_echo(self, wrapper: BaseDatabaseWrapper) -> None:
        """A pooler takes the LISTEN and loses what follows, without a word. So ask for one, from another connection."""
        token = secrets.token_hex(8)
        notify(self._using, payload=token)
        deadline = self._clock() + LONGEST_ECHO
        while token not in _payloads(wrapper):
            left = deadline - self._clock()
            if left <= 0:
                raise NotHeard
            if self._pause(left, self.files):
                return  # nobody is going to wait

    def _lose(self, error: Exception) -> None:
        try:
            self.close()
        except Error:
            logger.debug("The lost connection could not be closed", exc_info=True)
        self._failures += 1
        delay = self._retry.delay(self._failures)
        self._not_before = self._clock() + delay.total_seconds()
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        if isinstance(error, NotHeard):
            logger.log(
                level,
                "No notification arrives through alias %r: is it a pooler in transaction mode? Name an alias that goes to "
                "the server directly in EVENTSTORE['LISTEN_ALIAS']. Until then the log is looked at again and again.",
                self._alias,
            )
        else:
            logger.log(
                level, "Commits are not heard through alias %r; looking again and again", self._alias, exc_info=error
            )


def _payloads(wrapper: BaseDatabaseWrapper) -> list[str]:
    """What has arrived, without waiting for more."""
    driver: Any = wrapper.connection
    with wrapper.wrap_database_errors:
        if hasattr(driver, "pgconn"):  # psycopg 3
            driver.pgconn.consume_input()
            return [told.extra.decode() for told in iter(driver.pgconn.notifies, None)]
        driver.poll()
        told, driver.notifies[:] = [each.payload for each in driver.notifies], []
        return told
