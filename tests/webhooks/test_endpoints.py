"""What is done to endpoints."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.utils import timezone

from django_eventstore import EventForwarder
from django_eventstore.exceptions import UnknownConsumer
from django_eventstore.models import Endpoint, EndpointAttempt
from django_eventstore.webhooks import (
    create_endpoint,
    disable,
    enable,
    replay,
    rotate_secret,
    send_test_event,
    skip,
    vault,
)
from django_eventstore.webhooks.vault import decrypt
from tests.delivery import record_numbers
from tests.webhooks.conftest import SENDER, row
from tests.webhooks.receiver import accept, refusing

pytestmark = pytest.mark.sqlite
OPTIONS = {"allow_http": True, "allow_private": True, "ports": range(1, 65_536)}


@pytest.fixture
def declared(settings):
    settings.EVENTSTORE = {
        "CREATE_BEAT_SCHEDULE": False,
        "CONSUMERS": {
            "webhooks": {"SENDER": SENDER, "OPTIONS": OPTIONS, "START": "beginning"},
            "strict": {"SENDER": SENDER},
            "handlers": {"SENDER": "django_eventstore.senders.HandlerSender", "OPTIONS": {"handlers": ()}},
        },
    }


def test_a_registered_endpoint_gets_events_and_its_secret_is_shown_once(calm, declared):
    endpoint, secret = create_endpoint(calm.receiver.url("/in"), events=["test.*", "x.y"], description="Till")
    assert secret.startswith("whsec_")
    assert secret == decrypt(row(endpoint).secret)
    assert ("test.*", "x.y") == row(endpoint).patterns
    record_numbers(1)
    forwarder = EventForwarder("webhooks")
    forwarder.get_and_send()
    forwarder.sender.close()
    assert [1] == calm.receiver.numbers("/in")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url, events, consumer, field",
    [
        ("https://example.com/", ["*"], "handlers", "consumer"),
        ("http://example.com/", ["*"], "strict", "url"),
        ("https://example.com:8443/", ["*"], "strict", "url"),
        ("javascript:alert(1)", ["*"], "strict", "url"),
        ("javascript://example.com/%0Aalert(1)", ["*"], "strict", "url"),
        ("data:text/html,x", ["*"], "strict", "url"),
        (" https://example.com/", ["*"], "strict", "url"),
        ("https://example.com/\nx", ["*"], "strict", "url"),
        ("https://u:p@example.com/", ["*"], "strict", "url"),
        ("https://example.com/", [], "strict", "events"),
        ("https://example.com/", ["orders"], "strict", "events"),
        ("https://example.com/", ["*.x"], "strict", "events"),
    ],
)
def test_what_is_not_allowed_is_refused_where_it_is_registered(declared, url, events, consumer, field):
    with pytest.raises(ValidationError) as caught:
        create_endpoint(url, events=events, consumer=consumer)
    assert [field] == list(caught.value.message_dict)
    assert not Endpoint.objects.exists()


@pytest.mark.django_db
def test_an_endpoint_of_no_declared_consumer_is_refused(declared):
    with pytest.raises(UnknownConsumer):
        create_endpoint("https://example.com/", consumer="nobody")


@pytest.mark.django_db
def test_without_the_extra_none_can_be_registered(declared, monkeypatch):
    monkeypatch.setattr(vault, "fernet", None)
    with pytest.raises(ImproperlyConfigured, match="django-eventstore"):
        create_endpoint("https://example.com/", consumer="strict")


def test_a_rotated_secret_signs_beside_the_one_before(calm):
    endpoint = calm.endpoint("/in")
    before = decrypt(endpoint.secret)
    secret = rotate_secret(endpoint, overlap=timedelta(hours=3))
    now = row(endpoint)
    assert (secret, before) == (decrypt(now.secret), decrypt(now.previous_secret))
    assert timedelta(hours=2) < now.previous_until - timezone.now() <= timedelta(hours=3)
    record_numbers(1)
    calm.forward()
    assert 2 == len(calm.receiver.seen[0].headers["webhook-signature"].split())
    with pytest.raises(ValueError, match="negative"):
        rotate_secret(endpoint, overlap=timedelta(seconds=-1))


def test_a_stolen_secret_is_rotated_without_an_overlap(calm):
    endpoint = calm.endpoint("/in")
    rotate_secret(endpoint, overlap=timedelta(0))
    record_numbers(1)
    calm.forward()
    assert 1 == len(calm.receiver.seen[0].headers["webhook-signature"].split())


def test_a_disabled_endpoint_gets_what_it_has_missed_when_it_is_enabled(hooks):
    endpoint = hooks.endpoint("/in")
    record_numbers(1)
    hooks.forward()
    disable(endpoint, reason="moving house")
    assert ("moving house", False, 1) == (row(endpoint).disabled_reason, row(endpoint).active, row(endpoint).offset)
    record_numbers(2, 3)
    hooks.forward()
    assert [1] == hooks.receiver.numbers("/in")
    enable(endpoint)
    assert (True, "", None) == (row(endpoint).active, row(endpoint).disabled_reason, row(endpoint).disabled_at)
    hooks.forward_until(lambda: hooks.is_level(endpoint))
    assert [1, 2, 3] == hooks.receiver.numbers("/in")


def test_a_disabled_endpoint_goes_without_what_it_has_missed_when_that_is_wanted(calm):
    endpoint = calm.endpoint("/in")
    disable(endpoint)
    record_numbers(1, 2)
    calm.forward()
    enable(endpoint, missed=False)
    record_numbers(3)
    calm.forward()
    assert [3] == calm.receiver.numbers("/in")


def test_one_that_is_gone_and_enabled_begins_with_the_event_that_it_did_not_take(hooks):
    endpoint = hooks.endpoint("/in")
    hooks.receiver.answers["/in"] = refusing(410)
    record_numbers(1, 2)
    hooks.forward()
    hooks.receiver.answers["/in"] = accept
    enable(endpoint)
    hooks.forward_until(lambda: hooks.is_level(endpoint))
    assert [1, 1, 2] == hooks.receiver.numbers("/in")


def test_an_endpoint_gets_again_what_is_replayed_and_the_others_do_not(hooks):
    endpoint = hooks.endpoint("/in")
    hooks.endpoint("/other")
    record_numbers(1, 2, 3)
    hooks.forward()
    replay(endpoint, 1)
    hooks.forward_until(lambda: hooks.is_level(endpoint))
    assert [1, 2, 3, 2, 3] == hooks.receiver.numbers("/in")
    assert [1, 2, 3] == hooks.receiver.numbers("/other")
    for offset in (-1, 4):
        with pytest.raises(ValueError, match="from 0 to 3"):
            replay(endpoint, offset)


def test_the_event_that_an_endpoint_does_not_take_can_be_skipped(hooks, declared):
    endpoint = hooks.endpoint("/in", events="test.Counted")

    def picky(handler, request):
        (refusing(400) if request.number == 2 else accept)(handler, request)

    hooks.receiver.answers["/in"] = picky
    record_numbers(1, 2, 3)
    hooks.forward()
    assert 1 == row(endpoint).offset
    hooks.close()
    assert 2 == skip(endpoint)
    hooks.forward_until(lambda: hooks.is_level(endpoint))
    assert 3 == hooks.receiver.numbers("/in")[-1]
    assert skip(endpoint) is None  # nothing is wrong any more


def test_a_test_event_is_posted_at_once_and_kept_with_the_attempts(calm, declared):
    endpoint = calm.endpoint("/in")
    found = send_test_event(endpoint)
    assert (True, 204) == (found.accepted, found.status)
    (request,) = calm.receiver.seen
    assert ("webhooks.Test", {"test": True}) == (request.event["type"], request.event["data"])
    (kept,) = EndpointAttempt.objects.filter(endpoint=endpoint)
    assert ("webhooks.Test", None, 204) == (kept.type, kept.position, kept.status)


def test_a_test_event_that_fails_says_why_and_changes_nothing(calm, declared):
    endpoint = calm.endpoint("/in")
    calm.receiver.answers["/in"] = refusing(410)
    found = send_test_event(endpoint)
    assert (False, "The answer is 410: the endpoint is gone.") == (found.accepted, found.problem)
    assert (True, 0, None) == (row(endpoint).active, row(endpoint).attempts, row(endpoint).offset)


def test_a_test_event_goes_to_no_address_that_is_not_allowed(calm, declared):
    endpoint = calm.endpoint("/in", consumer="strict")
    Endpoint.objects.filter(pk=endpoint.pk).update(url="https://127.1/")
    assert "must not connect to" in send_test_event(row(endpoint)).problem
    Endpoint.objects.filter(pk=endpoint.pk).update(url="http://example.com/")
    assert "Only https" in send_test_event(row(endpoint)).problem
    assert [] == calm.receiver.seen
