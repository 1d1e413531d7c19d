"""freeze_forwarding(): inside it nothing follows from an event."""

from __future__ import annotations

import asyncio

import pytest
from django.core.management import call_command
from django.test import override_settings

from django_eventstore import EventForwarder, handles
from django_eventstore.forwarding import Forwarded, forward_all
from django_eventstore.forwarding.celery import forward, wake_up
from django_eventstore.forwarding.freezing import is_frozen
from django_eventstore.testing import assert_recorded, freeze_forwarding
from tests.delivery import COUNTED, record_numbers, refunds
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _refunding():
    @handles(COUNTED, name="refund")
    def refund(event):
        Refund.objects.create(order_id=event["n"])


@pytest.fixture
def sent(monkeypatch):
    """The forward tasks that were sent."""
    tasks = []
    monkeypatch.setattr(wake_up, "_not_before", 0.0)
    monkeypatch.setattr(wake_up, "_failures", 0)
    monkeypatch.setattr(wake_up, "_send", lambda **arguments: tasks.append(arguments["kwargs"]["source"]))
    with override_settings(EVENTSTORE={}):
        yield tasks


def run_the_task():
    forward.apply(kwargs={"source": "beat"}, throw=True)


def run_the_command():
    call_command("eventstore_forward", "--once", verbosity=0)


def run_a_forwarder():
    EventForwarder("refund").get_and_send()


@pytest.mark.parametrize("run", [forward_all, run_the_task, run_the_command, run_a_forwarder])
def test_nothing_is_forwarded_inside_and_everything_afterwards(run, capsys):
    with freeze_forwarding():
        record_numbers(1)
        run()
        assert [] == refunds()
        assert_recorded(COUNTED, n=1)
    run()
    assert [1] == refunds()


def test_a_commit_wakes_nobody_inside(sent):
    with freeze_forwarding():
        record_numbers(1)
    assert [] == sent
    record_numbers(2)
    assert ["wake-up"] == sent


def test_other_threads_stand_still_too(elsewhere):
    record_numbers(1)
    with freeze_forwarding():
        assert Forwarded() == elsewhere(forward_all).result()
    assert Forwarded(delivered=1) == elsewhere(forward_all).result()


def test_blocks_may_be_nested():
    record_numbers(1)
    with freeze_forwarding():
        with freeze_forwarding():
            pass
        assert Forwarded() == forward_all()
    assert Forwarded(delivered=1) == forward_all()


def test_an_error_ends_it():
    with pytest.raises(ZeroDivisionError), freeze_forwarding():
        raise ZeroDivisionError
    record_numbers(1)
    assert Forwarded(delivered=1) == forward_all()


def test_it_decorates_a_function():
    @freeze_forwarding()
    def inside(number):
        record_numbers(number)
        return forward_all()

    assert Forwarded() == inside(1)
    assert Forwarded(delivered=1) == forward_all()
    assert "inside" == inside.__name__


def test_it_decorates_a_coroutine_function_until_that_has_ended():
    @freeze_forwarding()
    async def inside():
        await asyncio.sleep(0)
        return is_frozen()

    assert asyncio.run(inside())
    assert not is_frozen()


def test_sync_handlers_run_inside():
    seen = []

    @handles(COUNTED, name="sync", mode="sync")
    def look(event):
        seen.append(event["n"])

    with freeze_forwarding():
        record_numbers(1)
    assert [1] == seen
