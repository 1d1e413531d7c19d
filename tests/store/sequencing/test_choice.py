"""Who calls, and in what state its connection is: the log is complete or says that it is not, and loses nothing later."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from django_eventstore import Batch, EventEntry, EventForwarder, EventSender, EventStore, Outcome, record
from django_eventstore.consumers import Consumer
from django_eventstore.exceptions import EventStoreError
from django_eventstore.models import LogPosition
from django_eventstore.store.door import open_door
from django_eventstore.store.sequencing import in_test_case, sequence, sequencer
from tests.shop.events import OrderCancelled
from tests.store.conftest import Connect
from tests.store.log import execute, log_numbers, numbers, placed, save

committed = pytest.mark.django_db(transaction=True)

ISOLATION: dict[str, list[dict[str, Any]]] = {
    "postgresql": [
        {"options": f"-c default_transaction_isolation={level}"}
        for level in ("read\\ committed", "repeatable\\ read", "serializable")
    ],
    "mysql": [{"isolation_level": level} for level in ("read committed", "repeatable read", "serializable")],
    "sqlite": [{"transaction_mode": mode} for mode in ("DEFERRED", "IMMEDIATE", "EXCLUSIVE")],
}


@committed
@pytest.mark.parametrize("number", range(3))
def test_a_caller_at_any_isolation_level_gets_a_complete_log(connect: Connect, second: str, number: int) -> None:
    caller = connect("caller", options=ISOLATION[connections["default"].vendor][number])
    for step in range(3):
        save(10 * step, using=second)
        save(10 * step + 1, using=caller)
        page = EventStore(caller).get(2 * step)
        assert ([10 * step, 10 * step + 1], True) == (numbers(page), page.complete)

    with transaction.atomic(using=caller):
        save(98, using=caller)
    assert [0, 1, 10, 11, 20, 21, 98] == log_numbers(caller) == log_numbers(second)


@committed
@pytest.mark.parametrize("number", range(3))
def test_a_session_keeps_its_isolation_level(connect: Connect, number: int) -> None:
    vendor = connections["default"].vendor
    if vendor == "sqlite":
        return  # it has one
    caller = connect("caller", options=ISOLATION[vendor][number])
    question = "SHOW transaction_isolation" if vendor == "postgresql" else "SELECT @@tx_isolation"
    before = execute(question, using=caller)

    save(1, using=caller)
    sequencer(caller).run()

    assert before == execute(question, using=caller)
    assert ["read", "repe", "seri"][number] == before[0][0].lower()[:4]


@committed
@pytest.mark.postgresql
@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_a_driver_set_isolation_level_is_fine_too(connect: Connect, second: str, level: str) -> None:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    caller = connect("caller", options={"isolation_level": IsolationLevel[level]})
    save(1, using=second)
    save(2, using=caller)
    save(3, using=second)

    assert [1, 2, 3] == log_numbers(caller)


@committed
@pytest.mark.postgresql
def test_a_connection_that_binds_on_the_server_is_fine_too(connect: Connect) -> None:
    caller = connect("caller", options={"server_side_binding": True})
    save(1, stream="s", using=caller)
    EventStore(caller).save("test.Counted", {"n": 2}, stream="v", expected_version=0)
    EventStore(caller).save(*[OrderCancelled(order_id=1, reason="")] * 60)
    save(3, using=caller)

    assert [1, 2, *[None] * 60, 3] == [entry.data.get("n") for entry in EventStore(caller).get().entries]
    assert [1] == numbers(EventStore(caller).get(types=["test.*"], stream="s"))


@committed
@pytest.mark.postgresql
@pytest.mark.mariadb
def test_inside_a_transaction_that_has_recorded_the_page_is_incomplete_and_nothing_is_lost_later(second: str) -> None:
    """A snapshot never lists its own transaction as running: sequenced there, what it records afterwards is lost."""
    save(0)
    assert [0] == log_numbers()
    with transaction.atomic():
        save(1)
        save(2, using=second)
        inside = EventStore().get()
        assert ([0], False, None) == (numbers(inside), inside.complete, inside.head)
        save(3)
        assert [0, 2] == log_numbers(second)
        save(4)
    save(5, using=second)

    assert [0, 2, 1, 3, 4, 5] == log_numbers()
    assert log_numbers() == log_numbers(second)


@committed
@pytest.mark.postgresql
@pytest.mark.mariadb
def test_inside_a_transaction_that_has_only_read_the_page_is_incomplete(second: str) -> None:
    save(0)
    with transaction.atomic():
        assert 1 == EventEntry.objects.count()
        page = EventStore().get()
        assert ([], 0, False, None) == (numbers(page), page.next_offset, page.complete, page.head)
        save(1, using=second)
        assert [0, 1] == log_numbers(second)
        page = EventStore().get()
        assert not page.complete

    assert [0, 1] == log_numbers()


@committed
@pytest.mark.parametrize("depth", [1, 2])
def test_a_pass_is_refused_inside_a_transaction(depth: int) -> None:
    with transaction.atomic():
        if depth == 2:
            with transaction.atomic():
                done = sequence("default")
        else:
            done = sequence("default")

    assert (False, True, 0) == (done.reached, done.refused, done.numbered)
    assert not in_test_case(connections["default"])


@committed
def test_a_database_without_a_sequencer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(connections["default"]), "vendor", "oracle")

    with pytest.raises(ImproperlyConfigured, match="alias 'default' is oracle"):
        sequencer("default")


# --- AUTOCOMMIT False and ATOMIC_REQUESTS --------------------------------------------------------------------------------


@committed
@pytest.mark.postgresql
@pytest.mark.mariadb
def test_without_autocommit_record_commits_with_the_connection_and_get_is_incomplete(connect: Connect) -> None:
    """Not on SQLite, where Django's savepoints commit when autocommit is off."""
    manual = connect("manual", AUTOCOMMIT=False)
    record("test.Counted", {"n": 1}, using=manual)
    page = EventStore(manual).get()
    assert (False, None) == (page.complete, page.head)
    assert [] == log_numbers()

    connections[manual].commit()
    assert [1] == log_numbers()
    record("test.Counted", {"n": 2}, using=manual)
    connections[manual].rollback()
    record("test.Counted", {"n": 3}, using=manual)
    connections[manual].commit()

    assert [1, 3] == log_numbers()
    page = EventStore(manual).get()
    assert ([1, 3], False) == (numbers(page), page.complete)


