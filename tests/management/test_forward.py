"""eventstore_forward and the loop behind --follow."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError, connections

from django_eventstore import EventForwarder, OffsetStore
from django_eventstore.consumers import pause
from django_eventstore.delivery import DeliveryPolicy
from django_eventstore.forwarding import Forwarded
from django_eventstore.forwarding.follow import StopOnSignal, follow
from django_eventstore.models import Lease
from tests.conftest import PostgresFactory, RegisterDatabase, Spawn
from tests.management.conftest import Declare
from tests.management.output import run
from tests.processes import ProcessFailed
from tests.store.log import save

Received = list[tuple[str, int]]
RETRY = DeliveryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=4), draw=lambda low, high: high)


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


class Script:
    """Plays the answers of ``forward`` one by one, asks for a stop after the last, and notes what was slept."""

    def __init__(self, *answers: Forwarded | Exception) -> None:
        self.answers = list(answers)
        self.slept: list[float] = []
        self.reconnects = 0

    def forward(self) -> Forwarded:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> bool:
        return not self.answers

    def reconnect(self) -> None:
        self.reconnects += 1

    def run(self) -> int:
        return follow(
            self.forward,
            interval=timedelta(seconds=7),
            stop=self.stop,
            sleep=self.slept.append,
            retry=RETRY,
            reconnect=self.reconnect,
        )


IDLE, LAST = Forwarded(), Forwarded(delivered=1)


def test_it_sleeps_when_nothing_is_left_and_not_while_there_is_more() -> None:
    script = Script(Forwarded(delivered=5), Forwarded(delivered=3, more=True), Forwarded(more=True), IDLE, LAST)

    assert 9 == script.run()
    assert [7, 7] == script.slept


def test_it_does_not_sleep_after_the_stop() -> None:
    script = Script(LAST)

    assert 1 == script.run()
    assert [] == script.slept


def test_asked_to_stop_before_the_first_round_it_does_nothing() -> None:
    assert 0 == Script().run()


def test_a_lost_connection_is_logged_and_tried_again_with_growing_delays(caplog: pytest.LogCaptureFixture) -> None:
    lost = OperationalError("server closed the connection unexpectedly")
    script = Script(lost, lost, lost, lost, Forwarded(delivered=2), lost, LAST)

    with caplog.at_level(logging.ERROR):
        assert 3 == script.run()

    assert [1, 2, 4, 4, 7, 1] == script.slept
    assert 5 == len(caplog.records)
    assert script.reconnects == 7


def test_connections_are_let_go_of_before_each_sleep() -> None:
    order: list[str] = []
    answers = [IDLE, LAST]

    follow(
        lambda: answers.pop(0),
        interval=timedelta(seconds=1),
        stop=lambda: not answers,
        sleep=lambda seconds: order.append("sleep"),
        reconnect=lambda: order.append("close"),
    )

    assert ["close", "sleep", "close"] == order


def test_other_errors_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Script(ZeroDivisionError()).run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sleep_and_a_second_one_is_as_without_us(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopOnSignal() as stop:
        assert not stop.requested()
        stop.sleep(0.001)
        assert before != signal.getsignal(number)
        os.kill(os.getpid(), number)
        stop.sleep(60)
        assert stop.requested()
        assert before == signal.getsignal(number)


def test_handlers_are_as_before_when_no_signal_came() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSignal():
        pass
    assert before == signal.getsignal(signal.SIGTERM)


FOLLOWER = """
import sys
from django.conf import settings
import django
settings.EVENTSTORE = {"CONSUMERS": {"billing": {"SENDER": "tests.inspection.senders.Recorder", "START": "beginning"}}}
django.setup()
from django.core.management import execute_from_command_line
execute_from_command_line(["django", "eventstore_forward", "--follow", *sys.argv[1:]])
"""


def wait_until(reached: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise ProcessFailed("not reached in time")
        time.sleep(0.02)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_following_delivers_what_comes_and_ends_cleanly_on_a_signal(
    declare: Declare, spawn: Spawn, number: signal.Signals
) -> None:
    declare(billing={})
    process = spawn("-c", FOLLOWER, "--interval", "0.05")
    process.wait_for("Following the log.")

    save(1, 2, 3)
    wait_until(lambda: OffsetStore().load("billing").offset == 3)
    save(4)
    wait_until(lambda: OffsetStore().load("billing").offset == 4)
    began = time.monotonic()
    os.kill(process.pid, number)

    assert 0 == process.wait(timeout=10)
    assert time.monotonic() - began < 5
    assert "Stopped. Delivered 4 events." in process.output


@pytest.mark.django_db(transaction=True)
def test_a_long_sleep_is_cut_short_by_the_signal(declare: Declare, spawn: Spawn) -> None:
    declare(billing={})
    save(1)
    process = spawn("-c", FOLLOWER, "--interval", "3600")
    process.wait_for("Following the log.")
    wait_until(lambda: OffsetStore().load("billing").offset == 1)

    assert 0 == process.terminate(timeout=10)
    assert EventForwarder("billing").get_and_send().delivered == 0


@pytest.mark.postgresql
@pytest.mark.django_db
def test_following_survives_a_restart_of_the_server(
    postgres_cluster: PostgresFactory, register_database: RegisterDatabase, spawn: Spawn
) -> None:
    cluster = postgres_cluster()
    cluster.create_database("shop")
    settings = cluster.django_settings("shop")
    alias = register_database(settings)
    process = spawn("-c", FOLLOWER, "--interval", "0.05", using=settings)
    process.wait_for("Following the log.")
    save(1, using=alias)
    wait_until(lambda: getattr(OffsetStore(alias).load("billing"), "offset", 0) == 1)
    # The offset is saved a moment before the lease is let go of; cut off in between, it would have to run out first.
    wait_until(lambda: not Lease.objects.using(alias).exclude(owner="").exists())

    connections[alias].close()
    cluster.stop()
    wait_until(lambda: "The database did not answer, attempt 2" in process.errors)
    cluster.start()
    save(2, using=alias)
    wait_until(lambda: OffsetStore(alias).load("billing").offset == 2)

    assert 0 == process.terminate(timeout=10)
    assert "Stopped. Delivered 2 events." in process.output
