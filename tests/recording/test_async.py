"""record() and async code: refused where Django has no transactions, at home in one synchronous function."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction
from django.test import TestCase, override_settings

from django_eventstore import EventStore, arecord, handles, record
from django_eventstore.exceptions import EventStoreError
from django_eventstore.models import EventEntry
from tests.delivery import COUNTED, numbers_of, rolled_back
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(transaction=True)


@transaction.atomic
def place() -> None:
    order = Order.objects.create(total=1)
    record(COUNTED, {"n": 1}, stream=order)


def test_called_in_an_event_loop_it_names_arecord_and_records_nothing():
    async def view():
        record(COUNTED, {"n": 1})

    with pytest.raises(EventStoreError, match=r"sync_to_async\(\).*arecord\(\)"):
        async_to_sync(view)()
    assert not EventEntry.objects.exists()


def test_where_django_is_told_to_block_the_loop_it_does_too(monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    async def notebook():
        try:
            with transaction.atomic():
                record(COUNTED, {"n": 1})
        finally:
            connections.close_all()  # those of the loop, which are not those of this thread

    asyncio.run(notebook())
    assert 1 == EventEntry.objects.count()


def test_the_change_and_its_event_commit_together_in_one_synchronous_function():
    async def view():
        await sync_to_async(place)()
        return await EventStore().aget()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = async_to_sync(view)()
    assert [1] == numbers_of(page.entries)


def test_and_are_rolled_back_together():
    def fail() -> None:
        with rolled_back():
            place()

    async_to_sync(sync_to_async(fail))()
    assert (0, 0) == (EventEntry.objects.count(), Order.objects.count())


def test_arecord_alone_is_outside_a_transaction_and_says_so():
    with pytest.warns(RuntimeWarning, match="outside transaction"):
        async_to_sync(arecord)(COUNTED, {"n": 1})
    with override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": "error"}), pytest.raises(EventStoreError, match="atomic"):
        async_to_sync(arecord)(COUNTED, {"n": 2})
    assert 1 == EventEntry.objects.count()


def test_an_async_handler_that_calls_record_is_told_of_arecord():
    @handles(COUNTED, mode="sync")
    async def follow(event):
        record("test.Following", {})

    with transaction.atomic(), pytest.raises(EventStoreError, match="arecord"):
        record(COUNTED, {"n": 1})


class InATestCase(TestCase):
    async def test_an_async_test_records_and_reads(self):
        await sync_to_async(place)()
        await arecord(COUNTED, {"n": 2})
        page = await EventStore().aget()
        assert [1, 2] == numbers_of(page.entries)

    async def test_the_log_of_another_test_begins_anew(self):
        await self.test_an_async_test_records_and_reads()
