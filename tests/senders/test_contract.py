"""The contract itself, on a sender in memory; and that it finds senders which break it."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from django_eventstore import EventSender, Outcome
from django_eventstore.exceptions import PermanentError
from django_eventstore.senders import Capabilities
from django_eventstore.senders.base import Receipts
from django_eventstore.testing.contracts import Arrival, SenderContract

pytestmark = pytest.mark.no_database


class Mailbox:
    """A receiver in a file, which a forked child reaches too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.there = True
        self.frozen = False

    def put(self, entries) -> None:
        if not self.there:
            raise ConnectionError("nobody is there")
        if self.frozen:
            time.sleep(0.1)
            raise TimeoutError("no answer")
        with self.path.open("a") as file:
            for entry in entries:
                file.write(json.dumps([str(entry.event_id), entry.payload]) + "\n")

    def read(self) -> list[Arrival]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [Arrival(*json.loads(line)) for line in lines]


class MailboxSender(EventSender):
    capabilities = Capabilities()
    chunk = 100

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    def end(self, entries):
        """Before the first one behind a refused one of its stream."""
        stopped = set()
        for number, entry in enumerate(entries):
            if entry.stream in stopped:
                return number
            if entry.content_type == "bad":
                stopped.add(entry.stream)
        return len(entries)

    def send(self, batch):
        receipts, end = Receipts(batch.entries), self.end(batch.entries)
        for start in range(0, end, self.chunk):
            if not batch.still_held():
                return receipts.outcome()
            chunk = range(start, min(start + self.chunk, end))
            bad = {n for n in chunk if batch.entries[n].content_type == "bad"}
            try:
                self.mailbox.put(batch.entries[n] for n in chunk if n not in bad)
            except OSError as error:
                return receipts.outcome(error)
            for number in chunk:
                if number in bad:
                    receipts.refuse(number, PermanentError("bad"))
                else:
                    receipts.accept(number)
        return receipts.outcome()


class MailboxContract(SenderContract):
    sender = MailboxSender

    @pytest.fixture(autouse=True)
    def _mailbox(self):
        with tempfile.TemporaryDirectory() as directory:
            self.mailbox = Mailbox(Path(directory) / "mailbox")
            yield

    def make_sender(self):
        return self.sender(self.mailbox)

    def arrivals(self, atleast):
        return self.mailbox.read()

    def refusable(self, entry):
        entry.content_type = "bad"
        return entry

    def take_away(self):
        self.mailbox.there = False

    def freeze(self):
        self.mailbox.frozen = True

    def bring_back(self):
        self.mailbox.there, self.mailbox.frozen = True, False


class TestMailboxSender(MailboxContract):
    pass


class Claiming(MailboxSender):
    """Says that all went well, whatever happened."""

    def send(self, batch):
        with suppress(OSError):
            super().send(batch)
        return Outcome(done=len(batch.entries))


class Blaming(MailboxSender):
    """Takes an error of the receiver for one of the events."""

    def send(self, batch):
        try:
            return super().send(batch)
        except OSError as error:
            return Outcome(done=1, refused={batch.entries[0].position: error})


class Shuffling(MailboxSender):
    def send(self, batch):
        self.mailbox.put(reversed(batch.entries))
        return Outcome(done=len(batch.entries))


class Overtaking(MailboxSender):
    """Goes on with a stream behind what was refused of it."""

    def end(self, entries):
        return len(entries)


class Rewriting(MailboxSender):
    """Parses the payload and writes it again."""

    def send(self, batch):
        for entry in batch.entries:
            entry.payload = json.dumps(json.loads(entry.payload))
        return super().send(batch)


class Advancing(MailboxSender):
    def send(self, batch):
        batch.advance(batch.entries[-1].position)
        return super().send(batch)


class Unleased(MailboxSender):
    """Never looks at the lease."""

    def send(self, batch):
        self.mailbox.put(batch.entries)
        return Outcome(done=len(batch.entries))


class Forgetful(MailboxSender):
    """Drops what it does not like."""

    def send(self, batch):
        self.mailbox.put(entry for entry in batch.entries if entry.content_type != "bad")
        return Outcome(done=len(batch.entries))


@pytest.mark.parametrize(
    "sender, test",
    [
        (Claiming, "test_a_receiver_that_is_not_there_is_an_error_and_no_event_is_blamed"),
        (Claiming, "test_a_receiver_that_goes_in_the_middle_is_claimed_to_have_no_more_than_it_has"),
        (Claiming, "test_a_receiver_that_is_frozen_from_the_start_is_an_error"),
        (Claiming, "test_the_refused_one_in_the_middle_is_named_and_none_else"),
        (Blaming, "test_a_receiver_that_is_not_there_is_an_error_and_no_event_is_blamed"),
        (Shuffling, "test_each_stream_arrives_in_its_order"),
        (Overtaking, "test_nothing_of_a_stream_arrives_before_what_was_refused_of_it"),
        (Rewriting, "test_any_text_arrives_as_it_is"),
        (Advancing, "test_what_is_accepted_has_arrived_once_and_as_it_was_recorded"),
        (Unleased, "test_a_lease_that_is_over_sends_nothing"),
        (Unleased, "test_a_lease_that_ends_meanwhile_ends_the_sending"),
        (Unleased, "test_a_receiver_that_freezes_in_the_middle_ends_as_an_error_and_not_as_a_hang"),
        (Forgetful, "test_an_entry_that_is_alone_can_be_refused"),
    ],
)
def test_a_sender_that_breaks_its_word_is_found(sender, test, tmp_path):
    contract = MailboxContract()
    contract.sender, contract.mailbox, contract.many = sender, Mailbox(tmp_path / "mailbox"), 300
    with pytest.raises(AssertionError):
        getattr(contract, test)()
