"""The endpoints of webhooks in the admin."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from django_eventstore.models import ConsumerOffset, Endpoint, EndpointAttempt
from django_eventstore.webhooks import vault
from django_eventstore.webhooks.signing import new_secret
from django_eventstore.webhooks.vault import decrypt, encrypt
from tests.permissions import permit
from tests.webhooks.receiver import Receiver, receiving, refusing

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]

LIST = "/admin/django_eventstore/endpoint/"
ADD = f"{LIST}add/"
SENDER = "django_eventstore.webhooks.WebhookSender"
HOSTILE = "<script>alert(1)</script>"
GIVEN = {"consumer": "webhooks", "url": "https://example.com/in", "events": "orders.*\nx.Y", "description": "Till"}


@pytest.fixture(autouse=True)
def _declared(settings: Any) -> None:
    options = {"allow_http": True, "allow_private": True, "ports": range(1, 65_536)}
    settings.EVENTSTORE = {
        "CREATE_BEAT_SCHEDULE": False,
        "CONSUMERS": {
            "webhooks": {"SENDER": SENDER, "OPTIONS": options},
            "strict": {"SENDER": SENDER},
            "others": {"SENDER": "django_eventstore.senders.HandlerSender", "OPTIONS": {"handlers": ()}},
        },
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def operator() -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    wanted = ["view_endpoint", "add_endpoint", "change_endpoint", "delete_endpoint"]
    permit(user, *wanted)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint.objects.create(url="https://example.com/in", secret=encrypt(new_secret()))


def change(endpoint: Endpoint) -> str:
    return f"{LIST}{endpoint.pk}/change/"


def operate(endpoint: Endpoint, name: str) -> str:
    return f"{LIST}{endpoint.pk}/operate/{name}/"


def secret_in(response: Any) -> str:
    match = re.search(r'<pre id="secret">(whsec_[^<]+)</pre>', response.content.decode())
    assert match is not None
    return match[1]


def test_a_secret_is_shown_once_when_an_endpoint_is_registered(operator: Client) -> None:
    response = operator.post(ADD, GIVEN)
    endpoint = Endpoint.objects.get()
    secret = secret_in(response)
    assert decrypt(endpoint.secret) == secret
    assert "no-store" in response["Cache-Control"]
    assert ("webhooks", "https://example.com/in", ("orders.*", "x.Y"), "Till") == (
        endpoint.consumer,
        endpoint.url,
        endpoint.patterns,
        endpoint.description,
    )
    for page in (LIST, change(endpoint)):
        assert secret not in operator.get(page).content.decode()
        assert endpoint.secret not in operator.get(page).content.decode()
    assert secret not in str(list(LogEntry.objects.values_list("object_repr", "change_message")))


def test_a_new_endpoint_begins_after_the_offset_of_its_consumer(operator: Client) -> None:
    ConsumerOffset.objects.create(consumer="webhooks", offset=7, epoch=1, token=1)
    operator.post(ADD, GIVEN)
    assert [(7, 1)] == list(Endpoint.objects.values_list("offset", "epoch"))


def test_who_sends_by_what_an_endpoint_was_has_no_claim_once_it_is_changed(
    operator: Client, endpoint: Endpoint
) -> None:
    """It would pass over what is wanted only now."""
    until = timezone.now() + timedelta(hours=1)
    Endpoint.objects.update(offset=3, epoch=1, claim=7, claimed_until=until)
    operator.post(change(endpoint), {**GIVEN, "events": "others.*"})
    endpoint.refresh_from_db()
    assert ("others.*", 3, 0, None) == (endpoint.events, endpoint.offset, endpoint.claim, endpoint.claimed_until)


def test_what_cannot_be_done_any_more_is_said(operator: Client, endpoint: Endpoint, monkeypatch: Any) -> None:
    Endpoint.objects.update(consumer="others")
    assert "sends no webhooks" in operator.post(operate(endpoint, "test")).content.decode()
    monkeypatch.setattr(vault, "fernet", None)
    assert "pip install" in operator.post(operate(endpoint, "rotate"), {"hours": 1}).content.decode()


@pytest.mark.parametrize(
    "changed, error",
    [
        ({"url": "javascript:alert(1)"}, "begins with"),
        ({"url": "javascript://example.com/%0aalert(1)"}, "begins with"),
        ({"url": "data:text/html,x"}, "begins with"),
        ({"url": "https://user:password@example.com/"}, "user name"),
        ({"consumer": "strict", "url": "http://example.com/"}, "Only https"),
        ({"consumer": "strict", "url": "https://example.com:8443/"}, "Port 8443"),
        ({"consumer": "others"}, "valid choice"),
        ({"events": "orders"}, "selects no events"),
        ({"events": " "}, "required"),
    ],
)
def test_what_is_not_allowed_is_not_registered(operator: Client, changed: dict[str, str], error: str) -> None:
    response = operator.post(ADD, {**GIVEN, **changed})
    assert error in html.unescape(response.content.decode())
    assert not Endpoint.objects.exists()


def test_without_the_extra_the_form_says_what_to_install(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "fernet", None)
    assert "django-eventstore[webhooks]" in html.unescape(operator.post(ADD, GIVEN).content.decode())
    assert not Endpoint.objects.exists()


def test_what_is_changed_leaves_alone_how_far_the_endpoint_is(operator: Client, endpoint: Endpoint) -> None:
    given = {"url": "https://example.com/new", "events": "*", "description": "New"}
    forged = {"consumer": "strict", "offset": "0", "active": "", "secret": "x", "attempts": "7"}
    response = operator.post(change(endpoint), {**given, **forged})
    assert 302 == response.status_code
    now = Endpoint.objects.get()
    assert ("https://example.com/new", "*", "New") == (now.url, now.events, now.description)
    kept = ("consumer", "offset", "active", "secret", "attempts")
    assert [getattr(endpoint, name) for name in kept] == [getattr(now, name) for name in kept]


def test_a_url_that_is_not_allowed_is_not_changed_to(operator: Client, endpoint: Endpoint) -> None:
    Endpoint.objects.update(consumer="strict")
    response = operator.post(change(endpoint), {"url": "http://example.com/", "events": "*", "description": ""})
    assert "Only https" in response.content.decode()
    Endpoint.objects.update(consumer="gone")
    response = operator.post(change(endpoint), {"url": "https://example.com/", "events": "*", "description": ""})
    assert "No consumer &#x27;gone&#x27;" in response.content.decode()
    Endpoint.objects.update(consumer="others")
    response = operator.post(change(endpoint), {"url": "https://example.com/", "events": "*", "description": ""})
    assert "sends no webhooks" in response.content.decode()


def test_a_new_secret_is_shown_once_and_the_old_one_signs_for_the_hours_given(
    operator: Client, endpoint: Endpoint
) -> None:
    response = operator.post(operate(endpoint, "rotate"), {"hours": "3"})
    now = Endpoint.objects.get()
    assert decrypt(now.secret) == secret_in(response)
    assert decrypt(endpoint.secret) == decrypt(now.previous_secret)
    assert "no-store" in response["Cache-Control"]
    assert 3 == round((now.previous_until - timezone.now()).total_seconds() / 3_600)
    assert ["rotate {'hours': 3}"] == list(LogEntry.objects.values_list("change_message", flat=True))


def test_a_test_event_says_what_came_of_it(operator: Client, receiver: Receiver, endpoint: Endpoint) -> None:
    Endpoint.objects.update(url=receiver.url("/in"))
    response = operator.post(operate(endpoint, "test"), follow=True)
    assert "It was accepted: 204" in response.content.decode()
    receiver.answers["/in"] = refusing(500)
    response = operator.post(operate(endpoint, "test"), follow=True)
    assert "The answer is 500." in response.content.decode()
    assert [204, 500] == list(EndpointAttempt.objects.order_by("id").values_list("status", flat=True))
    assert ["webhooks.Test"] * 2 == [request.event["type"] for request in receiver.seen]


def test_an_endpoint_is_disabled_enabled_replayed_and_skipped(operator: Client, endpoint: Endpoint) -> None:
    operator.post(operate(endpoint, "disable"), {"reason": "moving"})
    now = Endpoint.objects.get()
    assert (False, "moving", 0) == (now.active, now.disabled_reason, now.offset)
    assert "disabled" in operator.get(LIST).content.decode()
    operator.post(operate(endpoint, "enable"), {"missed": "on"})
    assert (True, 0) == (Endpoint.objects.get().active, Endpoint.objects.get().offset)
    operator.post(operate(endpoint, "enable"), {})
    assert Endpoint.objects.get().offset is None
    operator.post(operate(endpoint, "replay"), {"offset": "0"})
    assert 0 == Endpoint.objects.get().offset
    response = operator.post(operate(endpoint, "replay"), {"offset": "99"})
    assert "from 0 to 0" in response.content.decode()
    response = operator.post(operate(endpoint, "skip"), follow=True)
    assert "nothing to skip" in response.content.decode()
    operator.post(operate(endpoint, "disable"))
    assert "by operator" == Endpoint.objects.get().disabled_reason


def test_only_what_suits_the_endpoint_is_offered(operator: Client, endpoint: Endpoint) -> None:
    def offered() -> set[str]:
        return set(re.findall(r"/operate/(\w+)/", operator.get(change(endpoint)).content.decode()))

    assert {"test", "rotate", "disable", "replay"} == offered()
    Endpoint.objects.update(attempts=1, offset=0)
    assert {"test", "rotate", "disable", "replay", "skip"} == offered()
    Endpoint.objects.update(active=False)
    assert {"test", "rotate", "enable", "replay"} == offered()


def test_the_last_attempts_are_shown_and_nothing_in_them_is_markup(viewer: Client, endpoint: Endpoint) -> None:
    Endpoint.objects.update(problem=HOSTILE, disabled_reason=HOSTILE, attempts=3, description=HOSTILE)
    common = {"endpoint": endpoint, "type": "a.B", "at": timezone.now(), "event_id": "0" * 32}
    EndpointAttempt.objects.create(**common, position=17, status=503, milliseconds=1_234, problem=HOSTILE)
    EndpointAttempt.objects.create(**common, position=18, status=None, milliseconds=9_876, problem="TimeoutError")
    for page in (LIST, change(endpoint)):
        content = viewer.get(page).content.decode()
        assert HOSTILE not in content
        assert html.escape(HOSTILE) in content
        assert "failing" in content
    content = viewer.get(change(endpoint)).content.decode()
    assert all(text in content for text in ("503", "1234 ms", "TimeoutError", "9876 ms"))


def test_a_url_is_never_a_link(operator: Client, endpoint: Endpoint) -> None:
    Endpoint.objects.update(url="javascript:alert(1)")  # written past the forms
    for page in (LIST, change(endpoint), operate(endpoint, "test")):
        assert 'href="javascript' not in operator.get(page).content.decode()


def test_who_may_only_look_changes_nothing_by_forged_requests(viewer: Client, endpoint: Endpoint) -> None:
    before = Endpoint.objects.values().get()
    assert 200 == viewer.get(LIST).status_code
    assert 200 == viewer.get(change(endpoint)).status_code
    assert "/operate/" not in viewer.get(change(endpoint)).content.decode()
    for name in ("test", "rotate", "disable", "enable", "replay", "skip"):
        for method in (viewer.get, viewer.post):
            assert 403 == method(operate(endpoint, name), {"hours": "0", "offset": "0"}).status_code
    assert 403 == viewer.post(ADD, GIVEN).status_code
    assert 403 == viewer.get(ADD).status_code
    assert 403 == viewer.post(change(endpoint), GIVEN).status_code
    assert 403 == viewer.post(f"{LIST}{endpoint.pk}/delete/", {"post": "yes"}).status_code
    edited = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "0", "form-0-url": "https://x.example/", "_save": "Save"}
    viewer.post(LIST, edited)
    viewer.post(LIST, {"action": "delete_selected", "_selected_action": str(endpoint.pk), "post": "yes"})
    assert before == Endpoint.objects.values().get()


def test_nothing_is_done_by_get_and_what_is_unknown_is_not_found(operator: Client, endpoint: Endpoint) -> None:
    before = Endpoint.objects.values().get()
    for name in ("test", "rotate", "disable", "enable", "replay", "skip"):
        assert 200 == operator.get(operate(endpoint, name), {"hours": "0"}).status_code
    assert before == Endpoint.objects.values().get()
    assert 404 == operator.post(operate(endpoint, "unknown")).status_code
    assert 404 == operator.post(operate(Endpoint(pk=999), "test")).status_code


def test_requests_without_the_token_of_the_form_are_refused(superuser: User, endpoint: Endpoint) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)
    assert 403 == client.post(operate(endpoint, "rotate"), {"hours": "0"}).status_code
    assert "" == Endpoint.objects.get().previous_secret


def test_other_lookups_by_the_query_string_are_refused(operator: Client, endpoint: Endpoint) -> None:
    assert 200 == operator.get(LIST, {"active__exact": "1"}).status_code
    assert 400 == operator.get(LIST, {"secret__startswith": "g"}).status_code
    assert 200 == operator.get(LIST, {"q": "example"}).status_code


def test_an_endpoint_is_deleted_with_its_attempts(operator: Client, endpoint: Endpoint) -> None:
    EndpointAttempt.objects.create(
        endpoint=endpoint, type="a.B", at=timezone.now(), event_id="0" * 32, milliseconds=1, status=200
    )
    operator.post(f"{LIST}{endpoint.pk}/delete/", {"post": "yes"})
    assert not Endpoint.objects.exists()
    assert not EndpointAttempt.objects.exists()


@pytest.mark.parametrize("page", ["list", "add", "change", "operate"])
def test_pages_hold_no_inline_script_or_style(operator: Client, endpoint: Endpoint, page: str) -> None:
    url = {"list": LIST, "add": ADD, "change": change(endpoint), "operate": operate(endpoint, "rotate")}[page]
    content = operator.get(url).content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", content)
    assert not re.search(r"<style|\sstyle=|\son\w+=", content)
