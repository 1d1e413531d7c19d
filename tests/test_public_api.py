"""The names that projects import. A change here is a change for every user."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import django_eventstore
from tests.processes import ROOT

pytestmark = pytest.mark.no_database

ROOT_NAMES = [
    "Batch",
    "CapturingQuerySet",
    "EventContext",
    "EventEntry",
    "EventForwarder",
    "EventSender",
    "EventStore",
    "OffsetStore",
    "Outcome",
    "Page",
    "arecord",
    "capture",
    "event",
    "event_context",
    "get_event_context",
    "handles",
    "record",
    "suppressed",
    "upcast",
]

PACKAGES = {
    "django_eventstore": ROOT_NAMES,
    "django_eventstore.recording": [
        "CapturingQuerySet",
        "Change",
        "Changes",
        "EventContextMiddleware",
        "arecord",
        "capture",
        "drain_after_commit",
        "forget_known_consumers",
        "record",
        "suppressed",
    ],
    "django_eventstore.senders": ["Capabilities", "EventSender", "HandlerSender"],
    "django_eventstore.signals": [
        "batch_delivered",
        "consumer_paused",
        "consumer_resumed",
        "consumer_waiting",
        "delivery_failed",
        "endpoint_disabled",
        "event_recorded",
        "events_committed",
        "handler_failed",
        "send",
        "stream_blocked",
        "stream_parked",
        "stream_unblocked",
    ],
    "django_eventstore.delivery": [
        "Batch",
        "DeliveredEntry",
        "DeliveryPolicy",
        "OnParked",
        "OnUndecodable",
        "Outcome",
    ],
    "django_eventstore.consumers": [
        "Consumer",
        "ConsumerLoop",
        "Delivery",
        "OffsetStore",
        "Partition",
        "Progress",
        "Readiness",
        "Run",
        "Standing",
        "Tenure",
        "acquire",
        "clear_wait",
        "declared_consumer",
        "declared_consumers",
        "discard",
        "forget_keys",
        "move",
        "once",
        "pause",
        "readiness",
        "rename",
        "resume",
        "retire",
        "retry",
        "set_partitions",
        "skip",
        "wait",
    ],
    "django_eventstore.tasks": ["forward"],
    "django_eventstore.testing": [
        "CapturedEvents",
        "DeliveryFailed",
        "Drained",
        "EndlessDelivery",
        "EntryList",
        "EventStoreTestMixin",
        "Failure",
        "Faults",
        "RecordingSender",
        "aassert_idempotent",
        "aassert_not_recorded",
        "aassert_recorded",
        "adrain",
        "assert_idempotent",
        "assert_not_recorded",
        "assert_recorded",
        "captured_events",
        "database_state",
        "drain",
        "freeze_forwarding",
    ],
    "django_eventstore.webhooks": [
        "WebhookSender",
        "create_endpoint",
        "disable",
        "enable",
        "replay",
        "rotate_secret",
        "send_test_event",
        "skip",
    ],
    "django_eventstore.exceptions": [
        "AppendOnlyError",
        "ConcurrencyError",
        "EpochChanged",
        "EventDecodingError",
        "EventEncodingError",
        "EventIdConflict",
        "EventStoreError",
        "LeaseLost",
        "MixedStreamError",
        "PermanentError",
        "RetryAfter",
        "SequencingRefused",
        "Unavailable",
        "UnknownConsumer",
        "UnknownEventType",
    ],
}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_names_are_these(package):
    assert PACKAGES[package] == importlib.import_module(package).__all__


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(package)
    assert [] == [name for name in PACKAGES[package] if getattr(module, name, None) is None]


def test_a_name_of_the_root_is_the_one_of_its_home():
    from django_eventstore import (
        consumers,
        context,
        delivery,
        events,
        forwarding,
        handlers,
        models,
        recording,
        senders,
        store,
    )

    homes = (consumers, context, delivery, events, forwarding, handlers, models, recording, senders, store)
    for name in ROOT_NAMES:
        assert any(getattr(home, name, None) is getattr(django_eventstore, name) for home in homes), name


def test_dir_lists_the_public_names():
    assert {*ROOT_NAMES, "__version__"} <= set(dir(django_eventstore))
    assert {*PACKAGES["django_eventstore.testing"]} <= set(dir(importlib.import_module("django_eventstore.testing")))


def test_any_other_name_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'Queue'"):
        _ = django_eventstore.Queue
    with pytest.raises(ImportError):
        exec("from django_eventstore import Queue")
    with pytest.raises(ImportError):
        exec("from django_eventstore.testing import Queue")


def run(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_importing_the_package_imports_no_models_and_no_celery():
    program = (
        "import sys, django_eventstore\n"
        "print([name for name in sys.modules if name.startswith('django_eventstore.') or name in ('django', 'celery')])"
    )
    assert "[]\n" == run(program)


def test_events_can_be_declared_without_django():
    program = (
        "import sys\nfrom dataclasses import dataclass\nfrom django_eventstore import event\n"
        "@event('shop.Sold')\n@dataclass(frozen=True)\nclass Sold:\n    n: int\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'django'])"
    )
    assert "[]\n" == run(program)


MODELS = """
from django.db import models
from django_eventstore import event, handles, record, arecord{more}

class Thing(models.Model):
    class Meta:
        app_label = "things"
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_apps_models_module_may_import_what_records(tmp_path, order):
    """The names that models.py needs work while the app registry is still filling, wherever the app is listed."""
    package = tmp_path / "things"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(MODELS.format(more=""))
    apps = ["things", "django_eventstore"] if order == "before" else ["django_eventstore", "things"]
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import django
from django.conf import settings
database = {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
settings.configure(INSTALLED_APPS={apps!r}, USE_TZ=True, DATABASES={{"default": database}})
django.setup()
from things.models import Thing, record
print(record.__name__, Thing._meta.label)
"""
    assert "record things.Thing\n" == run(program)