class Nothing(EventSender):
    def send(self, batch: Batch) -> Outcome:
        return Outcome(done=len(batch.entries))


@committed
def test_without_autocommit_forwarding_is_refused_with_the_reason(connect: Connect) -> None:
    manual = connect("manual", AUTOCOMMIT=False)
    consumer = Consumer(name="c", sender=f"{__name__}.Nothing", events=("*",))

    with pytest.raises(EventStoreError, match=r"'manual' is inside a transaction.*AUTOCOMMIT"):
        EventForwarder(consumer, using=manual).get_and_send()


def _record_and_read(request: HttpRequest) -> HttpResponse:
    save(int(request.GET["n"]))
    page = EventStore().get()
    if "fail" in request.GET:
        raise ZeroDivisionError
    return HttpResponse(str(page.complete))


urlpatterns = [path("record", _record_and_read)]


@committed
@override_settings(ROOT_URLCONF=__name__)
def test_under_atomic_requests_a_request_records_with_its_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    client = Client(raise_request_exception=False)

    assert b"False" == client.get("/record", {"n": 1}).content
    assert 500 == client.get("/record", {"n": 2, "fail": 1}).status_code
    assert b"False" == client.get("/record", {"n": 3}).content

    assert [1, 3] == log_numbers()


# --- savepoints, fixtures, an emptied log --------------------------------------------------------------------------------


@committed
def test_hundreds_of_savepoints_half_of_them_rolled_back(second: str) -> None:
    with transaction.atomic():
        for number in range(300):
            try:
                with transaction.atomic():
                    save(number)
                    if number % 2:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        if connections["default"].vendor != "sqlite":
            save(1_000, using=second)
            assert [1_000] == log_numbers(second)

    assert list(range(0, 300, 2)) == [number for number in log_numbers(second) if number < 1_000]


@committed
def test_two_hundred_open_subtransactions(second: str) -> None:
    """More than PostgreSQL keeps per process in shared memory: its snapshots overflow."""

    def nest(depth: int) -> None:
        if depth == 200:
            if connections["default"].vendor != "sqlite":
                save(-1, using=second)
                assert [-1] == log_numbers(second)
            return
        with transaction.atomic():
            save(depth)
            nest(depth + 1)

    nest(0)

    assert list(range(200)) == [number for number in log_numbers(second) if number >= 0]


@committed
def test_entries_loaded_from_a_fixture_join_a_live_log(tmp_path: Path) -> None:
    save(1, 2)
    fixture = tmp_path / "entries.json"
    call_command("dumpdata", "django_eventstore.evententry", output=str(fixture), verbosity=0)
    text = fixture.read_text()
    top = max(EventEntry.objects.values_list("id", flat=True))
    for entry in EventEntry.objects.all():
        text = text.replace(f'"pk": {entry.id},', f'"pk": {entry.id + top + 1_000},')
    fixture.write_text(text)
    save(3)
    assert [1, 2, 3] == log_numbers()
    before = placed()

    call_command("loaddata", str(fixture), verbosity=0)
    assert [1, 2, 3, 1, 2] == log_numbers()
    [late] = save(4)

    assert [1, 2, 3, 1, 2, 4] == log_numbers()
    assert before == placed()[:3]
    assert late.id > top + 1_002


