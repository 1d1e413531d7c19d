from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import TestCase

from django_eventstore import capture, record, suppressed
from django_eventstore.models import EventEntry
from tests.captured.models import Order, Tag
from tests.delivery import COUNTED, rolled_back
from tests.recording.capturing import created, deleted, kinds, updated


class Failed(Exception):
    pass


def reasons(using="default"):
    """Of each explicit event in the log, why others are missing beside it."""
    entries = EventEntry.objects.using(using).filter(type=COUNTED).order_by("id")
    return [entry.metadata for entry in entries]


def explicit(**arguments):
    record(COUNTED, {"n": 1}, **arguments)


IMPORT = '{"suppressed":"import"}'


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
class TestSuppressed:
    @pytest.fixture(autouse=True)
    def captured(self):
        capture(Order, created=created, updated=updated, deleted=deleted, fields=["note", "tags"])

    def test_nothing_that_happens_to_a_captured_model_is_told(self):
        with suppressed("import"):
            order = Order.objects.create()
            order.note = "x"
            order.save()
            order.tags.add(Tag.objects.create(name="t"))
            order.tags.clear()
            Order.objects.update(note="y")
            Order.objects.bulk_update([order], ["note"])
            Order.objects.bulk_create([Order()])
            order.delete()
            Order.objects.all().delete()
        assert [] == kinds()
        assert 0 == Order.objects.count()

    def test_after_the_block_changes_are_told_again(self):
        with suppressed("import"):
            Order.objects.create()
        Order.objects.create()
        assert ["Created"] == kinds()

    def test_what_bulk_create_could_not_tell_is_allowed(self):
        with suppressed(reason="import"):
            Order.objects.bulk_create([Order(pk=1)])
            Order.objects.bulk_create([Order(pk=1)], ignore_conflicts=True)
        assert 1 == Order.objects.count()

    def test_events_recorded_inside_say_why_others_are_missing(self):
        with transaction.atomic(), suppressed("import"):
            explicit()
            explicit(metadata={"actor": "ada"})
            explicit(metadata={"suppressed": "my own word"})
        assert [
            IMPORT,
            '{"suppressed":"import","actor":"ada"}',
            '{"suppressed":"my own word"}',
        ] == reasons()

    def test_events_recorded_before_do_not(self):
        with transaction.atomic():
            explicit()
            with suppressed("import"):
                Order.objects.create()
        assert ["{}"] == reasons()

    def test_events_recorded_later_in_the_transaction_do(self):
        with transaction.atomic():
            with suppressed("import"):
                Order.objects.create()
            explicit()
            Order.objects.create()
        assert [IMPORT] == reasons()
        assert IMPORT == EventEntry.objects.get(type="test.Created").metadata

    def test_events_of_the_next_transaction_do_not(self):
        with transaction.atomic(), suppressed("import"):
            Order.objects.create()
        with transaction.atomic():
            explicit()
        assert ["{}"] == reasons()

    def test_events_after_a_transaction_that_was_rolled_back_do_not(self):
        with rolled_back(), suppressed("import"):
            Order.objects.create()
        with transaction.atomic():
            explicit()
        assert ["{}"] == reasons()

    def test_a_rolled_back_savepoint_takes_its_silence_with_it(self):
        with transaction.atomic():
            with rolled_back(), suppressed("import"):
                Order.objects.create()
            explicit()
        assert ["{}"] == reasons()

    def test_a_rolled_back_savepoint_leaves_the_silence_of_its_transaction(self):
        with transaction.atomic():
            with suppressed("import"):
                Order.objects.create()
            with rolled_back():
                Order.objects.create()
            explicit()
        assert [IMPORT] == reasons()

    def test_an_error_that_leaves_the_block_leaves_its_reason(self):
        with transaction.atomic():
            with suppress(Failed), suppressed("import"):
                raise Failed
            explicit()
        assert [IMPORT] == reasons()

    def test_several_reasons_are_all_given(self):
        with transaction.atomic():
            with suppressed("import"), suppressed("repair"):
                explicit()
            for _ in range(2):
                with suppressed("import"):
                    Order.objects.create()
            explicit()
        assert ['{"suppressed":"repair"}', '{"suppressed":"repair; import"}'] == reasons()

    def test_each_database_has_its_own(self):
        with transaction.atomic(), transaction.atomic(using="other"):
            with suppressed("import"):
                Order.objects.create()
            explicit(using="other")
        # The other transaction was open as well.
        assert [IMPORT] == reasons("other")
        with transaction.atomic(using="other"):
            explicit(using="other")
        assert [IMPORT, "{}"] == reasons("other")

    @pytest.mark.parametrize("reason", ["", "  ", None, 7])
    def test_it_needs_a_reason(self, reason):
        with pytest.raises(ValueError, match="needs a reason"), suppressed(reason):
            raise AssertionError("never entered")

    def test_it_holds_for_its_task_only(self):
        async def silent(entered, done):
            with suppressed("import"):
                entered.set()
                await done.wait()
                await Order.objects.acreate(note="silent")

        async def loud(entered, done):
            await entered.wait()
            await Order.objects.acreate(note="loud")
            done.set()

        async def both():
            entered, done = asyncio.Event(), asyncio.Event()
            await asyncio.gather(silent(entered, done), loud(entered, done))

        async_to_sync(both)()
        assert ["Created"] == kinds()
        assert 2 == Order.objects.count()

    def test_it_decorates_a_function(self):
        @suppressed("import")
        def load():
            Order.objects.create()

        load()
        load()
        assert [] == kinds()


class InATestCase(TestCase):
    """Where the transaction of the code under test is a savepoint."""

    def setUp(self):
        capture(Order, created=created)

    def test_a_reason_ends_with_the_transaction_of_the_code_under_test(self):
        with transaction.atomic():
            with suppressed("import"):
                Order.objects.create()
            explicit()
        with transaction.atomic():
            explicit()
        assert [IMPORT, "{}"] == reasons()

    def test_without_a_transaction_a_reason_ends_with_the_block(self):
        with suppressed("import"):
            Order.objects.create()
        with transaction.atomic():
            explicit()
        assert ["{}"] == reasons()

    def test_a_change_is_told_in_a_test_case(self):
        Order.objects.create()
        assert ["Created"] == kinds()
