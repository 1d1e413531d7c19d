"""eventstore_failures: what it shows, what it asks for, and that a worker carries it out."""

from __future__ import annotations

import getpass
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError

from django_eventstore import EventStore, event
from django_eventstore.consumers import pause
from django_eventstore.models import DeliveryDecision, EventEntry, FailedDelivery
from tests.inspection.senders import MENDED
from tests.management.conftest import Declare, tick, time_passes
from tests.management.output import run
from tests.store.log import save

pytestmark = pytest.mark.django_db(transaction=True)

Received = list[tuple[str, int]]


@event("test.Picky")
@dataclass(frozen=True)
class Picky:
    n: int

    def __post_init__(self) -> None:
        if self.n == 13:
            raise LookupError("13 is unlucky")


HOSTILE = "\x1b[2Jgone\x9b1m\r\x07"


def failures(**filters: Any) -> list[tuple[str, int, str, str]]:
    rows = FailedDelivery.objects.filter(**filters).order_by("consumer", "position")
    return list(rows.values_list("consumer", "position", "state", "request"))


def decisions() -> list[tuple[str, int, str, str, str]]:
    rows = DeliveryDecision.objects.order_by("id")
    return list(rows.values_list("consumer", "position", "decision", "by", "reason"))


@pytest.fixture
def several(declare: Declare, received: Received) -> None:
    """``billing`` and ``mail`` have each failed at 1, 2 and 3, which are of streams and types of their own."""
    options = {"OPTIONS": {"fails_at": (1, 2, 3)}}
    declare(billing=options, mail={**options, "EVENTS": ["test.*"]})
    save(1, stream="a", type="test.One")
    save(2, stream="b", type="test.Two")
    save(3, type="test.Two")
    tick()
    tick()
    assert 6 == FailedDelivery.objects.count()


class TestList:
    def test_it_shows_each_with_the_end_of_its_error(self, failing: None) -> None:
        FailedDelivery.objects.update(retry_at="2100-01-01T00:00:00Z", request="skip")

        header, row = run("eventstore_failures", "list").splitlines()

        assert header.startswith("CONSUMER")
        expected = ["billing", "4", "order-7", "test.Counted", "blocked", "1", "2100-01-01T00:00:00+00:00", "skip"]
        assert expected == row.split()[:8]
        assert row.endswith("ValueError: cannot take 3")

    def test_without_any_it_says_so(self) -> None:
        assert "No failed deliveries.\n" == run("eventstore_failures", "list")
        assert [] == json.loads(run("eventstore_failures", "list", "--json"))

    @pytest.mark.parametrize(
        "filters, expected",
        [
            ((), ["billing 1", "billing 2", "billing 3", "mail 1", "mail 2", "mail 3"]),
            (("--consumer", "mail"), ["mail 1", "mail 2", "mail 3"]),
            (("--stream", "a"), ["billing 1", "mail 1"]),
            (("--stream", ""), ["billing 3", "mail 3"]),
            (("--type", "test.Two"), ["billing 2", "billing 3", "mail 2", "mail 3"]),
            (("--type", "test.two"), []),
            (("--type", "tes.*"), []),
            (("--type", "test.*", "--consumer", "mail"), ["mail 1", "mail 2", "mail 3"]),
            (("--type", "test.One", "--type", "test.Two", "--stream", "b"), ["billing 2", "mail 2"]),
            (("--type", "*", "--state", "parked"), []),
            (("--state", "blocked", "--stream", "a"), ["billing 1", "mail 1"]),
        ],
        ids=" ".join,
    )
    def test_filters_select(self, several: None, filters: tuple[str, ...], expected: list[str]) -> None:
        found = json.loads(run("eventstore_failures", "list", "--json", *filters))

        assert expected == [f"{each['consumer']} {each['position']}" for each in found]

    def test_a_pattern_that_is_none_is_refused(self) -> None:
        with pytest.raises(CommandError, match="selects no events"):
            run("eventstore_failures", "list", "--type", "test*")

    def test_as_json_it_tells_everything(self, failing: None) -> None:
        (found,) = json.loads(run("eventstore_failures", "list", "--json"))

        entry = EventStore().get(3, 1).entries[0]
        assert (str(entry.event_id), "order-7", "blocked", True) == (
            found["event_id"],
            found["stream"],
            found["state"],
            found["blocking"],
        )
        assert (1, 1, 0, False, "") == (
            found["attempts"],
            found["tries"],
            found["crashes"],
            found["is_edited"],
            found["request"],
        )
        assert found["error"].endswith("ValueError: cannot take 3\n")
        assert None not in (found["retry_at"], found["failed_at"], found["first_failed_at"])

    def test_a_terminal_obeys_nothing_of_what_events_say(self, failing: None) -> None:
        FailedDelivery.objects.update(stream=HOSTILE, error=f"Error\n{HOSTILE}")

        for output in (run("eventstore_failures", "list"), run("eventstore_failures", "show", "billing", "4")):
            assert "\\x1b[2Jgone\\x9b1m\\x0d\\x07" in output
            assert not set(output) & set("\x1b\x9b\x07\r")


