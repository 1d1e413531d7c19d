"""Pages of the log: what is in them, where the reader goes on, and what `complete` says."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import timezone
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext, override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_eventstore import EventStore, Page
from django_eventstore.exceptions import AppendOnlyError, EpochChanged
from django_eventstore.models import Epoch, EventEntry, EventType
from django_eventstore.store import reading
from django_eventstore.store.door import open_door
from tests.delivery import rolled_back

from .log import execute, log_numbers, numbers, placed, save

pytestmark = pytest.mark.django_db(transaction=True)


def _facts(page: Page) -> tuple[list[int], int, bool, int | None]:
    return numbers(page), page.next_offset, page.complete, page.head


def test_an_empty_log_is_complete_at_zero() -> None:
    page = EventStore().get()

    assert ((), 0, True, 0, 1) == (page.entries, page.next_offset, page.complete, page.head, page.epoch)
    assert isinstance(page.log, UUID)
    with pytest.raises(dataclasses.FrozenInstanceError):
        page.head = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "offset, limit, expected",
    [
        (0, 100, ([0, 1, 2, 3, 4], 5, True, 5)),
        (0, 5, ([0, 1, 2, 3, 4], 5, True, 5)),
        (0, 4, ([0, 1, 2, 3], 4, False, None)),
        (0, 1, ([0], 1, False, None)),
        (3, 1, ([3], 4, False, None)),
        (4, 1, ([4], 5, True, 5)),
        (4, 100_000, ([4], 5, True, 5)),
        (5, 1, ([], 5, True, 5)),
    ],
)
def test_a_page_begins_after_the_offset_and_is_complete_at_the_head_only(
    offset: int, limit: int, expected: tuple[list[int], int, bool, int | None]
) -> None:
    save(*range(5))

    page = EventStore().get(offset, limit)

    assert expected == _facts(page)
    assert list(range(offset + 1, offset + 1 + len(page.entries))) == [entry.position for entry in page.entries]


@pytest.mark.parametrize("offset", [6, 2**31, 2**63 - 1])
def test_an_offset_above_the_head_is_an_error_not_an_empty_page(offset: int) -> None:
    save(*range(5))

    with pytest.raises(EpochChanged) as caught:
        EventStore().get(offset)

    assert (offset, 5, 1, None) == (
        caught.value.offset,
        caught.value.head,
        caught.value.epoch,
        caught.value.reader_epoch,
    )


@pytest.mark.parametrize("offset", [-1, 2**63, True, False, 1.0, "1", None])
def test_an_offset_that_is_none_is_refused(offset: Any) -> None:
    with pytest.raises(ValueError, match="offset must be an integer"):
        EventStore().get(offset)


@pytest.mark.parametrize("limit", [0, -1, 100_001, True, 1.0, "1", None])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit must be an integer"):
        EventStore().get(0, limit)


@pytest.mark.parametrize(
    "types", [["order"], ["*.x"], ["a.*.b"], ["a.b", "%"], "a.b", ["a.b\0"], ["a.b' OR 1=1 --"], [""]]
)
def test_a_pattern_that_selects_nothing_is_refused(types: Any) -> None:
    with pytest.raises(ValueError, match="selects no events"):
        EventStore().get(types=types)


TYPES = ["shop.Placed", "shop.Paid", "shop.lines.Added", "shop2.Placed", "mail.Sent", "shop.placed"]


@pytest.fixture
def typed() -> list[tuple[int, str, str]]:
    """(n, type, stream) of a log of 60."""
    rows = [(n, TYPES[n % len(TYPES)], f"s{n % 4}") for n in range(60)]
    with transaction.atomic():
        for n, type_, stream in rows:
            save(n, type=type_, stream=stream)
    return rows


FILTERS = [
    ["shop.Placed"],
    ["shop.*"],
    ["shop.lines.*", "mail.Sent"],
    ["*"],
    ["mail.Sent", "*"],
    ["never.Seen"],
    ["never.*", "shop.Paid"],
    ["shop.Placed", "shop.Placed", "shop.*"],
    TYPES,
]


@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_a_filter_finds_all_that_matches_page_by_page(typed: list[tuple[int, str, str]], limit: int) -> None:
    for types, stream in itertools.product(FILTERS, [None, "s1", "never", ""]):
        expected = [
            n
            for n, type_, of in typed
            if any(p in ("*", type_) or (p.endswith(".*") and type_.startswith(p[:-1])) for p in types)
            and (stream is None or of == stream)
        ]
        offset, seen, pages, complete = 0, [], 0, False
        while not complete:
            page = EventStore().get(offset, limit, types=types, stream=stream)
            seen += numbers(page)
            pages += 1
            assert len(page.entries) <= limit
            assert all(offset < (entry.position or 0) <= page.next_offset for entry in page.entries)
            assert page.next_offset > offset or page.complete
            offset, complete = page.next_offset, page.complete

        assert expected == seen
        assert (60, 60) == (offset, page.head)
        assert pages <= len(expected) // limit + 1


def test_an_unknown_type_leads_to_the_head_at_once_and_is_found_when_it_comes() -> None:
    save(1, 2)
    page = EventStore().get(types=["late.Comer"])
    assert ([], 2, True, 2) == _facts(page)
    save(3, type="late.Comer")

    assert ([3], 3, True, 3) == _facts(EventStore().get(page.next_offset, types=["late.Comer"]))


def test_with_many_types_a_page_looks_at_a_window_and_may_be_empty_without_being_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "WINDOW", 10)
    wanted = [f"wanted.Kind{n}" for n in range(reading.MOST_RANGES + 1)]
    for n, type_ in enumerate(wanted):
        save(n, type=type_)
    save(*range(100, 125))
    save(33, type=wanted[0])
    save(200)
    first = len(wanted)

    page = EventStore().get(first, types=["wanted.*"])
    assert ([], first + 10, False, None) == _facts(page)
    page = EventStore().get(page.next_offset, types=["wanted.*"])
    assert ([], first + 20, False, None) == _facts(page)
    page = EventStore().get(page.next_offset, types=["wanted.*"])
    assert ([33], first + 27, True, first + 27) == _facts(page)
    offset, seen = 0, []
    while True:
        page = EventStore().get(offset, 3, types=["wanted.*"])
        seen += numbers(page)
        offset = page.next_offset
        if page.complete:
            break
    assert list(range(34)) == seen


@pytest.mark.parametrize("count", [reading.MOST_RANGES - 1, reading.MOST_RANGES, reading.MOST_RANGES + 1, 70])
def test_any_number_of_types_finds_the_same(count: int) -> None:
    names = [f"kind.N{n}" for n in range(70)]
    for n, name in enumerate(names):
        save(n, type=name)

    assert list(range(count)) == numbers(EventStore().get(types=names[:count]))
    assert list(range(count)) == numbers(EventStore().get(0, 10, types=names[:count])) + [
        n for page in [EventStore().get(10, 100, types=names[:count])] for n in numbers(page)
    ]
    assert 70 == EventType.objects.count()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=st.lists(st.integers(1, 9), min_size=1), more=st.lists(st.integers(0, 3), max_size=6), prefix=st.booleans()
)
def test_reading_page_by_page_with_any_limits_gives_the_log(limits: list[int], more: list[int], prefix: bool) -> None:
    start = EventStore().get(0, 100_000).head
    while start is None:
        start = EventStore().get(0, 100_000).head
    store, offset, seen, written = EventStore(), start, [], []
    turn = 0
    while True:
        if turn < len(more):  # somebody goes on writing while the reader reads
            new = list(range(len(written), len(written) + 2 * more[turn]))
            for n in new:
                save(n, type="even.Kind" if n % 2 == 0 else "odd.Kind")
            written += new
        limit = limits[turn % len(limits)]
        page = store.get(offset, limit, types=["even.*"] if prefix else ())
        assert len(page.entries) <= limit
        seen += numbers(page)
        offset = page.next_offset
        turn += 1
        if page.complete and turn >= len(more):
            break

    assert [n for n in written if not prefix or n % 2 == 0] == seen
    assert start + len(written) == offset


def test_a_place_whose_entry_is_gone_hides_nothing_behind_it() -> None:
    """Otherwise a short page would look like the last, and the reader would go on at the head."""
    save(*range(10))
    log_numbers()
    with open_door("default"):
        execute("DELETE FROM eventstore_entry WHERE id IN (%s, %s)", [placed()[2][1], placed()[3][1]])
    for types in ([], ["test.Counted"], ["test.*"]):
        offset, seen = 0, []
        for _ in range(10):
            page = EventStore().get(offset, 3, types=types)
            seen += numbers(page)
            offset = page.next_offset
        assert [0, 1, 4, 5, 6, 7, 8, 9] == seen
        assert 10 == offset
    assert ([], 4, False, None) == _facts(EventStore().get(2, 2))


def test_positions_removed_at_the_front_and_in_the_middle_are_stepped_over() -> None:
    save(*range(10))
    log_numbers()
    with open_door("default"):
        for position in (1, 2, 5, 6):
            execute("DELETE FROM eventstore_entry WHERE id = %s", [dict(placed())[position]])
            execute("DELETE FROM eventstore_position WHERE position = %s", [position])

    assert ([2, 3], 4, False, None) == _facts(EventStore().get(0, 2))
    assert ([6, 7], 8, False, None) == _facts(EventStore().get(4, 2))
    assert ([2, 3, 6, 7, 8, 9], 10, True, 10) == _facts(EventStore().get(1, 100))


def test_a_stream_is_read_by_its_exact_name() -> None:
    for n, stream in enumerate(["a", "A", "b", "a", "á", "🦆", "a%", "a_"]):
        save(n, stream=stream)

    assert [0, 3] == numbers(EventStore().get(stream="a"))
    for n, stream in ((1, "A"), (4, "á"), (5, "🦆"), (6, "a%"), (7, "a_")):
        assert [n] == numbers(EventStore().get(stream=stream))
    assert ([], 8, True, 8) == _facts(EventStore().get(stream="%"))


def test_no_page_counts_or_skips_rows() -> None:
    save(*range(5), stream="s")
    log_numbers()
    with CaptureQueriesContext(connection) as captured:
        EventStore().get(2, 2)
        EventStore().get(2, 2, types=["test.*"], stream="s")
        EventStore().get(2, 2, types=["test.Counted"])

    statements = [query["sql"].upper() for query in captured if "EVENTSTORE_SEQUENCE" not in query["sql"].upper()]
    statements = [statement for statement in statements if "BEGIN NOT ATOMIC" not in statement]
    assert statements
    assert not [statement for statement in statements if "COUNT(" in statement or " OFFSET " in statement]


def test_the_async_twins_do_the_same() -> None:
    async def write_and_read() -> Page:
        store = EventStore()
        [entry] = await store.asave("test.Counted", {"n": 7}, stream="s", metadata={"a": 1})
        assert entry.pk
        return await store.aget(0, 10, types=["test.*"], stream="s")

    page = async_to_sync(write_and_read)()

    assert ([7], 1, True, 1) == _facts(page)
    with pytest.raises(ValueError, match="limit must be"):
        async_to_sync(EventStore().aget)(0, 0)


def test_a_flushed_log_gets_a_new_identity() -> None:
    first = EventStore().get()
    Epoch.objects.all().delete()

    again = EventStore().get()

    assert again.log != first.log
    assert (1, again.log) == (again.epoch, EventStore().get().log)


@pytest.mark.postgresql
def test_times_are_right_whatever_the_zone_of_the_session_is():
    """Behind PgBouncer in transaction mode a statement may run in a session that Django has not set up."""
    (saved,) = EventStore().save("test.Timed", {})
    EventStore().get()
    with connection.cursor() as cursor:
        cursor.execute("SET timezone = 'Asia/Kolkata'")
    try:
        (entry,) = EventStore().get().entries
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET timezone = 'UTC'")
    assert saved.timestamp == entry.timestamp
    assert timezone.utc == entry.timestamp.tzinfo


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("stream", [None, "order-1"])
def test_entries_of_a_page_are_those_that_the_database_gives(
    zone: str, use_tz: bool, stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(1, 2, stream="order-1")
    connection.close()
    with override_settings(USE_TZ=use_tz), monkeypatch.context() as patch:
        if use_tz:
            patch.setitem(connection.settings_dict, "TIME_ZONE", zone)
        _forget_zone()
        found = EventStore().get(stream=stream).entries
        stored = list(EventEntry.objects.order_by("id"))
        assert [vars(entry) | PLACE for entry in stored] == [vars(entry) | PLACE for entry in found]
        assert [entry.timestamp.tzinfo for entry in stored] == [entry.timestamp.tzinfo for entry in found]
    connection.close()
    _forget_zone()


PLACE = {"position": 0, "slot": 0, "_state": None}


def _forget_zone() -> None:
    """The connection works it out anew."""
    for name in ("timezone", "timezone_name"):
        connection.__dict__.pop(name, None)


def test_entries_of_a_page_are_stored_ones() -> None:
    save(1)
    (entry,) = EventStore().get().entries

    assert (False, "default", (1,)) == (entry._state.adding, entry._state.db, (entry.position,))
    assert entry == EventEntry.objects.get()
    with pytest.raises(AppendOnlyError):
        entry.save()
    entry.refresh_from_db()
    assert entry._state.fields_cache == {}


def test_whoever_listens_to_the_making_of_models_hears_of_entries_that_are_read() -> None:
    made = []

    def note(sender: object, instance: EventEntry, **kwargs: object) -> None:
        made.append(instance.payload)

    save(1, 2)
    silent = EventStore().get().entries
    post_init.connect(note, sender=EventEntry)
    try:
        told = EventStore().get().entries
    finally:
        post_init.disconnect(note, sender=EventEntry)

    assert [entry.payload for entry in silent] == made
    assert [(entry.id, entry.position, entry.slot) for entry in silent] == [
        (entry.id, entry.position, entry.slot) for entry in told
    ]


# --- one store that is asked again and again ---


def test_a_type_that_comes_later_is_found_by_a_store_that_has_looked_before() -> None:
    store = EventStore()
    save(1, type="wanted.First")
    assert [1] == numbers(store.get(types=["wanted.*"]))
    save(2, type="wanted.Second")
    save(3, type="other.Third")
    assert [1, 2] == numbers(store.get(types=["wanted.*"]))
    assert [3] == numbers(store.get(types=["other.Third"]))
    assert [1, 2] == numbers(store.get(types=["wanted.*"]))


def test_a_type_that_a_rollback_takes_back_is_not_remembered_by_its_number() -> None:
    """SQLite gives the number to the next one."""
    store = EventStore()
    save(1, type="other.First")
    store.get(types=["wanted.*"])
    with rolled_back():
        save(2, type="wanted.Second")
        store.get(types=["wanted.*"])
    save(3, type="other.Third")
    assert [] == numbers(store.get(types=["wanted.*"]))
    save(4, type="wanted.Second")
    assert [4] == numbers(store.get(types=["wanted.*"]))
