"""A shop on what comes with Python: SQLite as the database, directories as the message broker.

Everything that is written goes below one directory, ``SHOP_DATA`` in the environment, by default ``var`` beside this project.
"""

from __future__ import annotations

import os
from pathlib import Path

from file_broker import use_whole_files

BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SHOP_DATA", BASE_DIR / "var"))

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "insecure: for your own machine only")
# On for the browser's sake (the admin's style sheets); the worker and beat of the demo run without.
DEBUG = os.environ.get("SHOP_DEBUG", "1") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop_site.urls"
WSGI_APPLICATION = "shop_site.wsgi.application"
ASGI_APPLICATION = "shop_site.asgi.application"
STATIC_URL = "/static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "django_celery_beat",
    "django_eventstore",
    "shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # What a request records says who asked, and in which request. Below the authentication, whose user it takes.
    "django_eventstore.recording.EventContextMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

# --- the database -----------------------------------------------------------------------------------------------------

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "shop.sqlite3",
        "OPTIONS": {
            # A transaction that begins by reading and then writes would fail at once when another one wrote in between.
            "transaction_mode": "IMMEDIATE",
            # Seconds to wait for the one writer that SQLite allows.
            "timeout": 20,
            # FULL: with NORMAL a power cut can take back a commit, and with it positions that others have seen.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
}

# --- the cache, in files: all processes see the same -------------------------------------------------------------------

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": DATA / "cache"},
}

# --- Celery, over directories -----------------------------------------------------------------------------------------

BROKER = DATA / "broker"
# Celery does not make them, and a worker without them ends at once.
for directory in (BROKER / "messages", BROKER / "control"):
    directory.mkdir(parents=True, exist_ok=True)

use_whole_files()
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # The same one: what is sent is what is received.
    "data_folder_in": str(BROKER / "messages"),
    "data_folder_out": str(BROKER / "messages"),
    "control_folder": str(BROKER / "control"),
    # Seconds between two looks into the directory; Celery's default is 1.
    "polling_interval": 0.1,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
# The forwarder's schedule is a row, made by migrate and edited in the admin.
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

# --- mail, into files -------------------------------------------------------------------------------------------------

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA / "mail"
DEFAULT_FROM_EMAIL = "shop@example.com"

# --- who may come in --------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    # Tokens for services: each can be withdrawn alone, and unlike a password in HTTP Basic it is not hashed slowly on
    # each request, which a service that asks several times a second would feel. Sessions for a person with a browser.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
