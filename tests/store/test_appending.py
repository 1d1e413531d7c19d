"""Many events in one call are stored like single ones: same bytes, same order, with their ids."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_eventstore import EventEntry, EventStore
from django_eventstore.exceptions import MixedStreamError
from django_eventstore.store.appending import COPY_FROM, append
from django_eventstore.store.new_entries import NewEntries
from tests.shop.events import OrderCancelled

from .log import execute, log_numbers, placed

HOSTILE = [
    "tab\there",
    "line\nfeed\r\n",
    "back\\slash \\N \\t \\\\. \\",
    "\\N",
    "\\.",
    "'single' \"double\" `back` $$dollar$$ %s %% {}",
    "emoji 🦆 é e\u0301 \u2028 \u200b \ufeff",
    " leading and trailing ",
    "\x01\x1b\x7f",
    "",
]

pytestmark = pytest.mark.django_db(transaction=True)


def _counted(count: int) -> list[OrderCancelled]:
    return [OrderCancelled(order_id=number, reason="") for number in range(count)]


def _whole_rows(ids: list[int]) -> list[tuple]:
    columns = (
        "type, version, content_type, payload, stream, stream_version, metadata, correlation_id, causation_id, subject"
    )
    marks = ", ".join(["%s"] * len(ids))
    return execute(f"SELECT {columns} FROM eventstore_entry WHERE id IN ({marks}) ORDER BY id", ids)


@pytest.mark.parametrize("text", HOSTILE)
def test_one_statement_for_many_stores_the_same_bytes_as_one_for_each(text: str) -> None:
    event = OrderCancelled(order_id=1, reason=text)
    keywords = {"stream": f"s{text}", "metadata": {"who": text}, "subject": text}

    alone = EventStore().save(event, **keywords)
    together = EventStore().save(*[event] * (COPY_FROM + 1), **keywords)

    stored = _whole_rows([entry.id for entry in [*alone, *together]])
    assert len(stored) == COPY_FROM + 2
    assert {stored[0]} == set(stored)
    read = EventStore().get(0, 1_000).entries
    assert {text} == {entry.data["reason"] for entry in read} == {entry.subject for entry in read}
    assert {f"s{text}"} == {entry.stream for entry in read}
    assert [alone[0].payload.encode()] * len(read) == [entry.payload.encode() for entry in read]


@pytest.mark.parametrize("count", [1, 2, 49, 50, 499, 500, 501, 1_500])
def test_entries_come_back_with_their_ids_in_order(count: int) -> None:
    saved = EventStore().save(*_counted(count), stream="s")

    assert list(range(count)) == [entry.data["order_id"] for entry in saved]
    stored = {entry.id: entry for entry in EventEntry.objects.all()}
    assert [entry.id for entry in saved] == sorted(stored)
    assert all(stored[entry.id].event_id == entry.event_id for entry in saved)
    assert all(stored[entry.id].timestamp == entry.timestamp for entry in saved)
    assert all(not entry._state.adding and entry._state.db == "default" for entry in saved)
    assert all(entry.position is None for entry in saved)


def test_twenty_thousand_events_in_one_call_keep_their_order() -> None:
    saved = EventStore().save(*_counted(20_000))

    ids = [entry.id for entry in saved]
    assert ids == sorted(set(ids))
    page = EventStore().get(0, 20_000)
    while not page.complete and page.next_offset < 20_000:  # more than one pass on some databases
        page = EventStore().get(0, 20_000)
    assert ids == [entry.id for entry in page.entries]
    assert list(range(20_000)) == [entry.data["order_id"] for entry in page.entries]


def test_two_calls_in_one_transaction_keep_their_order_whatever_their_size() -> None:
    with transaction.atomic():
        for size in (1, 60, 1, 2, 51):
            EventStore().save(*_counted(size))

    ids = [entry_id for _, entry_id in placed()] or [entry.id for entry in EventStore().get(0, 1_000).entries]
    assert 115 == len(ids)
    assert ids == sorted(ids)


@pytest.mark.postgresql
def test_many_events_go_by_copy() -> None:
    with CaptureQueriesContext(connection) as captured:
        EventStore().save(*_counted(COPY_FROM))

    statements = [query["sql"] for query in captured]
    assert 1 == sum(statement.startswith("COPY eventstore_entry") for statement in statements)
    assert not any(statement.startswith("INSERT") for statement in statements)


@pytest.mark.parametrize("count", [1, 2, COPY_FROM])
def test_a_plain_event_on_a_versioned_stream_is_refused_and_nothing_is_stored(count: int) -> None:
    EventStore().save(*_counted(1), stream="versioned", expected_version=0)

    with pytest.raises(MixedStreamError) as caught:
        EventStore().save(*_counted(count), stream="versioned")

    assert (caught.value.stream, caught.value.versioned) == ("versioned", True)
    assert 1 == EventEntry.objects.count()


def test_a_refused_mixed_event_takes_its_whole_transaction_back_or_none_of_it() -> None:
    """In an inner atomic() the error costs that block only."""
    EventStore().save(*_counted(1), stream="versioned", expected_version=0)

    with transaction.atomic():
        EventStore().save("test.Counted", {"n": 1})
        with pytest.raises(MixedStreamError), transaction.atomic():
            EventStore().save("test.Counted", {"n": 2}, stream="versioned")
        EventStore().save("test.Counted", {"n": 3})

    assert [1, 3] == [entry.data["n"] for entry in EventStore().get(1).entries]


@pytest.mark.parametrize("size", [900_000])
def test_many_large_events_in_one_call_are_stored(size: int) -> None:
    """The rows of one statement are bounded by their bytes, too: a server's packet limit is 16 MB by default."""
    large = OrderCancelled(order_id=1, reason="x" * size)

    saved = EventStore().save(*[large] * 30)

    assert 30 == len({entry.id for entry in saved}) == EventEntry.objects.count()


def test_appending_nothing_is_nothing() -> None:
    with transaction.atomic():
        append(NewEntries([]), using="default")

    assert [] == log_numbers()
