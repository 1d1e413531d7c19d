"""EventStore.save: what is stored, what is refused, and that a refusal leaves nothing."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from django_eventstore import EventEntry, EventStore
from django_eventstore.exceptions import EventEncodingError
from tests.shop.events import OrderCancelled

from .log import log_numbers, numbers, save

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_entry_is_what_was_saved() -> None:
    event = OrderCancelled(order_id=42, reason="changed my mind é🦆")

    [saved] = EventStore().save(event, stream="order-42", metadata={"actor": "ann", "n": [1, None]}, subject="ann")
    [read] = EventStore().get().entries

    for entry in (saved, read):
        assert ("shop.OrderCancelled", 1, "application/json") == (entry.type, entry.version, entry.content_type)
        assert ("order-42", None, "ann") == (entry.stream, entry.stream_version, entry.subject)
        assert '{"order_id":42,"reason":"changed my mind é🦆"}' == entry.payload
        assert '{"actor":"ann","n":[1,null]}' == entry.metadata
        assert {"order_id": 42, "reason": "changed my mind é🦆"} == entry.data
        assert 7 == entry.event_id.version
        assert abs(timezone.now() - entry.timestamp) < timedelta(minutes=1)
    assert (saved.id, saved.event_id, saved.timestamp) == (read.id, read.event_id, read.timestamp)
    assert (None, 1) == (saved.position, read.position)


def test_an_entry_is_in_the_log_if_and_only_if_its_transaction_committed() -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        save(1)
        raise ZeroDivisionError
    with transaction.atomic():
        save(2)
        with suppress(ZeroDivisionError), transaction.atomic():
            save(3)
            raise ZeroDivisionError
        save(4)

    assert [2, 4] == log_numbers()


@pytest.mark.parametrize("field", ["stream", "subject"])
@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800", "a\udfffb"])
def test_text_that_cannot_be_stored_is_refused_by_name(field: str, text: str) -> None:
    with transaction.atomic():
        with pytest.raises(EventEncodingError, match="NUL characters and lone surrogates") as caught:
            EventStore().save("test.Counted", {"n": 1}, **{field: text})
        save(2)

    assert ("test.Counted", field) == (caught.value.type, caught.value.field)
    assert [2] == log_numbers()


@pytest.mark.parametrize("field", ["stream", "subject"])
@pytest.mark.parametrize("character", ["x", "é", "🦆"])
def test_the_longest_text_is_stored_and_one_more_character_is_refused(field: str, character: str) -> None:
    EventStore().save("test.Counted", {"n": 1}, **{field: character * 200})
    with pytest.raises(EventEncodingError, match="201 characters are more than 200") as caught:
        EventStore().save("test.Counted", {"n": 2}, **{field: character * 201})

    assert field == caught.value.field
    assert [character * 200] == [getattr(entry, field) for entry in EventStore().get().entries]


@pytest.mark.parametrize(
    "events", [(), ("test.Counted",), ("test.Counted", {"n": 1}, {"n": 2}), ("test.Counted", 5), (5,), (None,)]
)
def test_what_is_no_event_is_refused(events: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        EventStore().save(*events)

    assert 0 == EventEntry.objects.count()


@pytest.mark.parametrize("type", ["", "one", "a..b", ".a.b", "a.b.", "a b.c", "é.b", "a.b\0", "a.*", f"a.{'b' * 149}"])
def test_a_type_name_that_is_none_is_refused(type: str) -> None:
    with pytest.raises(EventEncodingError):
        EventStore().save(type, {"n": 1})


def test_one_bad_event_of_many_refuses_all() -> None:
    good = OrderCancelled(order_id=1, reason="")
    with pytest.raises(EventEncodingError):
        EventStore().save(good, good, OrderCancelled(order_id=1, reason="a\0"), good)

    assert 0 == EventEntry.objects.count()


def test_a_payload_above_the_limit_is_refused_and_one_at_it_is_stored(settings: Any) -> None:
    settings.EVENTSTORE = {"MAX_PAYLOAD_BYTES": 1_000}
    overhead = len('{"text":""}')
    EventStore().save("test.Text", {"text": "x" * (1_000 - overhead)})
    for text in ("x" * (1_001 - overhead), "é" * 500):
        with pytest.raises(EventEncodingError, match="more than the limit of 1000") as caught:
            EventStore().save("test.Text", {"text": text})
        assert "text" == caught.value.field
    with pytest.raises(EventEncodingError, match="more than the limit"):
        EventStore().save("test.Text", {}, metadata={"text": "x" * 1_000})

    assert 1 == EventEntry.objects.count()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_two_databases_hold_two_logs() -> None:
    save(1)
    save(2, 3, using="other")

    assert ([1], [2, 3]) == (log_numbers(), log_numbers("other"))
    assert EventStore().get().log != EventStore("other").get().log
    assert [2, 3] == numbers(EventStore("other").get(stream=""))
    assert {"other"} == {entry._state.db for entry in EventStore("other").get().entries}


@pytest.mark.django_db(transaction=True)
def test_an_open_transaction_is_not_shown_positions_that_its_rollback_gives_to_others() -> None:
    EventStore().save("test.Counted", {"n": 0})
    offset = EventStore().get().next_offset

    with transaction.atomic():
        EventStore().save("test.Counted", {"n": 1})
        page = EventStore().get()
        transaction.set_rollback(True)
    EventStore().save("test.Counted", {"n": 2})

    assert not page.complete
    assert page.next_offset <= offset
    assert [2] == [entry.data["n"] for entry in EventStore().get(max(page.next_offset, offset)).entries]


@pytest.mark.django_db
@pytest.mark.parametrize("stream", ["a\0", "\ud800"])
def test_a_stream_that_cannot_be_stored_cannot_be_asked_for(stream: str) -> None:
    with pytest.raises(ValueError, match="No stream"):
        EventStore().get(stream=stream)
