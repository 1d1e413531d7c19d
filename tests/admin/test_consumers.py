from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from django_eventstore import EventStore, record
from django_eventstore.consumers import OffsetStore, declared_consumers, pause
from django_eventstore.models import ConsumerState, FailedDelivery
from tests.permissions import permit

pytestmark = pytest.mark.django_db

LIST = "/admin/django_eventstore/consumerstate/"
SENDER = "django_eventstore.senders.HandlerSender"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _declared(settings: Any) -> None:
    names = ("billing", "mail/it")
    settings.EVENTSTORE = {
        "CREATE_BEAT_SCHEDULE": False,
        "CONSUMERS": {name: {"SENDER": SENDER, "START": "beginning", "EVENTS": ["a.*"]} for name in names},
    }
    OffsetStore().register(declared_consumers().values())


def row_of(response: Any, name: str) -> list[str]:
    """The cells of a consumer's row, as text."""
    rows = re.findall(r"<tr>(.*?)</tr>", response.content.decode(), re.DOTALL)
    (row,) = [row for row in rows if f">{name}</a>" in row]
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)]


def detail_url(response: Any, name: str) -> str:
    match = re.search(rf'<a href="([^"]+)">{name}</a>', response.content.decode())
    assert match is not None
    return match[1]


@pytest.fixture
def operator() -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    permit(user, "view_consumerstate", "change_consumerstate")
    client = Client()
    client.force_login(user)
    return client


def test_declared_consumers_are_listed_with_their_lag_before_they_have_a_row(viewer: Client) -> None:
    for number in range(3):
        record("a.B", {"n": number})
        record("c.D", {"n": number})
    EventStore().get()
    assert not ConsumerState.objects.exists()

    name, state, reason, offset, lag, *_ = row_of(viewer.get(LIST), "billing")

    assert ("billing", "running", "", "0") == (name, state, reason, offset)
    assert re.fullmatch(r"3 events, \d+ s", lag)


def test_a_waiting_consumer_shows_what_it_waits_for(viewer: Client) -> None:
    ConsumerState.objects.create(
        consumer="billing",
        waiting_since=timezone.now(),
        attempts=3,
        error=f"Traceback\n  in {HOSTILE}\nValueError: {HOSTILE}",
        retry_at=timezone.now() + timedelta(hours=1),
    )

    response = viewer.get(LIST)
    detail = viewer.get(detail_url(response, "billing"))

    name, state, reason, _, _, partitions, blocked, parked, since, attempts, retry = row_of(response, "billing")
    assert ("billing", "waiting", "1", "0", "0", "3") == (name, state, partitions, blocked, parked, attempts)
    assert "ValueError" in reason
    assert since
    assert retry
    for page in (response, detail):
        text = page.content.decode()
        assert "&lt;script&gt;alert(1)" in text
        assert HOSTILE not in text
    assert "<pre>Traceback\n" in detail.content.decode()


def test_failed_events_are_counted_with_links_to_them(viewer: Client) -> None:
    for position, state in ((1, "blocked"), (2, "blocked"), (3, "parked"), (4, "trying")):
        FailedDelivery.objects.create(
            consumer="mail/it", position=position, slot=0, event_id=uuid4(), type="a.B", state=state, blocking=False
        )

    response = viewer.get(LIST)

    _, state, reason, _, _, _, blocked, parked, since, *_ = row_of(response, "mail/it")
    assert ("running", "2 streams blocked, 1 parked", "2", "1", "") == (state, reason, blocked, parked, since)
    link = re.search(r'<a href="([^"]+)">2</a>', response.content.decode())
    assert link is not None
    failures = viewer.get(html.unescape(link[1]))
    assert 2 == len(re.findall(r'<td class="field-consumer[^"]*">mail/it</td>', failures.content.decode()))
    detail = viewer.get(detail_url(response, "mail/it")).content.decode()
    for field, value in (("blocked", "2"), ("parked", "1"), ("partitions", "1")):
        assert re.search(rf'field-{field}.*?<div class="readonly">{value}</div>', detail, re.DOTALL), field