class TestShow:
    def test_it_shows_the_error_the_payload_and_what_waits(self, failing: None) -> None:
        output = run("eventstore_failures", "show", "billing", "4")

        for expected in (
            "consumer: billing\n",
            "stream: order-7\n",
            "attempts: 1\n",
            "waiting behind it: 1\n",
            'payload: {"n":3}\n',
            "ValueError: cannot take 3\n",
        ):
            assert expected in output

    def test_it_shows_an_edit_and_what_was_decided(self, failing: None, tmp_path: Path) -> None:
        path = tmp_path / "payload.json"
        path.write_text('{"n": 3, "note": "again"}')
        run(
            "eventstore_failures",
            "retry",
            "billing",
            "4",
            "--payload",
            str(path),
            "--reason",
            "typo",
            "--by",
            "ann",
            "--yes",
        )
        assert "requested_by: ann\n" in run("eventstore_failures", "show", "billing", "4")
        tick()

        output = run("eventstore_failures", "show", "billing", "4")

        assert 'payload: {"n":3}\nedited payload: {"n":3,"note":"again"}\n' in output
        assert "decided: edit by ann: typo\n" in output

    def test_one_that_does_not_exist_is_an_error(self, failing: None) -> None:
        with pytest.raises(CommandError, match="No failed delivery of 'billing' at position 5"):
            run("eventstore_failures", "show", "billing", "5")

    def test_an_event_that_is_gone_is_said_to_be(self, failing: None) -> None:
        FailedDelivery.objects.update(position=17)

        assert "payload: the event is not in the log any more\n" in run("eventstore_failures", "show", "billing", "17")


