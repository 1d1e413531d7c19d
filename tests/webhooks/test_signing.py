from __future__ import annotations

import base64
from datetime import datetime, timezone

import pytest
from django.core.exceptions import ImproperlyConfigured
from standardwebhooks import Webhook, WebhookVerificationError

from django_eventstore.webhooks import vault
from django_eventstore.webhooks.signing import new_secret, secret_key, signature_headers
from django_eventstore.webhooks.vault import SecretUnreadable, decrypt, encrypt

pytestmark = pytest.mark.no_database

BODY = '{"text":"ñ 漢字 \U0001f9fe","number":1.10}'


def headers(*secrets: str, body: str = BODY, timestamp: int | None = None) -> dict[str, str]:
    moment = int(datetime.now(timezone.utc).timestamp()) if timestamp is None else timestamp
    keys = [secret_key(secret) for secret in secrets]
    return signature_headers(id="msg_1", timestamp=moment, body=body.encode(), keys=keys)


def test_a_receiver_with_the_standards_own_library_verifies_what_is_signed():
    secret = new_secret()
    assert {"text": "ñ 漢字 \U0001f9fe", "number": 1.1} == Webhook(secret).verify(BODY, headers(secret))


def test_the_signature_is_that_of_the_standards_own_library():
    secret, moment = new_secret(), datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    ours = headers(secret, timestamp=int(moment.timestamp()))["webhook-signature"]
    assert Webhook(secret).sign("msg_1", moment, BODY) == ours


def test_while_secrets_overlap_a_receiver_may_hold_either():
    old, new, other = new_secret(), new_secret(), new_secret()
    signed = headers(new, old)
    for secret in (old, new):
        Webhook(secret).verify(BODY, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(BODY, signed)


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp"])
def test_what_is_changed_on_the_way_is_found(changed):
    secret = new_secret()
    signed, body = headers(secret), BODY
    if changed == "body":
        body = BODY.replace("1.10", "1.11")
    elif changed == "webhook-id":
        signed[changed] = "msg_2"
    else:
        signed[changed] = str(int(signed[changed]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, signed)


def test_a_new_secret_is_random_and_of_the_standards_form():
    secrets = {new_secret() for _ in range(50)}
    assert 50 == len(secrets)
    assert all(secret.startswith("whsec_") and 32 == len(secret_key(secret)) for secret in secrets)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_###",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        base64.b64encode(b"x" * 32).decode(),
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(secret):
    with pytest.raises(ValueError, match="24 to 64 bytes") as caught:
        secret_key(secret)
    assert not secret or secret.removeprefix("whsec_") == "" or secret not in str(caught.value)


def test_a_secret_is_stored_encrypted(settings):
    secret = new_secret()
    stored = encrypt(secret)
    assert secret.removeprefix("whsec_") not in stored
    assert secret == decrypt(stored)
    assert stored != encrypt(secret)


def test_a_secret_outlives_a_new_secret_key_while_the_old_one_is_a_fallback(settings):
    secret = new_secret()
    stored = encrypt(secret)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another"
    assert secret == decrypt(stored)
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(SecretUnreadable, match="SECRET_KEY_FALLBACKS"):
        decrypt(stored)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr(vault, "fernet", None)
    assert not vault.can_encrypt()
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'django-eventstore\[webhooks\]'"):
        encrypt(new_secret())