def test_who_may_not_see_failed_deliveries_gets_no_link_to_them(operator: Client) -> None:
    assert "faileddelivery" not in operator.get(LIST).content.decode()
    assert 403 == operator.get("/admin/django_eventstore/faileddelivery/").status_code


def test_every_listed_consumer_has_a_page(viewer: Client) -> None:
    response = viewer.get(LIST)

    for name in ("billing", "mail/it"):
        page = viewer.get(detail_url(response, name))
        assert 200 == page.status_code
        assert name in page.content.decode()
        assert "_save" not in page.content.decode()
    assert 302 == viewer.get(f"{LIST}nobody/change/").status_code


def test_an_operator_pauses_and_resumes_and_it_is_logged(operator: Client) -> None:
    paused = operator.post(LIST, {"action": "pause", "consumer": ["billing"], "reason": f"{HOSTILE}\0"}, follow=True)

    row = ConsumerState.objects.get()
    assert ("billing", HOSTILE) == (row.consumer, row.paused_reason)
    assert row.paused_at is not None
    assert "paused" == row_of(paused, "billing")[2]
    assert HOSTILE not in paused.content.decode()
    resumed = operator.post(LIST, {"action": "resume", "consumer": ["billing", "mail/it"]}, follow=True)
    row.refresh_from_db()
    assert (None, "") == (row.paused_at, row.paused_reason)
    assert "running" == row_of(resumed, "billing")[2]
    entries = LogEntry.objects.order_by("id").values_list("user__username", "object_id", "change_message")
    assert [
        ("operator", "billing", f"Paused: {HOSTILE}"),
        ("operator", "billing", "Resumed"),
        ("operator", "mail/it", "Resumed"),
    ] == list(entries)


def test_a_pause_without_a_reason_names_who_did_it(operator: Client) -> None:
    operator.post(LIST, {"action": "pause", "consumer": ["billing"]})

    assert "by operator" == ConsumerState.objects.get().paused_reason


@pytest.mark.parametrize(
    "data",
    [
        {"action": "delete", "consumer": ["billing"]},
        {"action": "delete_selected", "_selected_action": ["billing"], "post": "yes"},
        {"action": "pause"},
        {"action": "pause", "consumer": ["billing", "nobody"]},
        {"consumer": ["billing"]},
    ],
)
def test_what_is_not_understood_does_nothing(operator: Client, data: dict[str, Any]) -> None:
    response = operator.post(LIST, data, follow=True)

    assert 200 == response.status_code
    assert "Choose consumers" in response.content.decode()
    assert not ConsumerState.objects.exists()
    assert not LogEntry.objects.exists()


def test_viewers_may_not_pause(viewer: Client) -> None:
    text = viewer.get(LIST).content.decode()

    assert 403 == viewer.post(LIST, {"action": "pause", "consumer": ["billing"]}).status_code
    assert not ConsumerState.objects.exists()
    assert 'value="pause"' not in text
    assert 'type="checkbox"' not in text


def test_a_request_from_another_site_is_refused(superuser: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)

    assert 403 == client.post(LIST, {"action": "pause", "consumer": ["billing"]}).status_code
    assert not ConsumerState.objects.exists()


def test_rows_are_not_edited_by_hand(client: Client) -> None:
    pause("billing", reason="mine", using="default")
    before = list(ConsumerState.objects.values())
    row = {"consumer": "billing", "paused_reason": "forged", "attempts": "0", "_save": "Save"}

    assert [403, 403, 403] == [
        client.post(f"{LIST}{path}", row).status_code for path in ("add/", "billing/change/", "billing/delete/")
    ]
    assert before == list(ConsumerState.objects.values())


def test_staff_without_the_permission_see_nothing() -> None:
    client = Client()
    client.force_login(User.objects.create_user("stranger", is_staff=True))

    assert 403 == client.get(LIST).status_code
    assert 403 == client.post(LIST, {"action": "pause", "consumer": ["billing"]}).status_code
    assert 302 == Client().get(LIST).status_code


@pytest.mark.parametrize("page", ["list", "detail"])
def test_pages_hold_no_inline_script_or_style(operator: Client, page: str) -> None:
    text = operator.get(LIST if page == "list" else f"{LIST}billing/change/").content.decode()

    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)
