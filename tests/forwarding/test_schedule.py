from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import modify_settings, override_settings
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from django_eventstore.forwarding import schedule
from django_eventstore.forwarding.celery import FORWARD_TASK
from django_eventstore.forwarding.schedule import PERIODIC_TASK, beat_is_ready, ensure_periodic_task

pytestmark = pytest.mark.django_db


@pytest.fixture
def no_task():
    PeriodicTask.objects.all().delete()
    IntervalSchedule.objects.all().delete()


def task():
    return PeriodicTask.objects.select_related("interval").get(name=PERIODIC_TASK)


def every(**duration):
    """The interval that is made for this setting, as (number, unit)."""
    with override_settings(EVENTSTORE={"FORWARD_EVERY": timedelta(**duration)}):
        assert ensure_periodic_task(using="default")
    return task().interval.every, task().interval.period


def test_migrating_has_made_it():
    assert FORWARD_TASK == task().task
    assert task().enabled
    assert (1, "seconds") == (task().interval.every, task().interval.period)
    assert {"source": "beat"} == json.loads(task().kwargs)
    assert 2 == task().expire_seconds


@pytest.mark.usefixtures("no_task")
def test_it_is_made_once():
    assert ensure_periodic_task(using="default")
    assert not ensure_periodic_task(using="default")
    assert 1 == PeriodicTask.objects.count()


def test_what_an_operator_changed_stays():
    found = task()
    found.enabled, found.expire_seconds, found.kwargs = False, 77, "{}"
    found.interval = IntervalSchedule.objects.create(every=9, period="minutes")
    found.save()
    call_command("migrate", verbosity=0)
    call_command("eventstore_setup_beat", verbosity=0)
    assert (False, 77, "{}", 9) == (task().enabled, task().expire_seconds, task().kwargs, task().interval.every)


@pytest.mark.usefixtures("no_task")
def test_an_interval_that_is_there_is_used_also_when_there_are_two_of_it():
    for _ in range(2):
        IntervalSchedule.objects.create(every=1, period="seconds")
    assert ensure_periodic_task(using="default")
    assert 2 == IntervalSchedule.objects.count()


@pytest.mark.usefixtures("no_task")
@pytest.mark.parametrize(
    "duration, interval",
    [
        ({"seconds": 5}, (5, "seconds")),
        ({"minutes": 2}, (120, "seconds")),
        ({"milliseconds": 1_500}, (1_500_000, "microseconds")),
        ({"microseconds": 249}, (249, "microseconds")),
        ({"microseconds": 1_001}, (1_001, "microseconds")),
    ],
)
def test_the_period_is_the_setting_to_the_microsecond(duration, interval):
    assert interval == every(**duration)


@pytest.mark.usefixtures("no_task")
@pytest.mark.parametrize("seconds, expires", [(0.1, 1), (1, 2), (30, 60)])
def test_a_tick_nobody_took_expires_after_two_periods(seconds, expires):
    every(seconds=seconds)
    assert expires == task().expire_seconds


@pytest.mark.usefixtures("no_task")
@override_settings(EVENTSTORE={"CREATE_BEAT_SCHEDULE": False})
def test_migrating_makes_none_where_the_setting_says_so():
    call_command("migrate", verbosity=0)
    assert not PeriodicTask.objects.exists()


@pytest.mark.usefixtures("no_task")
def test_the_command_makes_it_and_says_what_it_did(capsys):
    call_command("eventstore_setup_beat")
    assert "Created the periodic task" in capsys.readouterr().out
    call_command("eventstore_setup_beat")
    assert "exists" in capsys.readouterr().out
    assert 1 == PeriodicTask.objects.count()


@pytest.mark.usefixtures("no_task")
@override_settings(EVENTSTORE={"CREATE_BEAT_SCHEDULE": False})
def test_the_command_makes_it_whatever_the_setting_says():
    call_command("eventstore_setup_beat", verbosity=0)
    assert 1 == PeriodicTask.objects.count()


@modify_settings(INSTALLED_APPS={"remove": "django_celery_beat"})
def test_without_beat_there_is_nothing_to_do_and_the_command_says_why():
    assert not beat_is_ready(using="default")
    assert not ensure_periodic_task(using="default")
    with pytest.raises(CommandError, match="INSTALLED_APPS"):
        call_command("eventstore_setup_beat")


def test_without_the_tables_of_beat_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(schedule.connections["default"].introspection, "table_names", lambda *a, **kw: ["other"])
    assert not beat_is_ready(using="default")
    assert not ensure_periodic_task(using="default")
    with pytest.raises(CommandError, match="tables are not on this database"):
        call_command("eventstore_setup_beat")


@pytest.mark.django_db(databases=["default", "other"])
def test_a_database_that_the_scheduler_does_not_read_gets_none():
    assert not beat_is_ready(using="other")
    assert not PeriodicTask.objects.using("other").exists()