class TestRetry:
    def test_it_tries_one_again_with_all_attempts(self, failing: None, received: Received) -> None:
        FailedDelivery.objects.update(state="parked", attempts=12, retry_at=None)
        MENDED.add(3)
        tick()
        assert ("billing", 3) not in received

        output = run(
            "eventstore_failures", "retry", "billing", "4", "--yes", "--by", "ann", "--reason", "the price was mended"
        )

        assert "billing: 1\nAsked for 1: retry. The next tick carries it out.\n" == output
        assert [("billing", 4, "parked", "retry")] == failures()
        tick()
        assert [("billing", number) for number in (1, 2, 5, 3, 4)] == received
        assert [] == failures()
        assert [("billing", 4, "retry", "ann", "the price was mended")] == decisions()

    def test_one_that_fails_again_has_begun_to_count_anew(self, failing: None) -> None:
        FailedDelivery.objects.update(state="parked", attempts=12, retry_at=None)

        run("eventstore_failures", "retry", "billing", "4", "--yes")
        tick()

        row = FailedDelivery.objects.get()
        assert ("blocked", 1, "") == (row.state, row.attempts, row.request)

    def test_all_that_match_are_tried_and_the_others_left(self, several: None, received: Received) -> None:
        FailedDelivery.objects.update(retry_at="2100-01-01T00:00:00Z")
        MENDED.update((1, 2, 3))

        output = run("eventstore_failures", "retry", "--type", "test.Two", "--yes")
        tick()

        assert "billing: 2\nmail: 2\nAsked for 4: retry. The next tick carries it out.\n" == output
        assert [("billing", 2), ("billing", 3), ("mail", 2), ("mail", 3)] == sorted(received)
        assert [("billing", 1), ("mail", 1)] == [row[:2] for row in failures()]

    def test_so_many_per_second(self, several: None) -> None:
        run("eventstore_failures", "retry", "--all", "--per-second", "2", "--yes")

        moments = FailedDelivery.objects.values_list("retry_at", flat=True)
        later = sorted(moment for moment in moments if moment is not None)
        assert 2 == sum(moment is None for moment in moments)
        assert [1, 1] == [round((each - later[0]).total_seconds()) for each in later[2:]]
        assert 4 == len(later)
        with pytest.raises(CommandError, match="per_second must be 1 or more"):
            run("eventstore_failures", "retry", "--all", "--per-second", "0", "--yes")

    def test_an_edited_payload_is_delivered_and_the_log_stays(
        self, failing: None, received: Received, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO('{"n": 33}'))

        run("eventstore_failures", "retry", "billing", "4", "--payload", "-", "--yes", "--by", "ann")
        tick()

        assert [("billing", number) for number in (1, 2, 5, 33, 4)] == received
        assert '{"n":3}' == EventEntry.objects.get(log_position__position=4).payload
        assert '{"n":33}' == DeliveryDecision.objects.get().edited_payload
        assert [("billing", 4, "edit", "ann", "")] == decisions()

    @pytest.mark.parametrize(
        "text, message",
        [("[1]", "Expected `object`"), ("{", "truncated"), ('{"n": NaN}', "malformed"), ('{"n": "\\u0000"}', "NUL")],
    )
    def test_a_payload_that_is_no_event_is_refused(
        self, failing: None, tmp_path: Path, text: str, message: str
    ) -> None:
        path = tmp_path / "payload.json"
        path.write_text(text)

        with pytest.raises(CommandError, match=message):
            run("eventstore_failures", "retry", "billing", "4", "--payload", str(path), "--yes")
        with pytest.raises(CommandError, match="nowhere"):
            run("eventstore_failures", "retry", "billing", "4", "--payload", str(tmp_path / "nowhere"), "--yes")
        assert [("billing", 4, "blocked", "")] == failures()
        assert FailedDelivery.objects.get().edited_payload is None

    def test_a_payload_that_the_class_of_the_event_does_not_take_is_refused(
        self, declare: Declare, tmp_path: Path
    ) -> None:
        declare(billing={"OPTIONS": {"fails_at": 0}})
        EventStore().save("shop.OrderCancelled", {"order_id": 1, "reason": "late", "n": 0})
        tick()
        path = tmp_path / "payload.json"
        path.write_text('{"order_id": "one", "reason": "late", "n": 1}')

        with pytest.raises(CommandError, match="order_id"):
            run("eventstore_failures", "retry", "billing", "1", "--payload", str(path), "--yes")
        assert "" == FailedDelivery.objects.get().request

    def test_whatever_the_class_of_the_event_raises_is_a_refusal(self, declare: Declare, tmp_path: Path) -> None:
        declare(billing={"OPTIONS": {"fails_at": 0}})
        EventStore().save("test.Picky", {"n": 0})
        tick()
        path = tmp_path / "payload.json"
        path.write_text('{"n": 13}')

        with pytest.raises(CommandError, match=r"test\.Picky version 1: LookupError: 13 is unlucky"):
            run("eventstore_failures", "retry", "billing", "1", "--payload", str(path), "--yes")
        assert "" == FailedDelivery.objects.get().request

    def test_a_payload_for_an_event_that_is_gone_is_refused(self, failing: None, tmp_path: Path) -> None:
        FailedDelivery.objects.update(position=5)  # which is another event
        path = tmp_path / "payload.json"
        path.write_text('{"n": 33}')

        with pytest.raises(CommandError, match="position 5 is not in the log any more"):
            run("eventstore_failures", "retry", "billing", "5", "--payload", str(path), "--yes")

    def test_a_payload_is_for_one(self, several: None, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="--payload is for one"):
            run("eventstore_failures", "retry", "--all", "--payload", str(tmp_path / "x"), "--yes")


