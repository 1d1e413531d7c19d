"""What every sender must do, as tests to inherit: ours pass them, and so should yours."""

from __future__ import annotations

import os
import time
import unittest
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from uuid import UUID

from ..delivery import Batch, DeliveredEntry, Outcome
from ..senders import EventSender
from .contract_entries import Arrival, ContractEntry

__all__ = ["Arrival", "ContractEntry", "SenderContract"]

LOG = UUID("0198c0de-0000-7000-8000-000000000001")


def _forever() -> bool:
    return True


class SenderContract:
    """Inherit from it, give ``make_sender`` and ``arrivals``, and as many of the other hooks as you can.

    Works with pytest (a class whose name begins with Test) and with unittest (name ``TestCase`` as second base). A test whose
    hook is not there is skipped, and says which. The receiver must be empty when a test begins.
    """

    patience: timedelta = timedelta(seconds=30)
    """How long after the receiver is gone or frozen ``send()`` may take to say so."""
    many: int = 10_000
    """How many events the test of many sends."""

    # --- hooks; the first two are needed, and not abstract, since ``entries`` and ``batch`` serve tests without them ---

    def make_sender(self) -> EventSender:
        """A new sender, which delivers to the receiver that ``arrivals`` looks at."""
        raise NotImplementedError

    def arrivals(self, atleast: int) -> list[Arrival]:
        """All that has arrived since the test began, oldest first, repeats included.

        Waits a while for as many as ``atleast``, and returns what there is.
        """
        raise NotImplementedError

    def refusable(self, entry: ContractEntry) -> ContractEntry:
        """The entry, changed so that it can never be delivered. Without it: no such entry is known."""
        raise unittest.SkipTest("refusable() is not given")

    def take_away(self) -> None:
        """Make the receiver unreachable, and end what is connected to it. It keeps what it has."""
        raise unittest.SkipTest("take_away() is not given")

    def bring_back(self) -> None:
        """Undo ``take_away`` and ``freeze``."""
        raise unittest.SkipTest("bring_back() is not given")

    def freeze(self) -> None:
        """Let the receiver take everything and answer nothing, as a stopped process does."""
        raise unittest.SkipTest("freeze() is not given")

    # --- the contract ---

    def test_what_is_accepted_has_arrived_once_and_as_it_was_recorded(self) -> None:
        entries = self.entries(25)
        wanted = _wanted(entries)
        with closing(self.make_sender()) as sender:
            _equal(Outcome(done=25), sender.send(self.batch(entries)))
        _equal(wanted, self.arrivals(25))

    def test_the_refused_one_in_the_middle_is_named_and_none_else(self) -> None:
        entries = self.entries(9)
        entries[4] = bad = self.refusable(entries[4])
        with closing(self.make_sender()) as sender:
            outcome = sender.send(self.batch(entries))
        _equal([bad.position], list(outcome.refused))
        _require(outcome.done > 4, "the refused one is to be claimed, or it would come again for ever")
        arrived = {arrival.event_id for arrival in self.arrivals(outcome.done - 1)}
        claimed = {str(entry.event_id) for entry in entries[: outcome.done] if entry is not bad}
        _require(claimed <= arrived, f"claimed, and not arrived: {claimed - arrived}")
        _require(str(bad.event_id) not in arrived, "the refused one has arrived")

    def test_nothing_of_a_stream_arrives_before_what_was_refused_of_it(self) -> None:
        entries = self.entries(9)
        entries[4] = self.refusable(entries[4])
        with closing(self.make_sender()) as sender:
            self.in_order(sender)
            outcome = sender.send(self.batch(entries))
        arrived = {arrival.event_id for arrival in self.arrivals(min(outcome.done, 7) - 1)}
        _equal(entries[4].stream, entries[7].stream)
        _require(str(entries[7].event_id) not in arrived, "an event has arrived before the refused one of its stream")

    def test_an_entry_that_is_alone_can_be_refused(self) -> None:
        bad = self.refusable(self.entries(1)[0])
        with closing(self.make_sender()) as sender:
            outcome = sender.send(self.batch([bad]))
            _equal(1, outcome.done)
            _equal([bad.position], list(outcome.refused))
            after = self.entries(1, first=2)
            _equal(Outcome(done=1), sender.send(self.batch(after)))
        _equal(_wanted(after), self.arrivals(1))

    def test_a_receiver_that_is_not_there_is_an_error_and_no_event_is_blamed(self) -> None:
        entries = self.entries(5)
        with closing(self.make_sender()) as sender:
            self.take_away()
            try:
                self.fails_in_time(lambda: sender.send(self.batch(entries)))
            finally:
                self.bring_back()
            self.send_all(sender, entries)
        _same(_wanted(entries), self.arrivals(5))

    def test_a_receiver_that_goes_in_the_middle_is_claimed_to_have_no_more_than_it_has(self) -> None:
        self._disturbed(self.take_away)

    def test_a_receiver_that_freezes_in_the_middle_ends_as_an_error_and_not_as_a_hang(self) -> None:
        self._disturbed(self.freeze)

    def test_a_receiver_that_is_frozen_from_the_start_is_an_error(self) -> None:
        entries = self.entries(5)
        with closing(self.make_sender()) as sender:
            self.freeze()
            try:
                self.fails_in_time(lambda: sender.send(self.batch(entries)))
            finally:
                self.bring_back()
            self.send_all(sender, entries)
        _same(_wanted(entries), self.arrivals(5))

    def test_after_a_receiver_was_gone_between_two_batches_the_second_arrives(self) -> None:
        first, second = self.entries(5), self.entries(5, first=6)
        with closing(self.make_sender()) as sender:
            self.send_all(sender, first)
            self.take_away()
            self.bring_back()
            self.send_all(sender, second)
        _same(_wanted([*first, *second]), self.arrivals(10))

    def test_each_stream_arrives_in_its_order(self) -> None:
        with closing(self.make_sender()) as sender:
            self.in_order(sender)
            entries = self.entries(500, streams=7)
            for start in range(0, 500, 125):
                self.send_all(sender, entries[start : start + 125])
        arrivals = self.arrivals(500)
        _equal(500, len(arrivals))
        self.first_come_in_order(entries, arrivals)

    def test_a_batch_that_is_sent_again_after_a_crash_can_be_told_by_its_event_ids(self) -> None:
        entries = self.entries(10)
        with closing(self.make_sender()) as crashed:
            self.send_all(crashed, entries)
        # The worker died before the offset was saved: another one sends the same again.
        with closing(self.make_sender()) as sender:
            self.send_all(sender, entries)
        times = 1 if sender.capabilities.deduplicates else 2
        _equal(sorted(_wanted(entries) * times, key=_by_id), sorted(self.arrivals(10 * times), key=_by_id))

    def test_many_events_arrive(self) -> None:
        entries = self.entries(self.many, streams=100)
        with closing(self.make_sender()) as sender:
            self.send_all(sender, entries)
        _equal(sorted(_wanted(entries), key=_by_id), sorted(self.arrivals(self.many), key=_by_id))

    def test_any_text_arrives_as_it_is(self) -> None:
        text = 'ñ ẞ 漢字 \U0001f9fe \u202e עברית "quoted" \\\\ %20 \u00a0'
        payload = '{"text":"%s","escaped":"\\u00e9\\n","number":1.10,"big":12345678901234567890123}'
        entry = self.entries(1)[0]
        entry.payload = payload % text.replace("\\", "\\\\").replace('"', '\\"')
        entry.stream = 'commande n° 1 "été" 漢字 \U0001f9fe 100%'
        entry.correlation_id = entry.causation_id = "é %41"
        entry.metadata = '{"actor":"Zoë","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'
        wanted = _wanted([entry])
        with closing(self.make_sender()) as sender:
            _equal(Outcome(done=1), sender.send(self.batch([entry])))
        _equal(wanted, self.arrivals(1))

    def test_an_event_of_a_megabyte_arrives_between_small_ones(self) -> None:
        entries = self.entries(3)
        entries[1].payload = '{"text":"%s"}' % ("é漢x" * 170_000)
        with closing(self.make_sender()) as sender:
            _equal(Outcome(done=3), sender.send(self.batch(entries)))
        _equal(_wanted(entries), self.arrivals(3))

    def test_a_closed_sender_opens_again(self) -> None:
        sender = self.make_sender()
        sender.close()
        first, second = self.entries(3), self.entries(3, first=4)
        _equal(Outcome(done=3), sender.send(self.batch(first)))
        sender.close()
        sender.close()
        _equal(Outcome(done=3), sender.send(self.batch(second)))
        sender.close()
        _equal(_wanted([*first, *second]), self.arrivals(6))

    def test_a_forked_worker_and_its_parent_do_not_disturb_each_other(self) -> None:
        if not hasattr(os, "fork"):
            raise unittest.SkipTest("this system has no fork()")
        first, by_child, last = (self.entries(20, first=first) for first in (1, 21, 41))
        with closing(self.make_sender()) as sender:
            self.send_all(sender, first)

            def work() -> None:
                self.send_all(sender, by_child)
                sender.close()

            status = _in_child(work)
            _require(status == 0, f"the child ended with status {status}")
            _equal(Outcome(done=20), sender.send(self.batch(last)))
        _same(_wanted([*first, *by_child, *last]), self.arrivals(60))

    def test_a_lease_that_is_over_sends_nothing(self) -> None:
        entries = self.entries(3)
        with closing(self.make_sender()) as sender:
            _equal(Outcome(done=0), sender.send(self.batch(entries, still_held=lambda: False)))
            _equal(Outcome(done=3), sender.send(self.batch(entries)))
        _equal(_wanted(entries), self.arrivals(3))

    def test_a_lease_that_ends_meanwhile_ends_the_sending(self) -> None:
        entries, asked = self.entries(self.many), []

        def once() -> bool:
            asked.append(1)
            return len(asked) < 2

        with closing(self.make_sender()) as sender:
            outcome = sender.send(self.batch(entries, still_held=once))
        _require(outcome.done < len(entries), "the lease is to be looked at before each chunk")
        _require(not outcome.refused, f"refused: {outcome.refused}")
        self._have_arrived(entries[: outcome.done])

    def test_a_check_connects_to_nothing(self) -> None:
        sender = self.make_sender()
        self.take_away()
        try:
            _equal([], [message for message in sender.check() if message.is_serious()])
        finally:
            self.bring_back()

    # --- for more tests of your own ---

    def entries(self, count: int, *, first: int = 1, streams: int = 3) -> list[ContractEntry]:
        """Entries at the positions from ``first`` on, of so many streams in turn."""
        return [
            ContractEntry(position=number, payload=f'{{"n":{number}}}', stream=f"contract-{number % streams}")
            for number in range(first, first + count)
        ]

    def batch(self, entries: Sequence[DeliveredEntry], *, still_held: Callable[[], bool] = _forever) -> Batch:
        """A batch as the loop makes it."""
        return Batch(
            consumer="contract",
            entries=entries,
            log=LOG,
            epoch=1,
            using="default",
            advance=self.advance,
            is_saved=lambda position: False,
            begin=lambda: None,
            still_held=still_held,
        )

    def advance(self, position: int) -> None:
        """Saves the offset. Only a transactional sender calls it."""
        _require(self.make_sender().capabilities.transactional, "the offset is to be left to the loop")

    def send_all(self, sender: EventSender, entries: Sequence[ContractEntry]) -> None:
        """Send as the loop does: what was not claimed comes again, and an error is followed by another try."""
        deadline, done = time.monotonic() + 3 * self.patience.total_seconds(), 0
        while done < len(entries):
            try:
                outcome = sender.send(self.batch(entries[done:]))
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            _require(not outcome.refused, f"refused: {outcome.refused}")
            done += outcome.done

    def fails_in_time(self, send: Callable[[], Outcome]) -> None:
        """It raises, or claims nothing, within ``patience``."""
        began = time.monotonic()
        try:
            outcome = send()
        except Exception:  # noqa: BLE001 - whatever it is, it means: unavailable
            outcome = None
        taken = time.monotonic() - began
        _require(taken < self.patience.total_seconds(), f"it took {taken:.1f} s to find that the receiver is gone")
        _require(outcome is None, f"{outcome} of a receiver that is gone")

    def in_order(self, sender: EventSender) -> None:
        """Skip the test for senders that promise no order."""
        if not sender.capabilities.ordered:
            raise unittest.SkipTest("this sender promises no order")

    def first_come_in_order(self, entries: Iterable[ContractEntry], arrivals: Iterable[Arrival]) -> None:
        """What arrived for the first time came in the order of its stream."""
        known = {str(entry.event_id): entry for entry in entries}
        last: dict[str, int] = {}
        seen: set[str] = set()
        for arrival in arrivals:
            if arrival.event_id in seen:
                continue
            seen.add(arrival.event_id)
            entry = known[arrival.event_id]
            if entry.position is None:
                raise AssertionError(f"{entry} has no position")
            before = last.get(entry.stream, 0)
            _require(before < entry.position, f"{entry.stream}: {entry.position} came after {before}")
            last[entry.stream] = entry.position

    def _have_arrived(self, claimed: Sequence[ContractEntry]) -> None:
        missing = set(_wanted(claimed)) - set(self.arrivals(len(claimed)))
        _require(not missing, f"{len(missing)} of {len(claimed)} were claimed and have not arrived")

    def _disturbed(self, disturb: Callable[[], None]) -> None:
        entries, asked = self.entries(self.many), []

        def disturbing() -> bool:
            asked.append(1)
            if len(asked) == 2:
                disturb()
            return True

        with closing(self.make_sender()) as sender:
            began = time.monotonic()
            try:
                claimed = _try(lambda: sender.send(self.batch(entries, still_held=disturbing)))
                taken = time.monotonic() - began
            finally:
                self.bring_back()
            _require(len(asked) > 1, "the lease is to be looked at before each chunk")
            _require(taken < self.patience.total_seconds(), f"it took {taken:.1f} s to find that the receiver is gone")
            self._have_arrived(entries[:claimed])
            self.send_all(sender, entries[claimed:])
            arrivals = self.arrivals(len(entries))
            _same(_wanted(entries), arrivals)
            if sender.capabilities.ordered:
                self.first_come_in_order(entries, arrivals)


