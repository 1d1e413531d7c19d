"""The fixtures for pytest."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from django.db import connection, transaction

from django_eventstore import EventStore, handles, record
from django_eventstore.testing import plugin
from tests.delivery import COUNTED, numbers_of, record_numbers, refunds
from tests.processes import ROOT
from tests.shop.models import Refund


@pytest.fixture
def refunding():
    @handles(COUNTED, name="refund")
    def refund(event):
        Refund.objects.create(order_id=event["n"])


@pytest.fixture
def recorded_before(db):
    record_numbers(-1)


def test_a_fixture_brings_the_database(refunding, assert_recorded, assert_not_recorded, drain_events):
    record_numbers(1)
    assert_recorded(COUNTED, n=1, times=1)
    assert_not_recorded(COUNTED, n=2)
    assert {"refund": 1} == drain_events().delivered
    assert [1] == refunds()


def test_what_was_recorded_before_does_not_count(recorded_before, recorded_events, assert_not_recorded):
    record_numbers(1)
    assert [1] == numbers_of(recorded_events)
    assert_not_recorded(COUNTED, n=-1)


@pytest.mark.django_db(transaction=True)
def test_what_reaches_the_log_by_another_way_than_record_is_delivered(refunding, recorded_events, drain_events):
    EventStore().save(COUNTED, {"n": 1})
    drain_events()
    assert [1] == refunds()


def test_a_handler_that_is_not_idempotent_is_found(refunding, assert_idempotent):
    record_numbers(1)
    with pytest.raises(AssertionError, match="Handler refund is not idempotent"):
        assert_idempotent()


def test_without_more_the_test_is_one_transaction(drain_events):
    assert connection.in_atomic_block


@pytest.mark.django_db(transaction=True)
def test_commits_are_real_where_the_mark_says_so(refunding, recorded_events, drain_events):
    assert not connection.in_atomic_block
    with transaction.atomic():
        record(COUNTED, {"n": 1})
    drain_events()
    assert [1] == refunds()


def test_commits_are_real_beside_transactional_db(drain_events, transactional_db):
    assert not connection.in_atomic_block


def test_it_is_registered_once(pytestconfig):
    assert 1 == sum(module is plugin for module in pytestconfig.pluginmanager.get_plugins())


# --- in other projects ---


def run_pytest(directory, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# By its entry point it is there already, unless the environment was installed before there was one.
LOADED = () if entry_points(group="pytest11", name="django_eventstore") else ("-p", "django_eventstore.testing.plugin")


@pytest.mark.no_database
def test_in_a_project_without_django_it_does_no_harm(tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\n\n"
        "def test_plain():\n"
        "    assert 'django_eventstore.testing.plugin' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.split('.')[0] == 'celery']\n"
        "    assert 'django.db.models' not in sys.modules\n"
        "    assert 'django_eventstore.models' not in sys.modules\n"
    )
    done = run_pytest(tmp_path, "-p", "no:django", "-W", "error", "-q", *LOADED)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.no_database
def test_without_pytest_django_asking_for_a_fixture_says_what_is_missing(tmp_path):
    (tmp_path / "test_asking.py").write_text("def test_asking(drain_events):\n    pass\n")
    done = run_pytest(tmp_path, "-p", "no:django", "-q", *LOADED)
    assert 1 == done.returncode
    assert "fixture 'db' not found" in done.stdout