@committed
def test_an_emptied_log_keeps_its_head() -> None:
    save(*range(5))
    assert 5 == len(log_numbers())
    with open_door("default"):
        execute("DELETE FROM eventstore_position")
        execute("DELETE FROM eventstore_entry")

    page = EventStore().get()
    assert ([], 5, True, 5) == (numbers(page), page.next_offset, page.complete, page.head)
    save(9)
    page = EventStore().get(5)
    assert ([9], [6], 6) == (numbers(page), [entry.position for entry in page.entries], page.head)


@committed
def test_a_lost_position_is_given_anew_by_a_rebase_and_a_rebase_of_a_whole_log_does_nothing() -> None:
    save(1, 2, 3, stream="some stream")
    log_numbers()
    slots = {*LogPosition.objects.values_list("slot", flat=True)}
    before = placed()
    assert (True, 0) == (sequencer("default").rebase().reached, sequencer("default").unsequenced(limit=10))
    assert before == placed()
    with open_door("default"):
        execute("DELETE FROM eventstore_position WHERE position = %s", [before[-1][0]])

    done = sequencer("default").rebase()

    assert 1 == done.numbered
    assert [*before[:2], (before[-1][0] + 1, before[-1][1])] == placed()
    assert slots == {*LogPosition.objects.values_list("slot", flat=True)}
    assert [1, 2, 3] == [entry.data["n"] for entry in EventStore().get().entries]
    epochs = execute("SELECT count(*) FROM eventstore_epoch")
    assert 1 == epochs[0][0]


# --- TestCase: everything in one transaction that nobody commits ---------------------------------------------------------


@pytest.mark.django_db
def test_in_a_test_case_record_and_get_alternate() -> None:
    assert in_test_case(connections["default"])
    seen = EventStore().get().head or 0
    for number in range(5):
        save(number, stream=f"s{number}", type=f"test.Kind{number}")
        page = EventStore().get(seen)
        assert ([number], True, seen + 1) == (numbers(page), page.complete, page.head)
        assert [number] == numbers(EventStore().get(seen, types=[f"test.Kind{number}"], stream=f"s{number}"))
        seen = page.next_offset


@pytest.mark.django_db
def test_in_a_test_case_an_inner_transaction_is_one_to_be_refused_in() -> None:
    with transaction.atomic():
        save(1)
        page = EventStore().get()
        assert not page.complete
        assert sequence("default").refused

    page = EventStore().get()
    assert page.complete
    assert 1 == numbers(page)[-1]


@pytest.mark.django_db
@pytest.mark.parametrize("run", range(2))
def test_a_test_case_leaves_nothing_to_the_next(run: int) -> None:
    save(1)
    assert [1] == numbers(EventStore().get())
    assert 1 == EventStore().get().head


@pytest.mark.postgresql
@pytest.mark.mariadb
@committed
@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_in_a_test_case_another_connection_may_commit_in_between(
    connect: Connect, second: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrapping of a TestCase, on a connection of its own, so that what the other one commits is removed after it."""
    if connections["default"].vendor == "mysql":
        options: dict[str, Any] = {"isolation_level": level}
    else:
        options = {"options": f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"}
    wrapped = connect("wrapped", options=options)
    block = transaction.atomic(using=wrapped)
    block._from_testcase = True  # type: ignore[attr-defined]
    block.__enter__()
    save(1, using=wrapped)
    assert [1] == numbers(EventStore(wrapped).get())
    save(2, using=second)
    save(3, using=wrapped)
    page = EventStore(wrapped).get()
    assert ([1, 2, 3] if level == "read committed" else [1, 3]) == numbers(page)
    assert page.complete
    save(4, using=wrapped)
    save(5, using=second)
    save(6, using=wrapped)
    assert 6 == numbers(EventStore(wrapped).get())[-1]
    began = time.monotonic()
    # The other connection keeps out of the test's log, and waits no longer than ever.
    assert not EventStore(second).get().complete
    assert time.monotonic() - began < 10
    transaction.set_rollback(True, using=wrapped)
    block.__exit__(None, None, None)

    assert [2, 5] == log_numbers(second)


@pytest.mark.mariadb
@committed
def test_in_a_test_case_at_repeatable_read_a_pass_of_another_connection_may_come_first(
    connect: Connect, second: str
) -> None:
    wrapped = connect("wrapped", options={"isolation_level": "repeatable read"})
    save(1, using=second)
    block = transaction.atomic(using=wrapped)
    block._from_testcase = True  # type: ignore[attr-defined]
    block.__enter__()
    assert 1 == EventEntry.objects.using(wrapped).count()  # the snapshot: an entry, no position
    assert [1] == log_numbers(second)
    save(2, using=wrapped)
    page = EventStore(wrapped).get()
    assert 2 == numbers(page)[-1]
    transaction.set_rollback(True, using=wrapped)
    block.__exit__(None, None, None)

    assert [1] == log_numbers(second)
