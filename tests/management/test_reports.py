"""eventstore_status, eventstore_verify and eventstore_epoch: what they write, and how they end."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.test import override_settings

from django_eventstore import EventForwarder, EventStore
from django_eventstore.models import Epoch
from tests.conftest import Spawn
from tests.inspection.planting import insert_unseen, remove_positions
from tests.management.conftest import Declare
from tests.management.output import run
from tests.store.log import save

pytestmark = pytest.mark.django_db(transaction=True)


def test_status_shows_the_log_and_each_consumer(declare: Declare) -> None:
    declare(billing={}, mail={"OPTIONS": {"unavailable": True}})
    save(1, 2, 3)
    EventStore().get()
    EventForwarder("billing").get_and_send()
    EventForwarder("mail").get_and_send()
    call_command("eventstore_consumers", "pause", "mail", "--reason", "strike", stdout=None)

    lines = run("eventstore_status").splitlines()

    assert lines[0] == f"Log {Epoch.objects.get().log}, epoch 1"
    assert lines[1] == "Head 3, entries without a position 0"
    assert lines[2:4] == ["Celery worker last seen: never", "Celery beat last seen: never"]
    assert lines[4] == "Follower last seen: never"
    assert ["billing", "running", "3", "0", "-"] == lines[7].split()
    assert ["mail", "paused", "0", "3"] == lines[8].split()[:4]
    assert lines[8].endswith("strike")


def test_status_without_consumers_says_so() -> None:
    assert run("eventstore_status").endswith("No consumers.\n")


def test_status_as_json_is_one_document(declare: Declare) -> None:
    declare(billing={})
    save(1, 2, 3)
    EventStore().get()

    status = json.loads(run("eventstore_status", "--json"))

    assert (3, 0, None) == (status["head"], status["unsequenced"], status["beat_seen_at"])
    (billing,) = status["consumers"]
    assert ("billing", True, 0, 3, "running") == (
        billing["name"],
        billing["declared"],
        billing["offset"],
        billing["lag"],
        billing["state"],
    )


def test_status_tells_what_of_a_running_consumer_has_failed(failing: None) -> None:
    (line,) = [line for line in run("eventstore_status").splitlines() if line.startswith("billing")]
    (billing,) = json.loads(run("eventstore_status", "--json"))["consumers"]

    assert ["billing", "running", "6", "0", "-", "1", "stream", "blocked"] == line.split()
    assert ("running", "1 stream blocked", 1, 1, 0) == (
        billing["state"],
        billing["reason"],
        billing["partitions"],
        billing["blocked"],
        billing["parked"],
    )
    assert billing["failing_since"] is not None


def test_status_fails_for_a_lag_above_the_given_one(declare: Declare) -> None:
    declare(billing={}, idle={"EVENTS": ["nothing.Wanted"]})
    save(1, 2, 3)
    EventStore().get()

    run("eventstore_status", "--fail-lag", "3")
    with pytest.raises(CommandError, match=r"billing \(3\)\.$") as caught:
        run("eventstore_status", "--fail-lag", "2")

    assert 1 == caught.value.returncode


@pytest.mark.parametrize("given", ["-1", "10001"])
def test_a_lag_that_is_not_counted_cannot_be_asked_for(given: str) -> None:
    with pytest.raises(CommandError, match="from 0 to 10000"):
        run("eventstore_status", f"--fail-lag={given}")


def test_a_misspelt_setting_is_an_error_that_names_it() -> None:
    with override_settings(EVENTSTORE={"CONSUMER": {}}), pytest.raises(CommandError, match="Did you mean 'CONSUMERS'"):
        run("eventstore_status")


def test_verify_of_a_sound_log_says_so() -> None:
    save(1, 2, 3)

    output = run("eventstore_verify")

    assert f"Log {Epoch.objects.get().log}, epoch 1, head 3" in output
    assert output.endswith("Nothing is wrong.\n")


def test_verify_tells_what_was_pruned() -> None:
    save(*range(5))
    EventStore().get()
    remove_positions(1, 2)

    assert "Pruned through position 2." in run("eventstore_verify")


def test_verify_fails_with_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    save(*range(5))
    EventStore().get()
    remove_positions(3, 3)
    insert_unseen()

    with pytest.raises(CommandError, match="not sound: hole, unsequenced") as caught:
        call_command("eventstore_verify")

    assert 1 == caught.value.returncode
    output = capsys.readouterr().out
    assert "hole: 1 × " in output
    assert "    positions 3 to 3\n" in output
    assert "unsequenced: 1 × " in output


def test_verify_repairs_what_a_rebase_can(capsys: pytest.CaptureFixture[str]) -> None:
    save(*range(5))
    EventStore().get()
    insert_unseen(2)

    output = run("eventstore_verify", "--repair")

    assert "Repaired: 2 entries were given a position." in output
    assert output.endswith("Nothing is wrong.\n")


def test_verify_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    save(*range(3))
    EventStore().get()
    remove_positions(2, 2)

    with pytest.raises(CommandError):
        call_command("eventstore_verify", "--json")

    report = json.loads(capsys.readouterr().out)
    assert (3, 0, None) == (report["head"], report["pruned_through"], report["repaired"])
    assert [("hole", 1, ["positions 2 to 2"])] == [
        (each["kind"], each["count"], each["examples"]) for each in report["findings"]
    ]


def test_verify_inside_a_transaction_is_an_error() -> None:
    with transaction.atomic(), pytest.raises(CommandError, match="open transaction"):
        run("eventstore_verify")


def test_commands_end_with_status_1_and_one_line(spawn: Spawn) -> None:
    save(*range(3))
    EventStore().get()
    remove_positions(2, 2)

    process = spawn("-m", "django", "eventstore_verify")

    assert 1 == process.wait(check=False)
    assert "hole: 1" in process.output
    assert "CommandError: The log is not sound: hole." == process.errors.strip().splitlines()[-1]
    assert "Traceback" not in process.errors


def test_epochs_are_listed_oldest_first() -> None:
    save(1, 2)
    EventStore().get()
    run("eventstore_epoch", "--new", "--reason", "restored from Tuesday")

    lines = run("eventstore_epoch").splitlines()

    assert lines[0] == f"Log {Epoch.objects.get(number=1).log}"
    assert ["1", "0"] == lines[2].split()[:2]
    assert lines[2].endswith("created")
    assert ["2", "2"] == lines[3].split()[:2]
    assert lines[3].endswith("restored from Tuesday")


def test_a_new_epoch_begins_after_the_head_or_where_it_is_told() -> None:
    save(1, 2, 3)
    EventStore().get()

    assert "Epoch 2 began after position 3.\n" == run("eventstore_epoch", "--new")
    assert "Epoch 3 began after position 1.\n" == run("eventstore_epoch", "--new", "--after", "1")
    with pytest.raises(CommandError, match="between 0 and the head, 3"):
        run("eventstore_epoch", "--new", "--after", "4")
    assert [1, 2, 3] == list(Epoch.objects.order_by("number").values_list("number", flat=True))


@pytest.mark.parametrize("option", [("--after", "1"), ("--reason", "x")])
def test_what_belongs_to_a_new_epoch_is_refused_without_one(option: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match="add --new"):
        run("eventstore_epoch", *option)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_commands_look_at_the_named_database() -> None:
    save(1, 2, 3, using="other")
    EventStore("other").get()

    assert "Head 3," in run("eventstore_status", "--database", "other")
    assert "Head 0," in run("eventstore_status")
    assert "head 3" in run("eventstore_verify", "--database", "other")
    run("eventstore_epoch", "--new", "--database", "other")
    assert 1 == Epoch.objects.using("default").count()
    assert 2 == Epoch.objects.using("other").count()
    with pytest.raises(CommandError, match="invalid choice"):
        run("eventstore_status", "--database", "nowhere")
