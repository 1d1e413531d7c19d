"""What the context adds to the events that are recorded in it, and what a handler's events say of their cause."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_eventstore import EventStore, arecord, event_context, handles, record
from django_eventstore.context import EventContext, entered
from django_eventstore.exceptions import EventEncodingError
from django_eventstore.forwarding import forward_all
from django_eventstore.models import EventEntry
from tests.delivery import COUNTED, record_numbers
from tests.test_context import TRACE

pytestmark = pytest.mark.django_db(transaction=True)


def recorded(type: str = COUNTED) -> EventEntry:
    return EventEntry.objects.get(type=type)


def metadata(type: str = COUNTED) -> dict[str, object]:
    return json.loads(recorded(type).metadata)


def test_without_a_context_an_event_has_no_ids_and_empty_metadata():
    record_numbers(1)
    entry = recorded()
    assert (None, None, "{}") == (entry.correlation_id, entry.causation_id, entry.metadata)


def test_the_context_is_written_into_columns_and_metadata():
    with event_context(actor="ada", correlation_id="c-1", causation_id="e-1", traceparent=TRACE, metadata={"why": "x"}):
        record_numbers(1)
    entry = recorded()
    assert ("c-1", "e-1") == (entry.correlation_id, entry.causation_id)
    assert {"actor": "ada", "traceparent": TRACE, "why": "x"} == metadata()


def test_all_events_of_one_call_carry_it(django_assert_num_queries):
    with event_context(correlation_id="c-1", actor="ada"):
        record_numbers(*range(3))
    assert {("c-1", '{"actor":"ada"}')} == set(EventEntry.objects.values_list("correlation_id", "metadata"))


def test_the_callers_metadata_wins():
    with event_context(actor="ada", metadata={"why": "x"}), transaction.atomic():
        record(COUNTED, {"n": 1}, metadata={"why": "y"})
    assert {"actor": "ada", "why": "y"} == metadata()


def test_metadata_that_is_no_mapping_is_refused_in_a_context_as_without_one():
    with event_context(actor="ada"), transaction.atomic(), pytest.raises(EventEncodingError, match="metadata"):
        record(COUNTED, {"n": 1}, metadata=[1])


def test_metadata_of_the_context_that_cannot_be_stored_is_refused_by_name():
    with event_context(metadata={"x": object()}), transaction.atomic(), pytest.raises(EventEncodingError, match=r"\.x"):
        record(COUNTED, {"n": 1})


def test_a_user_is_named_in_the_event_also_when_the_row_is_gone():
    user = User.objects.create_user("ada")
    key = str(user.pk)
    with event_context(actor=user):
        record_numbers(1)
    user.delete()
    assert {"actor": {"model": "auth.user", "id": key, "label": "ada"}} == metadata()


def test_save_takes_the_ids_as_arguments_and_leaves_the_context_alone():
    with event_context(actor="ada", correlation_id="other"), transaction.atomic():
        EventStore().save(COUNTED, {"n": 1}, correlation_id="c-1", causation_id="e-1")
    assert ("c-1", "e-1", "{}") == (recorded().correlation_id, recorded().causation_id, recorded().metadata)


@pytest.mark.parametrize("name", ["correlation_id", "causation_id"])
@pytest.mark.parametrize("wrong", ["x" * 101, "\0"])
def test_save_refuses_an_id_that_cannot_be_stored(name, wrong):
    with pytest.raises(EventEncodingError, match=name):
        EventStore().save(COUNTED, {"n": 1}, **{name: wrong})


def test_the_context_flows_through_arecord():
    async def view():
        with event_context(actor="ada", correlation_id="c-1"):
            await sync_to_async(record_numbers)(1)
            await arecord("test.Other", {})

    with pytest.warns(RuntimeWarning):  # arecord is outside a transaction
        async_to_sync(view)()
    assert {"c-1"} == set(EventEntry.objects.values_list("correlation_id", flat=True))


# --- the cause ---


def test_what_a_durable_handler_records_names_its_cause_and_begins_a_correlation():
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        record("test.Following", {})

    record_numbers(1)
    forward_all()
    cause, effect = recorded(), recorded("test.Following")
    assert (str(cause.event_id), str(cause.event_id)) == (effect.causation_id, effect.correlation_id)


def test_the_correlation_of_the_cause_goes_on_and_so_does_its_trace():
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        record("test.Following", {})

    with event_context(actor="ada", correlation_id="c-1", traceparent=TRACE):
        record_numbers(1)
    forward_all()
    effect = recorded("test.Following")
    assert (str(recorded().event_id), "c-1") == (effect.causation_id, effect.correlation_id)
    assert {"traceparent": TRACE} == metadata("test.Following")


def test_a_chain_of_handlers_keeps_one_correlation_and_each_its_own_cause():
    @handles(COUNTED, name="one", start="beginning")
    def first(event):
        record("test.Second", {})

    @handles("test.Second", name="two", start="beginning")
    def second(event):
        record("test.Third", {})

    record_numbers(1)
    forward_all()
    forward_all()
    one, two, three = recorded(), recorded("test.Second"), recorded("test.Third")
    assert [str(one.event_id), str(two.event_id)] == [two.causation_id, three.causation_id]
    assert [str(one.event_id)] * 2 == [two.correlation_id, three.correlation_id]


def test_whoever_runs_a_durable_handler_does_not_become_its_actor():
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        record("test.Following", {})

    record_numbers(1)
    with event_context(actor="operator", correlation_id="elsewhere", metadata={"k": 1}):
        forward_all()
    assert {} == metadata("test.Following")
    assert str(recorded().event_id) == recorded("test.Following").correlation_id


def test_a_handler_inside_the_transaction_acts_for_the_caller():
    @handles(COUNTED, mode="sync")
    def follow(event):
        record("test.Following", {})

    with event_context(actor="ada", correlation_id="c-1", metadata={"k": 1}):
        (entry,) = record_numbers(1)
    effect = recorded("test.Following")
    assert (str(entry.event_id), "c-1") == (effect.causation_id, effect.correlation_id)
    assert {"actor": "ada", "k": 1} == metadata("test.Following")


def test_after_a_handler_the_callers_context_is_back():
    @handles(COUNTED, mode="sync")
    def follow(event): ...

    with event_context(correlation_id="c-1", causation_id="e-1"):
        record_numbers(1)
        record_numbers(2, type="test.Later")
    assert "e-1" == recorded("test.Later").causation_id


def test_an_async_handler_records_its_effect_with_the_cause_and_in_its_transaction():
    @handles(COUNTED, name="numbers", start="beginning")
    async def follow(event):
        await arecord("test.Following", {})

    record_numbers(1)
    forward_all()
    assert str(recorded().event_id) == recorded("test.Following").causation_id


@pytest.mark.parametrize("stored", ['{"traceparent": 7}', '{"traceparent": "x"}', '{"a": "\\"traceparent\\""}'])
def test_metadata_of_others_with_no_trace_worth_the_name_is_no_error(stored):
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        record("test.Following", {})

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventstore_entry (type, payload, metadata) VALUES (%s, %s, %s)", [COUNTED, "{}", stored]
        )
    assert 1 == forward_all().delivered
    assert {} == metadata("test.Following")


def test_a_context_costs_no_query():
    record_numbers(0)
    with (
        event_context(actor="ada", correlation_id="c"),
        transaction.atomic(),
        CaptureQueriesContext(connection) as captured,
    ):
        record(COUNTED, {"n": 1})
    assert 1 == len(captured)


def test_a_repeated_event_id_keeps_the_context_of_the_first():
    for name in ("first", "second"):
        with entered(EventContext(correlation_id=name)), transaction.atomic():
            record(COUNTED, {"n": 1}, event_id=UUID(int=7))
    assert "first" == recorded().correlation_id