class TestSkip:
    def test_the_event_is_never_delivered_and_its_stream_goes_on(self, failing: None, received: Received) -> None:
        run("eventstore_failures", "skip", "billing", "4", "--yes", "--by", "ann", "--reason", "a test order")
        tick()

        assert [("billing", number) for number in (1, 2, 5, 4)] == received
        assert [] == failures()
        assert [("billing", 4, "skip", "ann", "a test order")] == decisions()

    def test_the_event_after_the_one_that_was_meant_is_not_skipped(
        self, failing: None, received: Received, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the operator thinks about the failed event it is delivered, and the next of its stream fails."""
        (row,) = FailedDelivery.objects.all()

        def answer() -> str:
            FailedDelivery.objects.filter(pk=row.pk).update(position=5)
            return "y"

        monkeypatch.setattr("builtins.input", answer)

        output = run("eventstore_failures", "skip", "--consumer", "billing")

        assert "Asked for 0: skip." in output
        assert "1 did not wait for it" in output
        assert [("billing", 5, "blocked", "")] == failures()

    def test_what_a_worker_has_in_hand_for_the_first_time_is_left_alone(self, failing: None) -> None:
        FailedDelivery.objects.update(state="trying")

        assert "No failed deliveries match.\n" == run("eventstore_failures", "skip", "--all", "--yes")
        assert "Asked for 0" in run("eventstore_failures", "skip", "billing", "4", "--yes")
        assert [("billing", 4, "trying", "")] == failures()


class TestDiscard:
    def test_neither_the_event_nor_what_waits_behind_it_is_delivered(self, failing: None, received: Received) -> None:
        run("eventstore_failures", "discard", "billing", "4", "--yes", "--by", "ann", "--reason", "order of a bot")
        tick()
        save(6, stream="order-7")
        tick()

        assert [("billing", number) for number in (1, 2, 5, 6)] == received
        assert [("billing", 4, "discard", "ann", "order of a bot")] == decisions()

    def test_a_reason_is_required(self, failing: None) -> None:
        with pytest.raises(CommandError, match="--reason"):
            run("eventstore_failures", "discard", "billing", "4", "--yes")
        with pytest.raises(CommandError, match="discarded with a reason"):
            run("eventstore_failures", "discard", "billing", "4", "--yes", "--reason", " ")
        assert [("billing", 4, "blocked", "")] == failures()


class TestAsking:
    @pytest.mark.parametrize("action", ["retry", "skip", "discard"])
    def test_the_count_is_told_and_nothing_done_without_a_yes(
        self, several: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], action: str
    ) -> None:
        monkeypatch.setattr("builtins.input", lambda: "n")

        with pytest.raises(CommandError, match="Nothing was done"):
            run_loud("eventstore_failures", action, "--all", "--reason", "why not")

        output = capsys.readouterr().out
        assert "billing: 3\nmail: 3\n" in output
        assert "6 failed deliveries" in output
        assert output.endswith("[y/N] ")
        assert {""} == {row[3] for row in failures()}

    def test_no_answer_is_no(self, failing: None, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody_there() -> str:
            raise EOFError

        monkeypatch.setattr("builtins.input", nobody_there)

        with pytest.raises(CommandError, match="add --yes"):
            run("eventstore_failures", "skip", "billing", "4")

    def test_a_yes_does_it(self, failing: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("builtins.input", lambda: "Y ")

        run("eventstore_failures", "skip", "billing", "4")

        assert [("billing", 4, "blocked", "skip")] == failures()

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ((), "or a filter, or --all"),
            (("billing",), "CONSUMER and POSITION"),
            (("billing", "four"), "CONSUMER and POSITION"),
            (("billing", "4", "5"), "CONSUMER and POSITION"),
            (("billing", "4", "--all"), "not both"),
            (("billing", "4", "--stream", "order-7"), "not both"),
            (("billing", "5"), "No failed delivery of 'billing' at position 5"),
            (("--all", "--state", "trying"), "invalid choice"),
        ],
    )
    def test_what_is_not_clear_is_refused(self, failing: None, arguments: tuple[str, ...], message: str) -> None:
        with pytest.raises(CommandError, match=message):
            run("eventstore_failures", "retry", "--yes", *arguments)
        assert [("billing", 4, "blocked", "")] == failures()

    def test_the_systems_user_is_who_decides(self, failing: None, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody() -> str:
            raise KeyError("uid not found")

        monkeypatch.setattr(getpass, "getuser", lambda: "deploy")
        run("eventstore_failures", "skip", "billing", "4", "--yes")
        assert "deploy" == FailedDelivery.objects.get().requested_by
        monkeypatch.setattr(getpass, "getuser", nobody)
        run("eventstore_failures", "skip", "billing", "4", "--yes")
        assert f"uid {os.getuid()}" == FailedDelivery.objects.get().requested_by

    def test_a_decision_that_nobody_would_carry_out_is_refused(self, failing: None, declare: Declare) -> None:
        declare(mail={})

        with pytest.raises(CommandError, match="Not declared, so that no worker carries it out: billing"):
            run("eventstore_failures", "skip", "billing", "4", "--yes")

    def test_a_paused_consumer_is_told_to_wait_for_its_resume(self, failing: None, received: Received) -> None:
        pause("billing", reason="strike", using="default")

        output = run("eventstore_failures", "skip", "billing", "4", "--yes")
        tick()

        assert "billing is paused: it is carried out when it is resumed.\n" in output
        assert ("billing", 4) not in received
        run("eventstore_consumers", "resume", "billing")
        tick()
        assert ("billing", 4) in received


class TestDecisions:
    def test_they_are_listed_newest_first_and_filtered(self, several: None) -> None:
        assert "No decisions.\n" == run("eventstore_failures", "decisions")
        run("eventstore_failures", "skip", "billing", "1", "--yes", "--by", "ann", "--reason", "bot")
        tick()
        run("eventstore_failures", "skip", "mail", "2", "--yes", "--by", "bob")
        tick()

        header, newest, oldest = run("eventstore_failures", "decisions").splitlines()
        assert header.startswith("AT")
        assert ["mail", "2", "b", "test.Two", "skip", "bob"] == newest.split()[1:]
        assert ["billing", "1", "a", "test.One", "skip", "ann", "bot"] == oldest.split()[1:]
        assert newest in run("eventstore_failures", "decisions", "--limit", "1")
        assert oldest not in run("eventstore_failures", "decisions", "--limit", "1")
        (found,) = json.loads(run("eventstore_failures", "decisions", "--json", "--type", "test.One"))
        assert ("billing", "bot", None) == (found["consumer"], found["reason"], found["edited_payload"])
        assert [] == json.loads(run("eventstore_failures", "decisions", "--json", "--consumer", "nobody"))
        with pytest.raises(CommandError, match="positive"):
            run("eventstore_failures", "decisions", "--limit", "0")

    def test_an_event_that_is_not_wanted_any_more_is_written_down_as_gone(
        self, failing: None, declare: Declare
    ) -> None:
        declare(billing={"EVENTS": ["test.Other"]})
        time_passes()

        tick()

        assert [("billing", 4, "gone", "")] == [row[:4] for row in decisions()]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_named_database_is_the_one_that_is_looked_at(failing: None) -> None:
    assert "No failed deliveries.\n" == run("eventstore_failures", "list", "--database", "other")
    assert "No failed deliveries match.\n" == run(
        "eventstore_failures", "skip", "--all", "--yes", "--database", "other"
    )
    assert [("billing", 4, "blocked", "")] == failures()


def run_loud(*arguments: str) -> None:
    from django.core.management import call_command

    call_command(*arguments)
