"""The system account that database servers run as.

PostgreSQL refuses to run as root, and MariaDB wants to be told. A test that runs as root therefore starts every server
program as another user; a test that does not, starts it as itself.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tests.servers.errors import ServerFailed, ServerMissing

PROGRAM_TIMEOUT = 120.0
"""Seconds after which a helper program (initdb, pg_dump, …) counts as hung."""


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user and group a program is started as."""

    name: str
    uid: int
    gid: int


def postgresql_account() -> Account | None:
    """The account for PostgreSQL, or None when this process is not root and needs no other."""
    if os.geteuid() != 0:
        return None
    account = _first_existing("postgres", "embedded_postgres", "nobody")
    if account is None:
        raise ServerMissing("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
    return account


def mariadb_account() -> Account | None:
    """The account for MariaDB, or None when it is to run as this process's user (also as root)."""
    return _first_existing("mysql") if os.geteuid() == 0 else None


def _first_existing(*names: str) -> Account | None:
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    return None


def identity(account: Account | None) -> _Identity:
    """The keyword arguments of ``subprocess`` that make a program run as this account."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what redirects a database client, and with a home the account may write."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "MYSQL", "MARIADB"))}
    return {**inherited, "HOME": str(home), "LC_ALL": "C", **(extra or {})}


def own_directory(path: Path, account: Account | None, mode: int = 0o755) -> Path:
    """Make the directory if it is not there, and give it to the account.

    Raises ServerFailed when the account cannot reach it: a directory above it is closed to others.
    """
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if account is not None:
        os.chown(path, account.uid, account.gid)
        for parent in reversed(path.parents):
            if not can("-x", parent, account):
                raise ServerFailed(f"the user {account.name} cannot pass through {parent} to reach {path}")
    return path


def can(test: str, path: Path, account: Account | None) -> bool:
    """Whether ``test -x path`` (or -r, -w) holds for the account."""
    return subprocess.run(["test", test, str(path)], check=False, cwd="/", **identity(account)).returncode == 0


def run(
    arguments: Sequence[str | Path],
    *,
    account: Account | None,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = PROGRAM_TIMEOUT,
) -> str:
    """Run a program to its end as the account and return what it printed.

    Raises ServerFailed with its output when it ends with an error or takes longer than ``timeout`` seconds.
    """
    try:
        result = subprocess.run(
            [str(argument) for argument in arguments],
            check=False,
            cwd=directory,
            env=clean_environment(directory, environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            **identity(account),
        )
    except subprocess.TimeoutExpired as exc:
        raise ServerFailed(f"{arguments[0]} did not end within {timeout:g} s") from exc
    if result.returncode != 0:
        output = (result.stdout + result.stderr)[-4000:]
        raise ServerFailed(f"{arguments[0]} ended with {result.returncode}:\n{output}")
    return result.stdout
