"""The guide of webhooks: its snippets run, and its table of options is that of the code."""

from __future__ import annotations

import inspect
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from standardwebhooks import WebhookVerificationError

from django_eventstore.models import Endpoint
from django_eventstore.webhooks import WebhookSender
from django_eventstore.webhooks.signing import new_secret, secret_key, signature_headers
from tests.delivery import record_numbers
from tests.documentation import DOCS, blocks, code, rows, section

pytestmark = pytest.mark.sqlite
GUIDE = DOCS / "guides" / "webhooks.md"
SETTINGS, REGISTER, LIBRARY, BY_HAND = (block.text for block in blocks(GUIDE, language="python"))


def defined(*texts: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for text in texts:
        exec(text, names)
    return names


def test_the_options_are_those_of_the_code() -> None:
    taken = inspect.signature(WebhookSender).parameters
    existing = {name: parameter.default for name, parameter in taken.items()}
    table = rows(section("guides/webhooks.md", "Options"))
    assert existing == {code(row[0]): eval(code(row[1]), {"timedelta": timedelta}) for row in table}


@pytest.mark.django_db
def test_an_endpoint_is_registered_as_the_guide_says() -> None:
    names = defined(SETTINGS, REGISTER)
    with override_settings(EVENTSTORE=names["EVENTSTORE"]):
        secret = names["register"]("https://example.com/in")
    assert 32 == len(secret_key(secret))
    assert ("orders.OrderPlaced", "orders.OrderCancelled") == Endpoint.objects.get().patterns


@pytest.mark.parametrize("function", ["verified", "verified_by_hand"])
def test_a_receiver_verifies_as_the_guide_says(calm, function: str) -> None:
    verify, secret = defined(LIBRARY, BY_HAND)[function], new_secret()
    calm.endpoint("/in", secret=secret)
    record_numbers(1)
    calm.forward()
    (request,) = calm.receiver.seen
    assert {"n": 1} == verify(secret, request.headers, request.body)["data"]


@pytest.mark.no_database
@pytest.mark.parametrize("function", ["verified", "verified_by_hand"])
def test_a_receiver_finds_what_is_forged_or_old(function: str) -> None:
    verify, secret, body, now = defined(LIBRARY, BY_HAND)[function], new_secret(), b'{"n":1}', int(time.time())
    good = signature_headers(id="1", timestamp=now, body=body, keys=[secret_key(secret)])
    assert {"n": 1} == verify(secret, good, body)
    old = signature_headers(id="1", timestamp=now - 1_000, body=body, keys=[secret_key(secret)])
    for headers, changed in ((good, b'{"n":2}'), ({**good, "webhook-id": "2"}, body), (old, body)):
        with pytest.raises((WebhookVerificationError, ValueError)):
            verify(secret, headers, changed)
