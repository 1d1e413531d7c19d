"""What seldom happens: another history of the log, errors on a thread, addresses that are dead, crowds of connections."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta

import pytest
from django.db import DatabaseError

from django_eventstore.models import Endpoint, EndpointAttempt
from django_eventstore.store import begin_epoch
from django_eventstore.webhooks import attempts, connections, replay
from django_eventstore.webhooks.catching_up import CatchUp
from django_eventstore.webhooks.client import Connection, Limits
from django_eventstore.webhooks.connections import Connections
from django_eventstore.webhooks.targets import Rules, parse_url
from tests.delivery import record_numbers
from tests.webhooks.conftest import ANY_PORT, row, until

pytestmark = pytest.mark.sqlite
RULES = Rules(allow_http=True, allow_private=True, ports=frozenset(ANY_PORT))


def test_an_offset_of_another_history_is_a_failure_until_somebody_decides(hooks):
    record_numbers(1, 2, 3)
    hooks.forward()
    behind = hooks.endpoint("/in", offset=2, epoch=1)
    begin_epoch(using="default", after=1, reason="restored")
    sender = hooks.senders[-1]
    sender.tend("webhooks", events=("test.*",), using="default")
    until(lambda: row(behind).attempts and row(behind).claimed_until is None)
    assert "epoch 1" in row(behind).problem
    assert [] == hooks.receiver.seen
    replay(behind, 1)
    sender.tend("webhooks", events=("test.*",), using="default")
    until(lambda: [2, 3] == hooks.receiver.numbers("/in"))


def test_an_error_on_a_thread_is_logged_and_its_claim_runs_out(hooks, monkeypatch, caplog):
    record_numbers(1)
    hooks.forward()
    behind = hooks.endpoint("/in", offset=0, epoch=1)

    def broken(self):
        raise RuntimeError("nobody expects this")

    read = CatchUp._read
    monkeypatch.setattr(CatchUp, "_read", broken)
    hooks.forward()
    until(lambda: "goes on when its claim is over" in caplog.text)
    assert row(behind).claimed_until is not None
    monkeypatch.setattr(CatchUp, "_read", read)
    Endpoint.objects.update(claimed_until=row(behind).created_at)
    hooks.forward_until(lambda: hooks.is_level(behind))
    assert [1] == hooks.receiver.numbers("/in")


def test_attempts_that_cannot_be_written_stop_nobody(calm, monkeypatch, caplog):
    def broken(*arguments, **keywords):
        raise DatabaseError("no room")

    monkeypatch.setattr(attempts, "_write", broken)
    calm.endpoint("/in")
    record_numbers(1)
    assert 1 == calm.forward()
    assert "could not be written" in caplog.text


def test_attempts_of_an_endpoint_that_was_deleted_are_dropped(calm):
    found = calm.endpoint("/in")
    desk = calm.senders[-1]._at_desk()
    desk.attempts._written_at = float("inf")  # it is not due
    record_numbers(1)
    calm.forward()
    Endpoint.objects.filter(pk=found.pk).delete()
    desk.attempts.write(using="default")
    assert not EndpointAttempt.objects.exists()


def test_of_several_addresses_the_next_is_tried_when_one_refuses(calm, monkeypatch):
    def two(host, port, **keywords):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    calm.endpoint("/in")
    record_numbers(1)
    calm.forward()
    assert [1] == calm.receiver.numbers("/in")


def test_of_several_addresses_the_next_is_tried_when_one_is_silent(receiver, monkeypatch):
    def two(host, port, **keywords):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with socket.create_server(("127.0.0.2", receiver.port), backlog=0) as full, socket.socket() as first:
        first.connect(full.getsockname())  # who comes next is not even refused
        limits = Limits(connect_timeout=timedelta(seconds=3))
        target = parse_url(receiver.url("/in"), RULES)
        connection = Connection(target, rules=RULES, limits=limits, tls=ssl.create_default_context())
        assert 204 == connection.post(b"{}", {}).status
        connection.close()


def test_a_name_without_an_address_is_a_failure(calm, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **keywords: [])
    found = calm.endpoint("/in")
    record_numbers(1)
    calm.forward()
    assert "has no address" in row(found).problem


def test_not_more_connections_are_kept_than_allowed_nor_longer(receiver, monkeypatch):
    monkeypatch.setattr(connections, "MOST_IDLE", 2)
    pool = Connections(rules=RULES, limits=Limits(), tls=ssl.create_default_context())
    endpoints = [Endpoint(pk=number, url=receiver.url(f"/{number}")) for number in range(3)]
    used = []
    for endpoint in endpoints:
        connection = pool.take(endpoint)
        connection.post(b"{}", {})
        pool.give_back(endpoint, connection)
        used.append(connection)
    assert [False, True, True] == [connection.is_open for connection in used]
    assert pool.take(endpoints[2]) is used[2]
    monkeypatch.setattr(connections, "LONGEST_USE", timedelta(0))
    assert pool.take(endpoints[1]) is not used[1]
    assert not used[1].is_open
    used[2].close()
    pool.close()


def test_a_connection_that_is_given_back_takes_the_place_of_another(receiver):
    pool = Connections(rules=RULES, limits=Limits(), tls=ssl.create_default_context())
    endpoint = Endpoint(pk=1, url=receiver.url("/"))
    both = [pool.take(endpoint), pool.take(endpoint)]
    for connection in both:
        connection.post(b"{}", {})
        pool.give_back(endpoint, connection)
    assert [False, True] == [connection.is_open for connection in both]
    pool.close()
