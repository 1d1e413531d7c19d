"""Which database an event goes to when the caller does not say."""

from __future__ import annotations

from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from ..exceptions import EventStoreError
from ..models import EventEntry

__all__ = ["alias_for"]


def alias_for(stream: models.Model | str | None) -> str:
    """The alias of the transaction that changes what the event is about.

    The database that the stream's instance is written to; else the one on which a transaction is open; else where the
    router writes EventEntry. Only databases that may hold the log count (``allow_migrate``).

    Raises EventStoreError when transactions are open on several and nothing says which is meant.
    """
    if len(connections.settings) == 1:
        return router.db_for_write(EventEntry)
    if isinstance(stream, models.Model) and stream._state.db is not None:
        # Not where it was read from, which may be a replica.
        home = router.db_for_write(type(stream), instance=stream)
        if _holds_log(home):
            return home
    open_aliases = [
        connection.alias
        for connection in connections.all(initialized_only=True)
        if _is_open(connection) and _holds_log(connection.alias)
    ]
    if len(open_aliases) == 1:
        return open_aliases[0]
    usual = router.db_for_write(EventEntry)
    if not open_aliases or usual in open_aliases:
        return usual
    raise EventStoreError(
        f"Transactions are open on the databases {', '.join(map(repr, sorted(open_aliases)))}, and nothing says which of "
        "them the event belongs to: name it, record(..., using=...)."
    )


def _holds_log(alias: str) -> bool:
    return bool(router.allow_migrate_model(alias, EventEntry))


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    # What a TestCase opens, on each of its databases, is nobody's choice.
    return any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
