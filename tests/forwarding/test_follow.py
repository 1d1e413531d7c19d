"""The loop of the long-running form, and the signals that end it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import InterfaceError, InternalError, OperationalError, ProgrammingError, connections

from django_eventstore.delivery import DeliveryPolicy
from django_eventstore.forwarding import Forwarded
from django_eventstore.forwarding.follow import StopOnSignal, follow, tidy_connections

RETRY = DeliveryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=4), draw=lambda low, high: high)


class Script:
    """Plays the answers of ``forward`` one by one, asks for a stop after the last, and notes what happened."""

    def __init__(self, *answers: Forwarded | Exception) -> None:
        self.answers = list(answers)
        self.happened: list[object] = []

    def forward(self) -> Forwarded:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> bool:
        return not self.answers

    def wait(self, timeout: timedelta, *, seen: int) -> bool:
        self.happened.append(("wait", timeout.total_seconds(), seen))
        return False

    def pause(self, seconds: float, files: Sequence[int] = ()) -> bool:
        self.happened.append(("pause", seconds))
        return False

    def run(self) -> int:
        return follow(
            self.forward,
            wait=self.wait,
            interval=timedelta(seconds=7),
            stop=self.stop,
            pause=self.pause,
            tidy=lambda: self.happened.append("tidy"),
            let_go=lambda: self.happened.append("let go"),
            retry=RETRY,
        )

    def waits(self) -> list[object]:
        return [each for each in self.happened if each not in ("tidy", "let go")]


IDLE, LAST = Forwarded(), Forwarded(delivered=1)


def waited(seen: int = 0) -> list[object]:
    """One wait in which nothing came: the first half second with the leases."""
    return [("wait", 0.5, seen), ("wait", 6.5, seen)]


def test_it_waits_when_nothing_is_left_and_not_while_there_is_more() -> None:
    script = Script(Forwarded(delivered=5), Forwarded(delivered=3, more=True), Forwarded(more=True), IDLE, LAST)

    assert 9 == script.run()
    assert waited() * 2 == script.waits()


def test_it_waits_for_what_comes_after_the_end_that_it_has_seen() -> None:
    script = Script(Forwarded(delivered=5, head=5), Forwarded(head=6), LAST)

    script.run()
    assert waited(5) + waited(6) == script.waits()


def test_it_does_not_wait_after_the_stop() -> None:
    script = Script(LAST)

    assert 1 == script.run()
    assert ["tidy", "let go", "let go"] == script.happened


def test_asked_to_stop_before_the_first_round_it_does_nothing() -> None:
    script = Script()

    assert 0 == script.run()
    assert ["let go"] == script.happened


class SessionEnded(Exception):
    sqlstate = "25P03"


def ended() -> InternalError:
    """As PostgreSQL ends a session that was idle in a transaction for too long, and Django hands it on."""
    error = InternalError("terminating connection due to idle-in-transaction timeout")
    error.__cause__ = SessionEnded()
    return error


@pytest.mark.parametrize(
    "error", [OperationalError("server closed the connection"), InterfaceError("closed"), ended()], ids=repr
)
def test_a_lost_connection_is_logged_and_tried_again_with_growing_delays(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(error, error, error, error, Forwarded(delivered=2), error, LAST)

    with caplog.at_level(logging.ERROR):
        assert 3 == script.run()

    pauses = [("pause", seconds) for seconds in (1, 2, 4, 4)]
    assert [*pauses, *waited(), ("pause", 1)] == script.waits()
    assert 5 == len(caplog.records)


@pytest.mark.parametrize(
    "error", [ProgrammingError("no such column"), InternalError("the cursor is not valid")], ids=repr
)
def test_what_another_connection_does_not_cure_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        Script(error, LAST).run()


def test_a_connection_that_is_lost_while_it_waits_is_tried_again_as_well() -> None:
    class Lost(Script):
        def wait(self, timeout: timedelta, *, seen: int) -> bool:
            raise OperationalError("gone")

    script = Lost(IDLE, LAST)

    assert 1 == script.run()
    assert ["tidy", "tidy", ("pause", 1), "tidy"] == script.happened[:4]


def test_connections_are_looked_after_before_each_wait_and_each_pause() -> None:
    script = Script(IDLE, OperationalError("gone"), LAST)

    script.run()

    first, second = waited()
    assert ["tidy", first, "let go", second, "tidy", ("pause", 1), "tidy"] == script.happened[:7]


def test_leases_are_kept_for_half_a_second_and_let_go_of_at_the_end() -> None:
    class Woken(Script):
        def wait(self, timeout: timedelta, *, seen: int) -> bool:
            super().wait(timeout, seen=seen)
            return True

    script = Woken(IDLE, IDLE, LAST)
    script.run()
    assert ["tidy", ("wait", 0.5, 0), "tidy", ("wait", 0.5, 0), "tidy", "let go", "let go"] == script.happened


def test_leases_that_cannot_be_released_at_the_end_run_out(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OperationalError("gone")

    script = Script()
    delivered = follow(
        script.forward,
        wait=script.wait,
        interval=timedelta(seconds=7),
        stop=script.stop,
        pause=script.pause,
        tidy=lambda: None,
        let_go=fail,
    )
    assert 0 == delivered
    assert ["The leases could not be released; they run out"] == caplog.messages


def test_other_errors_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Script(ZeroDivisionError()).run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_pause_and_a_second_one_is_as_without_us(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopOnSignal() as stop:
        assert not stop.requested()
        assert not stop.pause(0.001)
        assert before != signal.getsignal(number)
        os.kill(os.getpid(), number)
        began = time.monotonic()
        assert stop.pause(60)
        assert time.monotonic() - began < 30
        assert stop.requested()
        assert before == signal.getsignal(number)


def test_a_file_that_can_be_read_ends_the_pause_and_asks_for_no_stop() -> None:
    here, there = socket.socketpair()
    with here, there, StopOnSignal() as stop:
        there.send(b"x")
        began = time.monotonic()
        assert not stop.pause(60, (here.fileno(),))
        assert time.monotonic() - began < 30
        assert not stop.requested()


def test_handlers_are_as_before_when_no_signal_came() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSignal():
        pass
    assert before == signal.getsignal(signal.SIGTERM)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_connection_to_the_log_is_kept_between_events_and_those_of_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for alias in ("default", "other"):
        monkeypatch.setitem(connections[alias].settings_dict, "CONN_MAX_AGE", 0)
        connections[alias].close()
        connections[alias].connect()
    kept = connections["default"].connection

    tidy_connections("default")

    assert kept is connections["default"].connection is not None
    assert connections["other"].connection is None


@pytest.mark.django_db(transaction=True)
def test_the_connection_to_the_log_is_closed_when_it_is_older_than_the_settings_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    connection.close()
    connection.connect()
    monkeypatch.setattr(connection, "close_at", time.monotonic() - 1)

    tidy_connections("default")

    assert connection.connection is None
