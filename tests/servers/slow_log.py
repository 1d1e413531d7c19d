"""The library that makes InnoDB slow to write its log, so that a crash finds commits that were shown but not kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.servers.accounts import run
from tests.servers.errors import ServerMissing

_SOURCE = Path(__file__).resolve().parent.parent / "slow_log_flush.c"


def find_compiler() -> str:
    """The C compiler. Raises ServerMissing when there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ServerMissing("no C compiler found; install Debian's gcc and libc6-dev packages")
    return compiler


def build_slow_log_flush(directory: Path) -> Path:
    """Compile ``slow_log_flush.c`` into ``directory`` and return the library for ``MariaDBServer(ld_preload=…)``.

    What its environment variables mean is said at the top of the C file. The library may be read by every user, and
    ``directory`` must be reachable for the server's. Raises ServerMissing without a C compiler.
    """
    library = directory.resolve() / "slow_log_flush.so"
    options = ["-Wall", "-Werror", "-O2", "-shared", "-fPIC"]
    run([find_compiler(), *options, "-o", library, _SOURCE, "-ldl"], account=None, directory=directory)
    library.chmod(0o755)
    return library
