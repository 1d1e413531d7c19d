from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from django_eventstore import EventForwarder, EventStore, record
from django_eventstore.admin.decisions import DeliveryDecisionAdmin
from django_eventstore.consumers import OffsetStore, declared_consumers, pause
from django_eventstore.models import DeliveryDecision, EventEntry, FailedDelivery
from tests.api.statements import captured_statements
from tests.inspection.senders import MENDED, RECEIVED
from tests.permissions import permit

pytestmark = pytest.mark.django_db

LIST = "/admin/django_eventstore/faileddelivery/"
DECISIONS = "/admin/django_eventstore/deliverydecision/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
EDITED = {"payload": '{"n": 22}', "reason": "typo"}


def declare(settings: Any, *names: str) -> None:
    sender = {"SENDER": "tests.inspection.senders.Recorder", "OPTIONS": {"fails_at": (2, 3)}}
    settings.EVENTSTORE = {
        "CREATE_BEAT_SCHEDULE": False,
        "CONSUMERS": {name: {**sender, "START": "beginning"} for name in names},
    }


@pytest.fixture(autouse=True)
def failing(settings: Any) -> Iterator[None]:
    """``billing`` has put aside 2, behind which 22 waits, of order-2, and 3, of no stream; mail the same."""
    RECEIVED.clear(), MENDED.clear()
    declare(settings, "billing", "mail")
    OffsetStore().register(declared_consumers().values())
    record("a.B", {"n": 1})
    for number in (2, 20):
        record("a.B", {"n": number}, stream="order-2")
    record("c.D", {"n": 3})
    tick()
    RECEIVED.clear()
    yield
    RECEIVED.clear(), MENDED.clear()


def tick() -> None:
    EventStore().get()
    for name in declared_consumers():
        EventForwarder(name).get_and_send()


def failure(position: int = 2, consumer: str = "billing") -> FailedDelivery:
    return FailedDelivery.objects.get(consumer=consumer, position=position)


def requests() -> dict[tuple[str, int], str]:
    rows = FailedDelivery.objects.exclude(request="").values_list("consumer", "position", "request")
    return {(consumer, position): request for consumer, position, request in rows}


def listed(response: Any) -> list[tuple[str, str]]:
    """(consumer, position) of each row."""
    text = response.content.decode()
    positions = re.findall(r'<th class="field-position"><a [^>]*>(\d+)</a>', text)
    return list(zip(re.findall(r'<td class="field-consumer[^"]*">([^<]*)</td>', text), positions, strict=True))


def hidden(response: Any, name: str) -> str:
    match = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', response.content.decode())
    assert match is not None
    return html.unescape(match[1])


@pytest.fixture
def operator() -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    wanted = ["view_faileddelivery", "change_faileddelivery", "view_evententry", "view_deliverydecision"]
    permit(user, *wanted)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def decider() -> Client:
    """May decide about failed deliveries, and may not see events."""
    user = User.objects.create_user("decider", is_staff=True)
    wanted = ["view_faileddelivery", "change_faileddelivery", "view_deliverydecision"]
    permit(user, *wanted)
    client = Client()
    client.force_login(user)
    return client


def choose(client: Client, action: str, *rows: FailedDelivery, query: str = "", **more: str) -> Any:
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], **more}
    return client.post(LIST + query, data)


def decide(client: Client, decision: str, *rows: FailedDelivery, **form: str) -> Any:
    """Choose rows in the list, and answer the page that asks."""
    page = choose(client, decision, *rows)
    assert 200 == page.status_code
    return client.post(f"{LIST}decide/{decision}/", {"chosen": hidden(page, "chosen"), **form}, follow=True)


