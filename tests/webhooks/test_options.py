"""The options of the sender, and what the system checks say about them."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from django_eventstore.consumers import Consumer
from django_eventstore.forwarding import make_sender
from django_eventstore.webhooks import WebhookSender, vault
from tests.delivery import record_numbers
from tests.processes import ROOT, child_environment
from tests.webhooks.certificates import make_certificate, server_context
from tests.webhooks.conftest import SENDER, Hooks, row
from tests.webhooks.receiver import accept, hang, receiving

pytestmark = pytest.mark.sqlite
NOTHING = timedelta(0)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"format": "binary"}, "headers are not signed"),
        ({"format": "xml"}, "format must be"),
        ({"source": "no uri"}, "source must be"),
        ({"dataschema": "{stream}"}, "dataschema"),
        ({"timeout": NOTHING}, "timeout must be"),
        ({"timeout": 5}, "timeout must be"),
        ({"connect_timeout": NOTHING}, "connect_timeout must be"),
        ({"patience": NOTHING}, "patience must be"),
        ({"retry_base": NOTHING}, "retry_base must be"),
        ({"retry_cap": NOTHING}, "retry_cap must be"),
        ({"disable_after": NOTHING}, "disable_after must be"),
        ({"max_answer": 0}, "max_answer must be"),
        ({"max_in_flight": 0}, "max_in_flight must be"),
        ({"max_behind": 0}, "max_behind must be"),
        ({"ports": ()}, "ports must be"),
        ({"ports": "443"}, "ports must be"),
        ({"ports": [0]}, "ports must be"),
        ({"ports": [65_536]}, "ports must be"),
        ({"tls": {"cert_reqs": 0}}, "tls takes"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "headers: 'X-A'"),
        ({"headers": {"X A": "1"}}, "headers: 'X A'"),
        ({"headers": {"X-A": "ü"}}, "headers: 'X-A'"),
        ({"headers": {"X-A": 1}}, "headers: 'X-A'"),
        ({"headers": {"Host": "example.com"}}, "set by the sender"),
        ({"headers": {"Webhook-Id": "1"}}, "set by the sender"),
        ({"headers": {"Content-Type": "text/plain"}}, "set by the sender"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        WebhookSender(**options)


def test_the_path_of_the_sender_is_that_of_the_documentation():
    sender = make_sender(Consumer(name="webhooks", events=("*",), sender=SENDER))
    assert isinstance(sender, WebhookSender)
    assert [] == sender.check()


def test_the_checks_name_what_is_missing_and_what_is_dangerous(monkeypatch, settings):
    def ids(**options) -> list[str]:
        return [message.id.partition(".")[2] for message in WebhookSender(**options).check()]

    assert [] == ids()
    assert ["E071"] == ids(timeout=timedelta(seconds=30))
    assert ["W070", "W071"] == ids(allow_http=True, allow_private=True)
    settings.DEBUG = True
    assert [] == ids(allow_http=True, allow_private=True)
    monkeypatch.setattr(vault, "fernet", None)
    assert ["E070"] == ids()


def test_the_base_package_works_without_the_extra():
    source = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import django; django.setup()\n"
        "from django_eventstore.webhooks import WebhookSender\n"
        "from django.contrib import admin; admin.autodiscover()\n"
        "print([message.id for message in WebhookSender().check()])"
    )
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=60)
    assert ("['django_eventstore.E070']\n", "") == (done.stdout, done.stderr)


def test_headers_and_the_plain_format_are_sent(calm):
    calm.use(format="json", headers={"X-Tenant": "seven of nine"})
    calm.endpoint("/in")
    record_numbers(1)
    calm.forward()
    (request,) = calm.receiver.seen
    assert ("seven of nine", "application/json") == (request.headers["x-tenant"], request.headers["content-type"])
    assert ({"n": 1}, 1) == (request.event["payload"], request.event["position"])


def test_source_and_dataschema_are_those_of_the_options(calm):
    calm.use(source="https://shop.example/", dataschema="https://shop.example/{type}/{version}")
    calm.endpoint("/in")
    record_numbers(1)
    calm.forward()
    event = calm.receiver.seen[0].event
    assert ("https://shop.example/", "https://shop.example/test.Counted/1") == (event["source"], event["dataschema"])


def test_no_more_requests_are_waited_for_than_allowed(calm):
    calm.use(max_in_flight=2)
    lock, now, most = threading.Lock(), 0, 0

    def answer(handler, request):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        handler.server.receiver.going_on.wait(0.05)
        with lock:
            now -= 1
        accept(handler, request)

    for number in range(6):
        calm.endpoint(f"/{number}")
        calm.receiver.answers[f"/{number}"] = answer
    record_numbers(1)
    calm.forward()
    assert 6 == len(calm.receiver.seen)
    assert most <= 2


def test_no_more_endpoints_are_caught_up_at_once_than_allowed(hooks):
    hooks.use(max_behind=1)
    record_numbers(1)
    hooks.forward()
    found = [hooks.endpoint(f"/{number}", offset=0, epoch=1) for number in range(3)]
    for number in range(3):
        hooks.receiver.answers[f"/{number}"] = hang
    for _ in range(3):
        hooks.forward()
    assert 1 == sum(row(each).claimed_until is not None for each in found)


def test_a_port_that_is_not_allowed_is_not_connected_to(calm):
    calm.use(ports=[443])
    endpoint = calm.endpoint("/in")
    record_numbers(1)
    calm.forward()
    assert f"Port {calm.receiver.port} is not one of the allowed" in row(endpoint).problem
    assert [] == calm.receiver.seen


@pytest.mark.needs("openssl")
def test_an_authority_of_ones_own_is_trusted_where_the_option_names_it(tmp_path, transactional_db):
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    with receiving(tls=server_context(certificate)) as receiver:
        hooks = Hooks(receiver)
        try:
            endpoint = hooks.endpoint("/in")
            record_numbers(1)
            hooks.forward()
            assert "SSLCertVerificationError" in row(endpoint).problem
            hooks.close()
            hooks.use(allow_http=False, tls={"ca_certs": certificate[0]})
            hooks.forward_until(lambda: hooks.is_level(endpoint))
            assert [1] == receiver.numbers("/in")
        finally:
            hooks.close()