# Not assert statements: python -O would leave nothing of the contract, and pytest explains those of test modules only.
def _require(fact: bool, otherwise: str) -> None:
    if not fact:
        raise AssertionError(otherwise)


def _equal(expected: object, actual: object) -> None:
    _require(expected == actual, f"expected {_short(expected)}, got {_short(actual)}")


def _same(expected: Collection[Arrival], actual: Collection[Arrival]) -> None:
    """Each at least once, and nothing else."""
    missing, unknown = set(expected) - set(actual), set(actual) - set(expected)
    _require(not missing, f"{len(missing)} of {len(expected)} have not arrived: {_short(missing)}")
    _require(not unknown, f"{len(unknown)} arrived that nobody sent: {_short(unknown)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 1_000 else f"{text[:1_000]}…"


def _try(send: Callable[[], Outcome]) -> int:
    """How many entries were claimed."""
    try:
        outcome = send()
    except Exception:  # noqa: BLE001 - whatever it is, it means: unavailable
        return 0
    _require(not outcome.refused, f"events were blamed for a receiver that was gone: {outcome.refused}")
    return outcome.done


def _wanted(entries: Collection[ContractEntry]) -> list[Arrival]:
    return [Arrival(str(entry.event_id), entry.payload) for entry in entries]


def _by_id(arrival: Arrival) -> str:
    return arrival.event_id


def _in_child(work: Callable[[], object]) -> int:
    """The exit status of a forked child that did the work: 0 unless it raised."""
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; that of a client library in the parent is part of what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
