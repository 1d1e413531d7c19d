"""NATSSender and servers of its own: stopped, killed, frozen, emptied, guarded and encrypted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from django_eventstore import Outcome
from django_eventstore.exceptions import Unavailable
from django_eventstore.senders.nats import NATSSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.servers.nats import NATSClient, NATSServer
from tests.services.jetstream import SHORT, ids, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("nats-binaries")]

OUTAGE = 20.0 if os.environ.get("EVENTSTORE_TEST_LONG") else 0.5
"""Seconds that a server is away, which EVENTSTORE_TEST_LONG makes many."""
contract = SenderContract()


@pytest.fixture
def make_server(server_directory: Path) -> Iterator[Callable[..., NATSServer]]:
    servers: list[NATSServer] = []

    def make(**options: str) -> NATSServer:
        servers.append(NATSServer(server_directory / f"nats{len(servers)}", **options))
        return servers[-1].start()

    yield make
    for server in servers:
        server.delete()


class Ground:
    """A stream on a private server, and what it has received."""

    def __init__(self, server: NATSServer) -> None:
        self.server = server
        self.sender = NATSSender(
            stream="ORDERS", url=server.url, subject="orders.{type}", timeout=SHORT, connect_timeout=SHORT
        )
        self.declare()

    def declare(self) -> None:
        client = NATSClient(self.server.url)
        client.make_stream("ORDERS", subjects=["orders.>"])
        client.close()

    def received(self) -> list[str]:
        client = NATSClient(self.server.url)
        got, deadline = client.collect("ORDERS"), time.monotonic() + 30
        while len(got) < client.messages("ORDERS") and time.monotonic() < deadline:
            time.sleep(0.01)
        client.close()
        return ids(got)

    def deliver(
        self, entries: list[ContractEntry], *, disturb: Callable[[], object], repair: Callable[[], object]
    ) -> None:
        """As the loop does it. Disturbs in the middle, and repairs when the outage is over, whatever the sender does."""
        asked, done, deadline = [], 0, time.monotonic() + 120 + OUTAGE
        repairing = threading.Timer(OUTAGE, repair)

        def still_held() -> bool:
            asked.append(1)
            if len(asked) == 5:
                disturb()
                repairing.start()
            return True

        while done < len(entries) and time.monotonic() < deadline:
            try:
                outcome = self.sender.send(contract.batch(entries[done:], still_held=still_held))
            except Unavailable:
                time.sleep(0.1)
            else:
                assert {} == outcome.refused
                done += outcome.done
        repairing.join()
        assert len(entries) == done


def test_a_server_that_is_stopped_killed_frozen_and_emptied_gets_every_event_once(make_server):
    server = make_server()
    ground, sent = Ground(server), []

    def entries(first: int) -> list[ContractEntry]:
        sent.extend(contract.entries(1_000, first=first, streams=20))
        return sent[-1_000:]

    ground.deliver(entries(1), disturb=server.stop, repair=server.start)
    ground.deliver(entries(1_001), disturb=server.kill, repair=server.start)
    ground.deliver(entries(2_001), disturb=server.freeze, repair=server.thaw)
    received = ground.received()
    assert set(wanted(sent)) == set(received)
    contract.first_come_in_order(sent, [Arrival(name, "{}") for name in received])
    # What was sent again came within the stream's window for duplicates.
    assert len(sent) == len(received)

    # Restarted with nothing in it: the stream is gone, which is nobody's fault but the server's.
    server.stop()
    server.forget()
    server.start()
    last = contract.entries(5, first=7_001)
    with pytest.raises(Unavailable, match="ORDERS"):
        ground.sender.send(contract.batch(last))
    ground.declare()
    assert Outcome(done=5) == ground.sender.send(contract.batch(last))
    assert wanted(last) == ground.received()
    ground.sender.close()


def test_a_server_that_is_frozen_for_less_than_the_timeout_is_waited_for(make_server):
    server = make_server()
    ground = Ground(server)
    ground.sender = NATSSender(
        stream="ORDERS", url=server.url, subject="orders.{type}", timeout=timedelta(seconds=60 + OUTAGE)
    )
    asked: list[int] = []
    thawing = threading.Timer(OUTAGE, server.thaw)

    def still_held() -> bool:
        asked.append(1)
        if len(asked) == 3:
            server.freeze()
            thawing.start()
        return True

    entries = contract.entries(1_000)
    assert Outcome(done=1_000) == ground.sender.send(contract.batch(entries, still_held=still_held))
    thawing.join()
    assert wanted(entries) == ground.received()
    ground.sender.close()


ACCOUNTS = """
accounts {
  SHOP: { jetstream: enabled, users: [
    { user: shop, password: right },
    { user: narrow, password: right, permissions: { publish: "orders.contract.Happened" } }
  ] }
  PLAIN: { users: [ { user: plain, password: right } ] }
}
"""


def test_credentials_and_rights_that_are_wrong_are_the_senders_trouble(make_server):
    server = make_server(settings=ACCOUNTS)
    address = server.url.removeprefix("nats://")
    client = NATSClient(f"nats://shop:right@{address}")
    client.make_stream("ORDERS", subjects=["orders.>"])
    client.close()

    def send(user: str, *, type: str = "contract.Happened") -> Outcome:
        sender = NATSSender(
            stream="ORDERS",
            url=f"nats://{user}@{address}",
            subject="orders.{type}",
            timeout=SHORT,
            connect_timeout=SHORT,
        )
        entries = contract.entries(3)
        entries[1].type = type
        try:
            return sender.send(contract.batch(entries))
        finally:
            sender.close()

    assert Outcome(done=3) == send("shop:right")
    assert Outcome(done=3) == send("narrow:right")
    with pytest.raises(Unavailable, match="Authorization Violation") as caught:
        send("shop:s3cret")
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__!r}"
    with pytest.raises(Unavailable, match="Authorization Violation"):
        send("")
    with pytest.raises(Unavailable, match="JetStream"):
        send("plain:right")
    # The server drops it and answers nothing, but complains; what was acknowledged before counts.
    reasons = []
    while not reasons:
        try:
            send("narrow:right", type="elsewhere")
        except Unavailable as error:
            reasons.append(str(error))
    assert '"orders.elsewhere"' in reasons[0].lower()


def encrypted(certificate: tuple[str, str]) -> str:
    return 'tls {{ cert_file: "{}", key_file: "{}" }}'.format(*certificate)


def sender_by_tls(server: NATSServer, authority: str | None, **options: object) -> NATSSender:
    return NATSSender(
        stream="ORDERS",
        url=server.url.replace("nats://", "tls://shop:s3cret@"),
        subject="orders.{type}",
        tls={"ca_certs": authority, **options} if authority else None,
        timeout=timedelta(seconds=1),
        connect_timeout=SHORT,
    )


@pytest.mark.needs("openssl")
def test_events_go_by_tls_when_the_certificate_is_right(make_server, certificates):
    server = make_server(settings=encrypted(certificates.here))
    client = NATSClient(server.url, authority=certificates.here[0])
    client.make_stream("ORDERS", subjects=["orders.>"])
    entries = contract.entries(2_000)
    entries[7].payload = '{"text":"%s"}' % ("x" * 1_000_000)
    sender = sender_by_tls(server, certificates.here[0])
    assert Outcome(done=2_000) == sender.send(contract.batch(entries))
    assert 2_000 == client.messages("ORDERS")
    server.freeze()
    with pytest.raises(Unavailable):
        sender.send(contract.batch(contract.entries(1, first=2_001)))
    server.thaw()
    contract.send_all(sender, contract.entries(1, first=2_001))
    sender.close()
    client.close()


@pytest.mark.needs("openssl")
def test_a_certificate_that_is_not_trusted_or_for_another_name_is_the_senders_trouble(make_server, certificates):
    server = make_server(settings=encrypted(certificates.elsewhere))
    for authority in (certificates.here[0], None):
        with pytest.raises(Unavailable, match=r"(?i)certificate.verify.failed"):
            sender_by_tls(server, authority).send(contract.batch(contract.entries(1)))
    with pytest.raises(Unavailable, match=r"mismatch|not valid for"):
        sender_by_tls(server, certificates.elsewhere[0]).send(contract.batch(contract.entries(1)))
    named = sender_by_tls(server, certificates.elsewhere[0], server_hostname="elsewhere.example")
    with pytest.raises(Unavailable, match="stream not found"):  # the connection was made
        named.send(contract.batch(contract.entries(1)))
    named.close()


@pytest.mark.needs("openssl")
def test_a_server_that_wants_a_certificate_gets_the_senders(make_server, certificates):
    pair = 'cert_file: "{0}", key_file: "{1}", ca_file: "{0}"'.format(*certificates.here)
    server = make_server(settings=f"tls {{ {pair}, verify: true }}")
    certificate, key = certificates.here
    with pytest.raises(Unavailable, match="stream not found"):  # the connection was made
        sender_by_tls(server, certificate, certfile=certificate, keyfile=key).send(contract.batch(contract.entries(1)))
    with pytest.raises(Unavailable) as caught:
        sender_by_tls(server, certificate).send(contract.batch(contract.entries(1)))
    assert "stream not found" not in str(caught.value)


def test_a_server_that_speaks_plain_text_is_told_nothing_when_tls_was_wanted(make_server):
    server = make_server(settings="debug: true, trace: true")
    with pytest.raises(Unavailable, match="secure connection not available"):
        sender_by_tls(server, None).send(contract.batch(contract.entries(1)))
    assert "CONNECT" not in (server.directory / "log").read_text()
