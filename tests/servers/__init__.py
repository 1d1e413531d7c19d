"""Servers for tests: private ones to crash, and a word on which shared ones are there. Imports no Django."""

from tests.servers.availability import SERVICES, missing
from tests.servers.errors import ServerFailed, ServerMissing
from tests.servers.mariadb import MariaDBServer
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgresCluster, free_port
from tests.servers.postgresql_binaries import PostgresBinaries, find_binaries, find_wheel_binaries
from tests.servers.slow_log import build_slow_log_flush

__all__ = [
    "SERVICES",
    "MariaDBServer",
    "PgBouncer",
    "PostgresBinaries",
    "PostgresCluster",
    "ServerFailed",
    "ServerMissing",
    "build_slow_log_flush",
    "find_binaries",
    "find_wheel_binaries",
    "free_port",
    "missing",
]
