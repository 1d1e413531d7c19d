"""Further connections to the database, for what others do meanwhile."""

from __future__ import annotations

from django.db import connections

__all__ = ["commit_something", "connect"]


def connect(alias: str) -> str:
    """Make ``alias`` a further connection to this process's database; returns it."""
    if alias not in connections.databases:
        connections.databases[alias] = {**connections["default"].settings_dict}
    return alias


def commit_something(using: str) -> None:
    """A transaction that records nothing, as most do."""
    with connections[using].cursor() as cursor:
        cursor.execute("UPDATE shop_counter SET value = value + 1")
