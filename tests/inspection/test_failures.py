"""What is told about failed deliveries beyond their rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from django_eventstore import EventForwarder, EventStore
from django_eventstore.consumers import declared_consumers, set_partitions
from django_eventstore.inspection import Queued, delivered_entry, failed_deliveries, failure_status, queued_behind
from django_eventstore.models import FailedDelivery
from tests.api.statements import captured_statements
from tests.store.log import save

pytestmark = pytest.mark.django_db(transaction=True)


def declared(**given: Any) -> Any:
    sender = {"SENDER": "tests.inspection.senders.Recorder", "OPTIONS": {"fails_at": 1}, "START": "beginning"}
    return override_settings(EVENTSTORE={"CONSUMERS": {"billing": {**sender, **given}}})


def only() -> FailedDelivery:
    (failure,) = failed_deliveries(using="default")
    return failure


def test_what_waits_is_what_the_consumer_wants_of_the_stream_up_to_its_offset() -> None:
    with declared(EVENTS=["test.*"]):
        save(1, 2, 3, stream="order-7")
        save(4, stream="order-8")
        save(5, stream="order-7", type="other.Thing")
        EventForwarder("billing").get_and_send()
        save(6, stream="order-7")
        EventStore().get()

        assert Queued(events=2, is_capped=False) == queued_behind(only())


def test_nothing_waits_where_nothing_is_blocked() -> None:
    with declared():
        save(1)
        save(2)
        EventForwarder("billing").get_and_send()
        assert "0" == str(queued_behind(only()))
    assert "0" == str(queued_behind(only()))  # of a consumer that nobody declares nothing is known


def test_it_is_counted_up_to_a_limit() -> None:
    with declared():
        save(1, stream="order-7")
        for _ in range(3):
            save(2, stream="order-7")
        EventForwarder("billing").get_and_send()

        assert "3" == str(queued_behind(only()))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django_eventstore.inspection.failures.COUNT_LIMIT", 2)
            with captured_statements() as statements:
                assert Queued(events=2, is_capped=True) == queued_behind(only())
            assert "2+" == str(queued_behind(only()))
        (count,) = [sql for sql in statements if "COUNT(" in sql]
        assert "LIMIT" in count


def test_of_several_partitions_it_is_the_offset_of_its_own_that_counts() -> None:
    with declared():
        save(1, stream="order-7")
        EventForwarder("billing").get_and_send()
        failure = only()
        set_partitions(declared_consumers()["billing"], 2, using="default")
        save(2, stream="order-7")
        number = 0 if failure.slot < 32 else 1
        loops = EventForwarder("billing").loops(2)
        loops[1 - number].run(most_events=1_000, longest=timedelta(seconds=20))
        assert 0 == queued_behind(failure).events
        loops[number].run(most_events=1_000, longest=timedelta(seconds=20))
        assert 1 == queued_behind(failure).events
        set_partitions(declared_consumers()["billing"], 1, using="default")
        assert 1 == queued_behind(failure).events


def test_the_event_is_found_by_position_and_id_together() -> None:
    with declared():
        (first, second) = save(1, 2)
        EventForwarder("billing").get_and_send()

    failure = only()

    entry = delivered_entry(failure)
    assert entry is not None
    assert first.event_id == entry.event_id
    failure.position = 2  # in another history another event is there
    assert delivered_entry(failure) is None
    assert second.event_id != failure.event_id


def test_a_status_tells_whether_the_payload_was_edited() -> None:
    with declared():
        save(1)
        EventForwarder("billing").get_and_send()
    assert failure_status(only()).is_edited is False
    FailedDelivery.objects.update(edited_payload="{}")
    assert failure_status(only()).is_edited is True
