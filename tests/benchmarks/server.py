"""What a reader of the figures must know about the database server: its release, and whether a commit is durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from importlib.metadata import version

from django.db import connection

POSTGRESQL = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "jit")
MARIADB = ("innodb_flush_log_at_trx_commit", "innodb_doublewrite", "sync_binlog", "log_bin", "innodb_buffer_pool_size")
SQLITE = ("journal_mode", "synchronous", "cache_size")


def server_facts() -> str:
    """One line about the server, the driver and the settings that decide what a commit costs."""
    if connection.vendor == "postgresql":
        settings = [(name, _value(f"SHOW {name}")) for name in POSTGRESQL]
        return _line(f"PostgreSQL {_value('SHOW server_version')}", f"psycopg {version('psycopg')}", settings)
    if connection.vendor == "mysql":
        settings = [(name, _value(f"SELECT @@global.{name}")) for name in MARIADB]
        return _line(f"MariaDB {_value('SELECT VERSION()')}", f"mysqlclient {version('mysqlclient')}", settings)
    settings = [(name, _value(f"PRAGMA {name}")) for name in SQLITE]
    return _line(f"SQLite {sqlite3.sqlite_version}", "sqlite3", settings)


def _value(sql: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def _line(server: str, driver: str, settings: Sequence[tuple[str, object]]) -> str:
    return f"{server}, {driver}: {', '.join(f'`{name}={value}`' for name, value in settings)}"
