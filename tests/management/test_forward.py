"""eventstore_forward: its arguments, and --once. What --follow does is in tests/forwarding/test_following.py."""

from __future__ import annotations

import pytest
from django.core.management.base import CommandError

from django_eventstore.consumers import pause
from tests.management.conftest import Declare
from tests.management.output import run
from tests.store.log import save

Received = list[tuple[str, int]]


@pytest.mark.django_db(transaction=True)
def test_once_delivers_until_nothing_is_left_and_counts(declare: Declare, received: Received) -> None:
    declare(billing={"LIMIT": 10}, mail={"EVENTS": ["test.Rare"]})
    save(*range(35))
    save(100, type="test.Rare")

    assert "billing: 36\nmail: 1\nDelivered 37 events.\n" == run("eventstore_forward", "--once")
    assert 37 == len(received)
    assert "Delivered 0 events.\n" == run("eventstore_forward", "--once")


@pytest.mark.django_db(transaction=True)
def test_once_goes_on_where_one_tick_stops(declare: Declare, settings: object) -> None:
    declare(billing={"LIMIT": 5})
    settings.EVENTSTORE = {**settings.EVENTSTORE, "FORWARD_EVENTS": 10}
    save(*range(35))

    assert "billing: 35\nDelivered 35 events.\n" == run("eventstore_forward", "--once")


@pytest.mark.django_db(transaction=True)
def test_only_the_named_consumers_are_run(declare: Declare, received: Received) -> None:
    declare(billing={}, mail={})
    save(1)

    run("eventstore_forward", "--once", "mail")

    assert [("mail", 1)] == received


@pytest.mark.django_db(transaction=True)
def test_an_unknown_consumer_is_an_error(declare: Declare) -> None:
    declare(billing={})

    with pytest.raises(CommandError, match="No consumer 'biling'"):
        run("eventstore_forward", "--once", "biling")


@pytest.mark.django_db(transaction=True)
def test_once_fails_when_a_delivery_failed(declare: Declare, capsys: pytest.CaptureFixture[str]) -> None:
    declare(billing={"OPTIONS": {"fails_at": 2}}, mail={"OPTIONS": {"unavailable": True}})
    save(1, 2)

    with pytest.raises(CommandError, match=r"billing \(position 2\), mail \(its sender\)") as caught:
        run("eventstore_forward", "--once")

    assert 1 == caught.value.returncode


@pytest.mark.django_db(transaction=True)
def test_once_leaves_a_paused_consumer_alone(declare: Declare, received: Received) -> None:
    declare(billing={})
    pause("billing", reason="", using="default")
    save(1)

    assert "Delivered 0 events.\n" == run("eventstore_forward", "--once")
    assert [] == received


@pytest.mark.parametrize("arguments", [(), ("--once", "--follow"), ("--follow", "--interval", "0")])
def test_arguments_that_make_no_sense_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run("eventstore_forward", *arguments)