class TestList:
    def test_it_shows_what_failed_by_consumer_and_position(self, viewer: Client) -> None:
        response = viewer.get(LIST)

        assert [("billing", "2"), ("billing", "4"), ("mail", "2"), ("mail", "4")] == listed(response)
        text = response.content.decode()
        for expected in ("order-2", "a.B", "c.D", "ValueError: cannot take 2"):
            assert expected in text

    @pytest.mark.parametrize(
        "query, expected",
        [
            ("consumer=mail", [("mail", "2"), ("mail", "4")]),
            ("type=c.D", [("billing", "4"), ("mail", "4")]),
            ("state=parked", [("billing", "4")]),
            ("consumer=billing&state=blocked&type=a.B", [("billing", "2")]),
            ("consumer=nobody", []),
            ("type=%00", []),
            ("q=order-2", [("billing", "2"), ("mail", "2")]),
            ("q=4", [("billing", "4"), ("mail", "4")]),
            ("q=order", []),
            ("q=%00", [("billing", "2"), ("billing", "4"), ("mail", "2"), ("mail", "4")]),
            ("q=9999999999999999999", []),
        ],
    )
    def test_filters_and_search_select(self, viewer: Client, query: str, expected: list[tuple[str, str]]) -> None:
        FailedDelivery.objects.filter(consumer="billing", position=4).update(state="parked")

        assert expected == listed(viewer.get(f"{LIST}?{query}"))

    def test_it_is_found_by_its_event(self, viewer: Client) -> None:
        assert [("billing", "2"), ("mail", "2")] == listed(viewer.get(LIST, {"q": str(failure().event_id)}))

    @pytest.mark.parametrize("lookup", ["error__contains", "edited_payload__regex", "id__gt", "consumer__startswith"])
    def test_no_other_lookup_of_the_query_string_is_run(self, viewer: Client, lookup: str) -> None:
        assert 400 == viewer.get(f"{LIST}?{lookup}=1").status_code

    def test_its_statements_leave_the_log_alone_and_do_not_grow_with_the_rows(self, viewer: Client) -> None:
        with captured_statements() as few:
            viewer.get(LIST)
        for number in range(60):
            FailedDelivery.objects.create(
                consumer="billing",
                position=100 + number,
                slot=0,
                event_id=uuid4(),
                type="a.B",
                state="parked",
                blocking=False,
            )

        with captured_statements() as many:
            assert 64 == len(listed(viewer.get(LIST)))

        assert len(few) == len(many)
        assert not [sql for sql in many if re.search(r"eventstore_(entry|position)\b", sql)]

    def test_what_events_and_errors_say_is_escaped(self, superuser: User, client: Client) -> None:
        FailedDelivery.objects.filter(pk=failure().pk).update(
            error=f"Error\n{HOSTILE}",
            stream=HOSTILE,
            type=HOSTILE,
            requested_reason=HOSTILE,
            request="skip",
            edited_payload=HOSTILE,
        )
        DeliveryDecision.objects.create(
            consumer="billing", position=2, event_id=uuid4(), type=HOSTILE, decision="skip", by=HOSTILE, reason=HOSTILE
        )
        row = failure()

        pages = [
            client.get(LIST),
            client.get(f"{LIST}{row.pk}/change/"),
            client.get(f"{LIST}decide/skip/?failure={row.pk}"),
            client.get(f"{LIST}edit/{row.pk}/"),
            client.get(DECISIONS),
            client.get(f"{DECISIONS}{DeliveryDecision.objects.get().pk}/change/"),
        ]

        for page in pages:
            assert 200 == page.status_code
            text = page.content.decode()
            assert "&lt;script&gt;alert(1)" in text
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert not re.search(r"<script(?![^>]*\bsrc=)", text)
            assert not re.search(r"<style|\sstyle=|\son\w+=\"", text)


class TestDetail:
    def test_it_shows_error_payload_and_what_waits_with_a_link_to_the_event(self, viewer: Client) -> None:
        response = viewer.get(f"{LIST}{failure().pk}/change/")

        text = response.content.decode()
        assert "ValueError: cannot take 2" in text
        assert "<pre>{\n  &quot;n&quot;: 2\n}</pre>" in text
        assert re.search(r'field-queued.*?<div class="readonly">1</div>', text, re.DOTALL)
        link = re.search(r'<a href="([^"]*evententry/\d+/change/)">', text)
        assert link is not None
        assert str(failure().event_id) in viewer.get(link[1]).content.decode()
        assert "decide/" not in text
        assert "_save" not in text

    def test_it_offers_what_the_operator_may_do(self, operator: Client) -> None:
        row = failure()
        text = operator.get(f"{LIST}{row.pk}/change/").content.decode()

        for decision in ("retry", "skip", "discard"):
            assert f"{LIST}decide/{decision}/?failure={row.pk}" in text
        assert f"{LIST}edit/{row.pk}/" in text
        FailedDelivery.objects.update(state="trying")
        assert "decide/" not in operator.get(f"{LIST}{row.pk}/change/").content.decode()

    def test_without_the_permission_for_events_no_payload_is_shown(self, decider: Client) -> None:
        row = failure()
        FailedDelivery.objects.filter(pk=row.pk).update(edited_payload='{"secret": 1}')
        DeliveryDecision.objects.create(
            consumer="billing",
            position=2,
            event_id=uuid4(),
            type="a.B",
            decision="edit",
            edited_payload='{"secret": 1}',
        )

        text = decider.get(f"{LIST}{row.pk}/change/").content.decode()
        decision = decider.get(f"{DECISIONS}{DeliveryDecision.objects.get().pk}/change/").content.decode()

        assert "decide/retry" in text
        for page in (text, decision):
            assert "secret" not in page
            assert "&quot;n&quot;" not in page
            assert "evententry" not in page
        assert "/edit/" not in text
        assert 403 == decider.get(f"{LIST}edit/{row.pk}/").status_code
        assert 403 == decider.post(f"{LIST}edit/{row.pk}/", {**EDITED, "position": 2}).status_code
        assert {} == requests()

    def test_an_event_that_is_gone_is_said_to_be(self, operator: Client) -> None:
        row = failure()
        FailedDelivery.objects.filter(pk=row.pk).update(position=99)

        assert "not in the log any more" in operator.get(f"{LIST}{row.pk}/change/").content.decode()
        assert "not in the log any more" in operator.get(f"{LIST}edit/{row.pk}/", follow=True).content.decode()


