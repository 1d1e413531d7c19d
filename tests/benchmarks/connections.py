"""Further connections to the database, for what others do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from tests.benchmarks.entries import begin_log

__all__ = ["calm_database", "commit_something", "connect"]


def connect(alias: str) -> str:
    """Make ``alias`` a further connection to this process's database; returns it."""
    if alias not in connections.databases:
        connections.databases[alias] = {**connections["default"].settings_dict}
    return alias


def commit_something(using: str) -> None:
    """A transaction that records nothing, as most do."""
    with connections[using].cursor() as cursor:
        cursor.execute("UPDATE shop_counter SET value = value + 1")


@contextmanager
def calm_database(alias: str) -> Iterator[str]:
    """Make ``alias`` another database of the same server, with a log of its own; it is removed at the end."""
    settings = connections["default"].settings_dict
    name = f"{settings['NAME']}_{alias}"
    connections.databases[alias] = {**settings, "NAME": name, "TEST": {**settings["TEST"], "NAME": name}}
    connections[alias].creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        begin_log(using=alias)
        yield alias
    finally:
        connections[alias].creation.destroy_test_db(name, verbosity=0)
