"""eventstore_consumers: list, pause, resume, move, partition, rename, retire and forget-keys."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management.base import CommandError
from django.db import transaction

from django_eventstore import EventForwarder, EventStore, OffsetStore
from django_eventstore.consumers import acquire, declared_consumers, once, retry
from django_eventstore.consumers.leases import LONG_AGO
from django_eventstore.models import (
    ConsumerOffset,
    ConsumerState,
    DeliveryDecision,
    Endpoint,
    FailedDelivery,
    InboxKey,
    Lease,
    SlotOffset,
)
from tests.inspection.senders import MENDED
from tests.management.conftest import Declare, tick, time_passes
from tests.management.output import run
from tests.store.log import save

pytestmark = pytest.mark.django_db(transaction=True)

Received = list[tuple[str, int]]
STORED = (ConsumerOffset, ConsumerState, Lease, SlotOffset, FailedDelivery)


def offset(consumer: str = "billing") -> int | None:
    progress = OffsetStore().load(consumer)
    return None if progress is None else progress.offset


def stored(consumer: str) -> set[str]:
    """The tables that have rows of the consumer."""
    return {model.__name__ for model in STORED if model._default_manager.filter(consumer=consumer).exists()}


class TestList:
    def test_it_shows_blocked_and_parked_events(self, failing: None) -> None:
        header, row = run("eventstore_consumers", "list").splitlines()

        assert header.startswith("CONSUMER")
        assert ["billing", "running", "6", "1", "1", "0", "0", "-", "-"] == row.split()[:9]
        assert row.endswith("1 stream blocked")
        FailedDelivery.objects.update(state="parked")
        assert run("eventstore_consumers", "list").rstrip().endswith("1 parked")

    def test_it_shows_what_a_waiting_consumer_waits_for(self, declare: Declare) -> None:
        declare(billing={"OPTIONS": {"unavailable": True}})
        save(1)
        tick()
        ConsumerState.objects.update(retry_at="2100-01-01T00:00:00Z")

        row = run("eventstore_consumers", "list").splitlines()[1]

        assert ["billing", "waiting", "0", "1", "0", "0", "1", "2100-01-01T00:00:00+00:00", "-"] == row.split()[:9]
        assert row.endswith("ConnectionError: nobody listens")

    def test_without_consumers_it_says_so(self) -> None:
        assert "No consumers.\n" == run("eventstore_consumers", "list")


class TestPause:
    def test_a_paused_consumer_is_delivered_nothing_until_it_is_resumed(
        self, declare: Declare, received: Received
    ) -> None:
        declare(billing={})
        save(1)

        assert "Paused billing.\n" == run("eventstore_consumers", "pause", "billing", "--reason", "strike")
        tick()
        assert [] == received
        assert "strike" == ConsumerState.objects.get().paused_reason

        assert "Resumed billing.\n" == run("eventstore_consumers", "resume", "billing")
        tick()
        assert [("billing", 1)] == received

    def test_resume_ends_the_wait_for_a_sender(self, declare: Declare, received: Received) -> None:
        declare(billing={"OPTIONS": {"unavailable": True}})
        save(1)
        tick()
        ConsumerState.objects.update(retry_at="2100-01-01T00:00:00Z")
        declare(billing={})

        run("eventstore_consumers", "resume", "billing")
        tick()

        assert [("billing", 1)] == received


@pytest.mark.parametrize(
    "arguments", [("pause",), ("resume",), ("move", "--to-end"), ("partition", "2")], ids=lambda given: given[0]
)
def test_an_unknown_consumer_is_refused_with_the_known_ones(declare: Declare, arguments: tuple[str, ...]) -> None:
    declare(billing={})
    action, *rest = arguments

    with pytest.raises(CommandError, match=r"No consumer 'biling' is declared\. Declared: billing"):
        run("eventstore_consumers", action, "biling", *rest)
    assert not ConsumerState.objects.exists()


class TestMove:
    def test_back_to_the_beginning_delivers_again(self, declare: Declare, received: Received) -> None:
        declare(billing={})
        save(1, 2)
        tick()

        assert "Moved billing from offset 2 to 0.\n" == run("eventstore_consumers", "move", "billing", "--to-beginning")
        tick()

        assert [("billing", number) for number in (1, 2, 1, 2)] == received

    def test_to_an_offset_and_to_the_end_passes_events_by(self, declare: Declare, received: Received) -> None:
        declare(billing={})
        save(1, 2, 3, 4)
        EventStore().get()

        run("eventstore_consumers", "move", "billing", "--to", "1")
        assert 1 == offset()
        assert "Moved billing from offset 1 to 4.\n" == run("eventstore_consumers", "move", "billing", "--to-end")
        save(5)
        tick()

        assert [("billing", 5)] == received

    def test_to_a_time_begins_with_the_first_event_of_it(self, declare: Declare, received: Received) -> None:
        declare(billing={})
        save(1)
        (second,) = save(2)
        save(3)
        tick()
        received.clear()

        run("eventstore_consumers", "move", "billing", "--to-time", second.timestamp.isoformat())
        tick()

        assert [("billing", 2), ("billing", 3)] == received

    @pytest.mark.parametrize(
        "where, message",
        [
            (("--to", "3"), "between 0 and the head, 2; got 3"),
            (("--to", "-1"), "between 0 and the head, 2; got -1"),
            (("--to-time", "yesterday"), "takes a time like"),
            ((), "required"),
            (("--to-end", "--to", "1"), "not allowed with"),
        ],
        ids=["above the head", "negative", "no time", "nowhere", "two places"],
    )
    def test_a_place_that_is_none_is_refused(self, declare: Declare, where: tuple[str, ...], message: str) -> None:
        declare(billing={})
        save(1, 2)
        tick()

        with pytest.raises(CommandError, match=message):
            run("eventstore_consumers", "move", "billing", *where)
        assert 2 == offset()

    def test_what_had_failed_behind_the_new_offset_is_forgotten_and_comes_again(
        self, failing: None, received: Received
    ) -> None:
        MENDED.add(3)

        run("eventstore_consumers", "move", "billing", "--to", "2")
        assert not FailedDelivery.objects.exists()
        tick()

        assert [("billing", number) for number in (1, 2, 5, 3, 4, 5)] == received


class TestPartition:
    def test_it_divides_the_consumer_and_the_list_shows_it(self, declare: Declare, received: Received) -> None:
        declare(billing={})
        for number in range(20):
            save(number, stream=f"order-{number}")
        tick()

        assert "Partitions of billing: 4.\n" == run("eventstore_consumers", "partition", "billing", "4")
        save(20, stream="order-20")
        tick()

        assert [("billing", number) for number in range(21)] == received
        assert "4" == run("eventstore_consumers", "list").splitlines()[1].split()[3]
        with pytest.raises(CommandError, match="1 to 64 partitions, not 65"):
            run("eventstore_consumers", "partition", "billing", "65")


class TestRename:
    def test_the_new_name_goes_on_where_the_old_one_stood(
        self, failing: None, declare: Declare, received: Received
    ) -> None:
        received.clear()
        save(6, stream="order-8")
        EventStore().get()
        declare(invoicing={"EVENTS": ["test.Counted"], "START": "now"})  # and begins at the head, as migrate has it

        output = run("eventstore_consumers", "rename", "billing", "invoicing")
        time_passes()
        tick()

        assert "Renamed billing to invoicing, at offset 6, with 1 failed deliveries.\n" == output
        assert [("invoicing", number) for number in (3, 4, 6)] == received
        assert set() == stored("billing")
        assert 7 == offset("invoicing")

    def test_it_takes_partitions_slots_and_the_pause_along(self, declare: Declare, received: Received) -> None:
        declare(billing={})
        for number in range(40):
            save(number, stream=f"order-{number * 13}")
        tick()
        run("eventstore_consumers", "partition", "billing", "2")
        for number in range(40, 60):
            save(number, stream=f"order-{number * 13}")
        EventForwarder("billing").loops(2)[0].run(most_events=1_000, longest=timedelta(seconds=20))
        run("eventstore_consumers", "partition", "billing", "1")  # now some slots are ahead of the others
        assert "SlotOffset" in stored("billing")
        run("eventstore_consumers", "pause", "billing", "--reason", "moving house")
        declare(invoicing={})

        run("eventstore_consumers", "rename", "billing", "invoicing")
        tick()
        assert 40 < len(received) < 60
        assert "moving house" == ConsumerState.objects.get(pk="invoicing").paused_reason
        run("eventstore_consumers", "resume", "invoicing")
        tick()

        assert sorted(number for _, number in received) == list(range(60))

    def test_a_pause_of_the_new_one_stays(self, declare: Declare) -> None:
        declare(billing={})
        save(1)
        tick()
        declare(invoicing={})
        run("eventstore_consumers", "pause", "invoicing", "--reason", "wait for the rename")

        run("eventstore_consumers", "rename", "billing", "invoicing")

        assert "wait for the rename" == ConsumerState.objects.get(pk="invoicing").paused_reason

    def test_a_consumer_that_no_worker_has_held_can_be_renamed(self, declare: Declare, received: Received) -> None:
        declare(billing={})
        declare(invoicing={"START": "now"})
        save(1)

        run("eventstore_consumers", "rename", "billing", "invoicing")
        tick()

        assert [("invoicing", 1)] == received

    def test_webhook_endpoints_go_along(self, declare: Declare, received: Received) -> None:
        declare(billing={})
        save(1)
        tick()
        Endpoint.objects.create(consumer="billing", url="https://example.com/", secret="", offset=0)
        declare(invoicing={})

        run("eventstore_consumers", "rename", "billing", "invoicing")

        assert [("invoicing", 0)] == list(Endpoint.objects.values_list("consumer", "offset"))

    def test_a_new_one_that_has_been_at_work_is_refused_until_it_may_repeat(
        self, declare: Declare, received: Received
    ) -> None:
        declare(billing={})
        save(1)
        tick()
        declare(invoicing={"START": 1})
        save(2, 3)
        EventForwarder("invoicing").get_and_send()

        with pytest.raises(CommandError, match=r"stands at offset 3, 'billing' at 1\..* --again"):
            run("eventstore_consumers", "rename", "billing", "invoicing")
        assert (1, 3) == (offset("billing"), offset("invoicing"))
        run("eventstore_consumers", "rename", "billing", "invoicing", "--again")
        tick()

        assert [("invoicing", number) for number in (2, 3, 2, 3)] == received[1:]

    def test_a_worker_of_the_new_name_in_the_middle_of_its_work_is_fenced(self, declare: Declare) -> None:
        declare(billing={})
        save(1)
        tick()
        declare(invoicing={})
        tenure = acquire("invoicing", using="default", length=timedelta(seconds=60))
        assert tenure is not None

        run("eventstore_consumers", "rename", "billing", "invoicing")

        newer = acquire("invoicing", using="default", length=timedelta(seconds=60))
        assert newer is not None
        assert newer.token > tenure.token + 1
        assert Lease.objects.get().token == newer.token

    def test_the_next_worker_knows_that_the_last_one_may_have_died(self, declare: Declare) -> None:
        declare(billing={})
        assert acquire("billing", using="default", length=timedelta(seconds=60)) is not None
        Lease.objects.update(expires_at=LONG_AGO)
        declare(invoicing={})

        run("eventstore_consumers", "rename", "billing", "invoicing")

        tenure = acquire("invoicing", using="default", length=timedelta(seconds=60))
        assert tenure is not None
        assert tenure.follows_dead

    def test_what_was_decided_keeps_the_name_it_was_decided_under(self, failing: None, declare: Declare) -> None:
        MENDED.add(3)
        retry(FailedDelivery.objects.all(), by="ann")
        tick()
        declare(invoicing={})

        run("eventstore_consumers", "rename", "billing", "invoicing")

        assert ["billing"] == list(DeliveryDecision.objects.values_list("consumer", flat=True))

    def test_a_declared_an_unknown_and_a_held_one_are_refused(self, declare: Declare) -> None:
        declare(billing={}, mail={})

        with pytest.raises(CommandError, match="'billing' is declared: it is in use"):
            run("eventstore_consumers", "rename", "billing", "mail")
        with pytest.raises(CommandError, match="Nothing is stored of a consumer 'biling'"):
            run("eventstore_consumers", "rename", "biling", "mail")
        declare(mail={})
        with pytest.raises(CommandError, match="No consumer 'male' is declared"):
            run("eventstore_consumers", "rename", "billing", "male")
        tenure = acquire("billing", using="default", length=timedelta(seconds=60))
        assert tenure is not None
        with pytest.raises(CommandError, match=r"held by the worker .+ Stop that worker first"):
            run("eventstore_consumers", "rename", "billing", "mail")
        assert "ConsumerOffset" in stored("billing")
        tenure.release()
        run("eventstore_consumers", "rename", "billing", "mail")
        assert set() == stored("billing")


class TestRetire:
    def test_nothing_is_left_but_what_was_decided(self, failing: None, declare: Declare) -> None:
        retry(FailedDelivery.objects.all(), by="ann")
        tick()
        declare(mail={})

        output = run("eventstore_consumers", "retire", "billing", "--yes")

        assert "Retired billing at offset 6, with 1 failed deliveries.\n" == output
        assert set() == stored("billing")
        assert {"ConsumerOffset"} == stored("mail")
        assert ["retry"] == list(DeliveryDecision.objects.values_list("decision", flat=True))

    def test_it_asks_first(self, declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
        declare(billing={})
        declare(mail={})
        for answer in ("", "n", "billing"):
            monkeypatch.setattr("builtins.input", lambda answer=answer: answer)
            with pytest.raises(CommandError, match="Nothing was done"):
                run("eventstore_consumers", "retire", "billing")
        assert {"ConsumerOffset"} == stored("billing")
        monkeypatch.setattr("builtins.input", lambda: "y")

        assert "Forget the offset of billing" in run("eventstore_consumers", "retire", "billing")
        assert set() == stored("billing")

    def test_a_declared_an_unknown_and_a_held_one_are_refused(self, declare: Declare) -> None:
        declare(billing={})
        for name, message in (("billing", "is declared"), ("biling", "Nothing is stored")):
            with pytest.raises(CommandError, match=message):
                run("eventstore_consumers", "retire", name, "--yes")
        declare(mail={})
        tenure = acquire("billing", using="default", length=timedelta(seconds=60))
        assert tenure is not None
        with pytest.raises(CommandError, match="held by the worker"):
            run("eventstore_consumers", "retire", "billing", "--yes")
        tenure.release()
        run("eventstore_consumers", "retire", "billing", "--yes")
        assert ["mail"] == list(declared_consumers())

    @pytest.mark.django_db(transaction=True, databases=["default", "other"])
    def test_it_looks_at_the_named_database_only(self, declare: Declare) -> None:
        declare(billing={})
        OffsetStore("other").register(declared_consumers().values())
        declare(mail={})

        run("eventstore_consumers", "retire", "billing", "--yes", "--database", "other")

        assert {"ConsumerOffset"} == stored("billing")
        assert not ConsumerOffset.objects.using("other").filter(consumer="billing").exists()


class TestForgetKeys:
    def test_older_keys_are_removed(self) -> None:
        with transaction.atomic():
            once("old"), once("new")
        InboxKey.objects.filter(key="old").update(at="2020-01-01T00:00:00Z")

        assert "Removed 1 keys.\n" == run("eventstore_consumers", "forget-keys", "--days", "30")
        assert ["new"] == list(InboxKey.objects.values_list("key", flat=True))
        with pytest.raises(CommandError, match="0 or more"):
            run("eventstore_consumers", "forget-keys", "--days=-1")
