"""eventstore_consumers: list, pause, resume and skip."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management.base import CommandError

from django_eventstore import EventForwarder, EventStore, OffsetStore
from django_eventstore.consumers import acquire, skipping
from django_eventstore.exceptions import EventStoreError
from django_eventstore.models import ConsumerState
from tests.management.conftest import Declare
from tests.management.output import run
from tests.store.log import save

pytestmark = pytest.mark.django_db(transaction=True)

Received = list[tuple[str, int]]


def offset(consumer: str = "billing") -> int:
    progress = OffsetStore().load(consumer)
    assert progress is not None
    return progress.offset


@pytest.fixture
def failing(declare: Declare) -> None:
    """``billing`` stands at 2 and fails at position 4; position 3 is of a type it does not want."""
    declare(billing={"EVENTS": ["test.Counted"], "OPTIONS": {"fails_at": 3}})
    save(1, 2, stream="order-7")
    save(0, type="test.Other")
    save(3, 4, stream="order-7")
    EventForwarder("billing").get_and_send()


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skipping.skip, "__kwdefaults__", {**skipping.skip.__kwdefaults__, "patience": timedelta(0)})


def test_list_shows_state_and_failure(failing: None) -> None:
    ConsumerState.objects.update(retry_at="2100-01-01T00:00:00Z")

    header, row = run("eventstore_consumers", "list").splitlines()

    assert header.startswith("CONSUMER")
    assert ["billing", "waiting", "2", "4", "1", "2100-01-01T00:00:00+00:00", "-"] == row.split()[:7]
    assert row.endswith("ValueError: cannot take 3")


def test_list_without_consumers_says_so() -> None:
    assert "No consumers.\n" == run("eventstore_consumers", "list")


def test_a_paused_consumer_is_delivered_nothing_until_it_is_resumed(declare: Declare, received: Received) -> None:
    declare(billing={})
    save(1)

    assert "Paused billing.\n" == run("eventstore_consumers", "pause", "billing", "--reason", "strike")
    EventForwarder("billing").get_and_send()
    assert [] == received
    assert "strike" == ConsumerState.objects.get().paused_reason

    assert "Resumed billing.\n" == run("eventstore_consumers", "resume", "billing")
    EventForwarder("billing").get_and_send()
    assert [("billing", 1)] == received


@pytest.mark.parametrize("action", ["pause", "resume", "skip"])
def test_an_unknown_consumer_is_refused_with_the_known_ones(declare: Declare, action: str) -> None:
    declare(billing={})

    with pytest.raises(CommandError, match=r"No consumer 'biling' is declared\. Declared: billing"):
        run("eventstore_consumers", action, "biling")
    assert not ConsumerState.objects.exists()


def test_skip_passes_over_the_failing_event_and_says_which(failing: None, received: Received) -> None:
    event_id = EventStore().get(3, 1).entries[0].event_id

    output = run("eventstore_consumers", "skip", "billing")

    assert (
        f"Skipped position 4: test.Counted of stream 'order-7', event id {event_id}. billing will not receive it.\n"
        == output
    )
    assert 4 == offset()
    state = ConsumerState.objects.get()
    assert (None, 0, "", None) == (state.failed_position, state.attempts, state.error, state.retry_at)
    EventForwarder("billing").get_and_send()
    assert [("billing", 1), ("billing", 2), ("billing", 4)] == received


def test_skip_with_the_failing_position_skips(failing: None) -> None:
    run("eventstore_consumers", "skip", "billing", "--position", "4")

    assert 4 == offset()


def test_skip_with_another_position_changes_nothing(failing: None) -> None:
    with pytest.raises(CommandError, match="fails at position 4, not at 5"):
        run("eventstore_consumers", "skip", "billing", "--position", "5")

    assert 2 == offset()
    assert 4 == ConsumerState.objects.get().failed_position


def test_without_a_failing_event_there_is_nothing_to_skip(declare: Declare) -> None:
    declare(billing={})
    save(1)

    with pytest.raises(CommandError, match="no failing event"):
        run("eventstore_consumers", "skip", "billing")
    assert 0 == offset()


def test_a_sender_that_is_unavailable_is_no_event_to_skip(declare: Declare) -> None:
    declare(billing={"OPTIONS": {"unavailable": True}})
    save(1)
    EventForwarder("billing").get_and_send()

    with pytest.raises(CommandError, match="no single event fails"):
        run("eventstore_consumers", "skip", "billing")
    assert 0 == offset()


def test_events_before_the_failing_one_are_never_skipped_with_it(failing: None) -> None:
    tenure = acquire("billing", using="default", length=timedelta(seconds=60))
    assert tenure is not None
    OffsetStore().reset("billing", 1, token=tenure.token)
    tenure.release()

    with pytest.raises(CommandError, match="its next event after offset 1 is position 2: nothing was skipped"):
        run("eventstore_consumers", "skip", "billing")
    assert 1 == offset()


@pytest.mark.usefixtures("no_patience")
def test_skip_refuses_while_a_worker_holds_the_consumer(failing: None) -> None:
    tenure = acquire("billing", using="default", length=timedelta(seconds=60))
    assert tenure is not None

    with pytest.raises(CommandError, match=r"is held by the worker .+: nothing was skipped"):
        run("eventstore_consumers", "skip", "billing")
    assert 2 == offset()
    tenure.release()
    run("eventstore_consumers", "skip", "billing")
    assert 4 == offset()


def test_skip_waits_for_a_worker_that_lets_go(failing: None) -> None:
    tenure = acquire("billing", using="default", length=timedelta(seconds=60))
    assert tenure is not None
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            tenure.release()

    entry = skipping.skip("billing", using="default", clock=lambda: sum(slept), sleep=sleep)

    assert (4, 3) == (entry.position, len(slept))


def test_skip_gives_up_when_its_patience_ends(failing: None) -> None:
    tenure = acquire("billing", using="default", length=timedelta(seconds=60))
    assert tenure is not None
    slept: list[float] = []

    with pytest.raises(EventStoreError, match="is held by"):
        skipping.skip(
            "billing", using="default", patience=timedelta(seconds=1), clock=lambda: sum(slept), sleep=slept.append
        )

    assert 1 <= sum(slept) < 1.5


def test_skip_lets_the_consumer_go_afterwards(failing: None) -> None:
    run("eventstore_consumers", "skip", "billing")

    assert acquire("billing", using="default", length=timedelta(seconds=60)) is not None


def test_what_the_last_worker_delivered_meanwhile_is_not_skipped(failing: None) -> None:
    tenure = acquire("billing", using="default", length=timedelta(seconds=60))
    assert tenure is not None

    def deliver_and_release(seconds: float) -> None:
        OffsetStore().reset("billing", 4, token=tenure.token)
        ConsumerState.objects.update(failed_position=None, attempts=0)
        tenure.release()

    with pytest.raises(EventStoreError, match="no failing event"):
        skipping.skip("billing", using="default", clock=lambda: 0, sleep=deliver_and_release)