class TestDeciding:
    def test_a_retry_is_carried_out_by_the_next_tick_and_logged(self, operator: Client) -> None:
        MENDED.add(2)
        FailedDelivery.objects.update(state="parked", retry_at=None)

        response = decide(operator, "retry", failure(), reason="the price was mended")

        assert "Asked for 1 decision; the next tick carries it out." in response.content.decode()
        assert {("billing", 2): "retry"} == requests()
        tick()
        assert [("billing", 2), ("billing", 20)] == RECEIVED
        decision = DeliveryDecision.objects.get()
        assert ("retry", "operator", "the price was mended") == (decision.decision, decision.by, decision.reason)
        (entry,) = LogEntry.objects.all()
        assert ("operator", "Asked for: retry, because: the price was mended") == (
            entry.user.username,
            entry.change_message,
        )

    def test_several_are_spread_over_seconds(self, operator: Client) -> None:
        decide(operator, "retry", *FailedDelivery.objects.all(), per_second="1")

        moments = sorted(row.retry_at for row in FailedDelivery.objects.all() if row.retry_at is not None)
        assert [0, 1, 2] == [round((each - moments[0]).total_seconds()) for each in moments]
        assert 4 == len(requests())

    def test_skip_passes_over_the_event_alone(self, operator: Client) -> None:
        decide(operator, "skip", failure())
        tick()

        assert ("billing", 20) in RECEIVED
        assert ("billing", 2) not in RECEIVED
        assert "skip" == DeliveryDecision.objects.get().decision

    def test_discard_passes_over_what_waits_too_and_wants_a_reason(self, operator: Client) -> None:
        response = decide(operator, "discard", failure(), reason=" ")
        assert "This field is required" in response.content.decode()
        assert {} == requests()

        decide(operator, "discard", failure(), reason="orders of a bot")
        tick()

        assert [] == [number for consumer, number in RECEIVED if consumer == "billing"]
        assert "orders of a bot" == DeliveryDecision.objects.get().reason

    def test_the_page_asks_with_the_count_and_does_nothing_by_itself(self, operator: Client) -> None:
        page = choose(operator, "skip", *FailedDelivery.objects.filter(consumer="mail"))

        text = page.content.decode()
        assert "2 failed deliveries." in text
        assert "never get these events" in text
        assert "mail, 2: a.B, order-2" in text
        single = operator.get(f"{LIST}decide/skip/?failure={failure().pk}").content.decode()
        assert "1 failed delivery." in single
        assert {} == requests()
        assert not LogEntry.objects.exists()

    def test_all_that_match_the_filters_can_be_chosen(self, operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(150):
            FailedDelivery.objects.create(
                consumer="mail",
                position=100 + number,
                slot=0,
                event_id=uuid4(),
                type="a.B",
                state="parked",
                blocking=False,
            )
        assert 100 == len(listed(operator.get(f"{LIST}?consumer=mail")))

        page = choose(operator, "skip", failure(2, "mail"), query="?consumer=mail", select_across="1")

        assert "152 failed deliveries." in page.content.decode()
        assert "and 132 more" in page.content.decode()
        operator.post(f"{LIST}decide/skip/", {"chosen": hidden(page, "chosen")})
        assert 152 == len(requests())
        assert {"mail"} == {consumer for consumer, _ in requests()}

    def test_the_event_after_the_one_that_was_meant_is_left_alone(self, operator: Client) -> None:
        page = choose(operator, "skip", failure())
        MENDED.add(2)
        FailedDelivery.objects.update(retry_at=None)
        FailedDelivery.objects.filter(consumer="billing", position=2).update(position=3)  # as when 2 was delivered

        response = operator.post(f"{LIST}decide/skip/", {"chosen": hidden(page, "chosen")}, follow=True)

        assert "left alone" in response.content.decode()
        assert {} == requests()

    def test_what_a_worker_has_in_hand_for_the_first_time_is_not_offered(self, operator: Client) -> None:
        FailedDelivery.objects.filter(consumer="mail").update(state="trying")

        page = choose(operator, "skip", *FailedDelivery.objects.all())

        assert "2 failed deliveries." in page.content.decode()
        assert 1 == hidden(page, "chosen").count(",")

    def test_paused_consumers_are_named_and_those_of_nobody_refused(self, operator: Client, settings: Any) -> None:
        pause("billing", reason="strike", using="default")
        row = failure()
        assert "when they are resumed: billing" in choose(operator, "skip", row).content.decode()
        declare(settings, "mail")

        page = choose(operator, "skip", row)

        assert "no worker carries it out: billing" in page.content.decode()
        assert 'type="submit" class="default"' not in page.content.decode()
        operator.post(f"{LIST}decide/skip/", {"chosen": hidden(page, "chosen")})
        operator.post(f"{LIST}edit/{row.pk}/", {**EDITED, "position": row.position})
        assert {} == requests()

    @pytest.mark.parametrize("chosen", ["x", "1", "1:2,", "1:2;3:4", "1:-2", "1:١", f"1:{'9' * 30}"])
    def test_a_list_that_is_none_is_refused(self, operator: Client, chosen: str) -> None:
        assert 400 == operator.post(f"{LIST}decide/skip/", {"chosen": chosen}).status_code

    def test_nothing_chosen_does_nothing(self, operator: Client) -> None:
        response = operator.post(f"{LIST}decide/skip/", {"chosen": ""}, follow=True)
        assert "left alone" in response.content.decode()
        for query in ("", "?failure=x", "?failure=99999999", f"?failure={'9' * 40}"):
            assert "delivered meanwhile" in operator.get(f"{LIST}decide/skip/{query}", follow=True).content.decode()
        assert 404 == operator.get(f"{LIST}decide/delete/?failure=1").status_code
        assert {} == requests()


class TestPermissions:
    def test_viewers_may_not_decide(self, viewer: Client) -> None:
        row = failure()
        text = viewer.get(LIST).content.decode()

        assert 'name="action"' not in text
        assert 403 == choose(viewer, "skip", row).status_code
        for url in ("decide/skip/", f"edit/{row.pk}/"):
            assert 403 == viewer.get(f"{LIST}{url}?failure={row.pk}").status_code
            assert 403 == viewer.post(f"{LIST}{url}", {"chosen": f"{row.pk}:2", **EDITED}).status_code
        assert {} == requests()

    def test_a_request_from_another_site_is_refused(self, superuser: User) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(superuser)
        row = failure()

        assert 403 == client.post(f"{LIST}decide/skip/", {"chosen": f"{row.pk}:2"}).status_code
        assert 403 == client.post(f"{LIST}edit/{row.pk}/", {**EDITED, "position": 2}).status_code
        assert {} == requests()

    def test_rows_are_neither_edited_nor_deleted_by_hand(self, client: Client) -> None:
        row = failure()
        before = list(FailedDelivery.objects.values())

        assert [403, 403, 403] == [
            client.post(f"{LIST}{path}", {"state": "parked", "_save": "Save"}).status_code
            for path in ("add/", f"{row.pk}/change/", f"{row.pk}/delete/")
        ]
        choose(client, "delete_selected", row, post="yes")
        assert before == list(FailedDelivery.objects.values())

    def test_staff_without_a_permission_see_nothing(self) -> None:
        client = Client()
        client.force_login(User.objects.create_user("stranger", is_staff=True))
        row = failure()

        paths = (
            LIST,
            DECISIONS,
            f"{LIST}{row.pk}/change/",
            f"{LIST}decide/skip/?failure={row.pk}",
            f"{LIST}edit/{row.pk}/",
        )
        assert [403] * 5 == [client.get(path).status_code for path in paths]
        assert [302] * 5 == [Client().get(path).status_code for path in paths]


class TestEditing:
    def test_the_edited_payload_is_delivered_and_the_log_stays(self, operator: Client) -> None:
        row = failure()
        page = operator.get(f"{LIST}edit/{row.pk}/")
        assert "{\n  &quot;n&quot;: 2\n}" in page.content.decode()

        operator.post(f"{LIST}edit/{row.pk}/", {**EDITED, "position": hidden(page, "position")})
        assert {("billing", 2): "retry"} == requests()
        tick()

        assert [("billing", 22), ("billing", 20)] == [each for each in RECEIVED if each[0] == "billing"]
        assert '{"n":2}' == EventEntry.objects.get(log_position__position=2).payload
        decision = DeliveryDecision.objects.get()
        assert ("edit", "operator", "typo", '{"n":22}') == (
            decision.decision,
            decision.by,
            decision.reason,
            decision.edited_payload,
        )
        assert "Asked for: edit, because: typo" == LogEntry.objects.get().change_message

    @pytest.mark.parametrize(
        "payload, message",
        [
            ("[1]", "no JSON object: Expected `object`"),
            ("{", "no JSON object"),
            ('{"n": NaN}', "no JSON object"),
            ('{"n": "\\u0000"}', "NUL"),
            ("\0", "Null characters are not allowed"),
            ("", "This field is required"),
        ],
    )
    def test_what_could_not_be_stored_is_refused_with_its_reason(
        self, operator: Client, payload: str, message: str
    ) -> None:
        response = operator.post(f"{LIST}edit/{failure().pk}/", {"payload": payload, "position": 2})

        assert 200 == response.status_code
        assert message in html.unescape(response.content.decode())
        assert {} == requests()
        assert failure().edited_payload is None

    def test_what_the_class_of_the_event_does_not_take_is_refused(self, operator: Client) -> None:
        record("shop.OrderCancelled", {"order_id": 1, "reason": "late", "n": 3})
        tick()
        row = failure(5)

        response = operator.post(
            f"{LIST}edit/{row.pk}/", {"payload": json.dumps({"order_id": HOSTILE, "reason": "late"}), "position": 5}
        )

        text = response.content.decode()
        assert "order_id" in text
        assert "<img src=x" not in text
        assert {} == requests()

    def test_another_event_in_the_place_of_the_one_that_was_read_is_left_alone(self, operator: Client) -> None:
        row = failure()

        response = operator.post(f"{LIST}edit/{row.pk}/", {**EDITED, "position": 1}, follow=True)

        assert "delivered meanwhile" in response.content.decode()
        assert {} == requests()
        assert "delivered meanwhile" in operator.get(f"{LIST}edit/99999999/", follow=True).content.decode()


class TestDecisions:
    def test_they_are_paged_by_key_and_never_counted(self, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(DeliveryDecisionAdmin, "list_per_page", 3)
        made = [
            DeliveryDecision.objects.create(
                consumer="billing",
                position=number,
                event_id=uuid4(),
                type="a.B",
                stream=f"order-{number % 2}",
                decision="skip" if number % 2 else "retry",
            ).position
            for number in range(8)
        ]
        pages, url = [], DECISIONS
        while True:
            with captured_statements() as statements:
                response = viewer.get(url)
            own = [sql for sql in statements if "eventstore_delivery_decision" in sql]
            assert not [sql for sql in own if re.search(r"COUNT\(|OFFSET", sql, re.IGNORECASE)]
            pages.append(positions(response))
            older = link(response, "Older")
            if older is None:
                break
            url = DECISIONS + older

        assert made[::-1] == [position for page in pages for position in page]
        assert pages[-2] == positions(viewer.get(DECISIONS + str(link(response, "Newer"))))
        assert [7, 5, 3] == positions(viewer.get(f"{DECISIONS}?decision=skip"))
        assert [6, 4, 2] == positions(viewer.get(f"{DECISIONS}?q=order-0"))
        assert [5] == positions(viewer.get(f"{DECISIONS}?q=5"))

    def test_nobody_changes_them(self, client: Client) -> None:
        row = DeliveryDecision.objects.create(
            consumer="billing", position=1, event_id=uuid4(), type="a.B", decision="skip", by="ann"
        )

        assert [403, 403, 403] == [
            client.post(f"{DECISIONS}{path}", {"by": "bob", "_save": "Save"}).status_code
            for path in ("add/", f"{row.pk}/change/", f"{row.pk}/delete/")
        ]
        assert 403 == client.post(DECISIONS, {"action": "delete_selected", "_selected_action": [row.pk]}).status_code
        assert "ann" == DeliveryDecision.objects.get().by


def positions(response: Any) -> list[int]:
    return [int(each) for each in re.findall(r'<td class="field-position[^"]*">(\d+)</td>', response.content.decode())]


def link(response: Any, text: str) -> str | None:
    match = re.search(rf'<a href="([^"]*)"[^>]*>{text}</a>', response.content.decode())
    return html.unescape(match[1]) if match else None
