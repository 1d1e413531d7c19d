from __future__ import annotations

import os
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_eventstore import EventSender, Outcome
from django_eventstore.consumers import Consumer
from django_eventstore.forwarding import make_sender
from django_eventstore.senders import Capabilities
from django_eventstore.senders.base import ProcessLocal, Receipts, position_of
from django_eventstore.testing.contracts import ContractEntry

BAD = ValueError("bad")


def test_a_sender_without_send_cannot_be_made():
    class Silent(EventSender):
        pass

    with pytest.raises(TypeError, match="send"):
        Silent()


class Minimal(EventSender):
    def __init__(self, *, limit=1):
        if limit < 1:
            raise ValueError("limit must be positive")

    def send(self, batch):
        return Outcome(done=0)


def test_a_sender_needs_nothing_else():
    assert [] == Minimal().check()
    assert Minimal().close() is None
    assert Capabilities(ordered=True, deduplicates=False, transactional=False) == Minimal.capabilities


def test_options_that_a_sender_refuses_are_a_misconfiguration():
    consumer = Consumer(name="minimal", sender=f"{__name__}.Minimal", options={"limit": 0}, events=("*",))
    with pytest.raises(ImproperlyConfigured, match="limit must be positive"):
        make_sender(consumer)


def receipts(count=5):
    return Receipts([ContractEntry(position=10 + number, payload="{}") for number in range(count)])


def test_what_is_accepted_without_a_gap_is_claimed():
    found = receipts()
    for number in (4, 0, 1, 3):
        found.accept(number)
    assert Outcome(done=2) == found.outcome(BAD)
    found.accept(2)
    assert Outcome(done=5) == found.outcome(BAD)


def test_a_refusal_is_named_by_its_position_when_it_is_claimed():
    found = receipts()
    found.refuse(1, BAD)
    found.refuse(3, BAD)
    found.accept(0)
    assert Outcome(done=2, refused={11: BAD}) == found.outcome()


def test_a_refusal_is_not_taken_back():
    found, other = receipts(1), ValueError("other")
    found.refuse(0, BAD)
    found.accept(0)
    found.refuse(0, other)
    assert Outcome(done=1, refused={10: BAD}) == found.outcome()


def test_an_error_is_raised_when_nothing_can_be_claimed():
    found = receipts()
    found.accept(1)
    assert Outcome(done=0) == found.outcome()
    with pytest.raises(ValueError, match="bad"):
        found.outcome(BAD)


def test_it_is_known_which_are_answered():
    found = receipts(3)
    found.accept(0)
    found.refuse(2, BAD)
    assert [True, False, True] == [found.is_answered(number) for number in range(3)]


def test_an_entry_without_a_position_is_not_delivered():
    with pytest.raises(ValueError, match="has no position"):
        position_of(ContractEntry(position=None, payload="{}"))


class Line:
    made = 0

    def __init__(self):
        type(self).made += 1
        self.number = self.made
        self.closed = False
        self.good = True

    def close(self):
        self.closed = True


@pytest.fixture
def lines():
    Line.made = 0
    return ProcessLocal(Line, close=Line.close, usable=lambda line: line.good)


def test_one_is_made_on_first_use_and_kept(lines):
    assert 0 == Line.made
    with lines.use() as first, lines.use() as second:
        assert first is second
    assert (1, False) == (Line.made, first.closed)


def test_one_is_closed_and_made_again_after_an_error(lines):
    with pytest.raises(ValueError), lines.use() as first:
        raise BAD
    with lines.use() as second:
        assert (True, 2) == (first.closed, second.number)


def test_one_that_is_not_usable_any_more_is_replaced(lines):
    with lines.use() as first:
        first.good = False
    with lines.use() as second:
        assert (True, 2) == (first.closed, second.number)


def test_close_closes_what_there_is_once(lines):
    lines.close()
    with lines.use() as first:
        pass
    lines.close()
    lines.close()
    with lines.use() as second:
        assert (True, False) == (first.closed, second.closed)


def test_threads_take_turns(lines):
    inside, entered = [], threading.Event()

    def other():
        entered.set()
        with lines.use():
            inside.append("other")

    with lines.use():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(5)
        thread.join(0.05)
        inside.append("first")
    thread.join(5)
    assert ["first", "other"] == inside


@pytest.mark.no_database
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # that is what it is about
def test_a_forked_child_makes_its_own_and_leaves_the_parents_alone(lines):
    held, release = threading.Event(), threading.Event()

    def hold():
        with lines.use():
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(5)
    before = lines._held
    # Another thread holds the lock while the process forks: the child must not wait for it.
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with lines.use() as own:
                status = 0 if (own.number, before.closed) == (2, False) else 2
            lines.close()
            status = status or (3 if before.closed else 0)
        finally:
            os._exit(status)
    release.set()
    thread.join(5)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with lines.use() as mine:
        assert before is mine
