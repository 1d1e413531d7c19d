"""RedisStreamSender and servers of its own: stopped, killed, frozen, emptied, full, guarded, encrypted, many."""

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
from django_eventstore.senders.redis import RedisStreamSender
from django_eventstore.testing.contracts import Arrival, ContractEntry, SenderContract
from tests.servers.postgresql import free_port
from tests.servers.redis import RedisServer, connect
from tests.services.redis_streams import SHORT, ids, read, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("redis-binaries")]

OUTAGE = 20.0 if os.environ.get("EVENTSTORE_TEST_LONG") else 0.5
"""Seconds that a server is away, which EVENTSTORE_TEST_LONG makes many."""
contract = SenderContract()


@pytest.fixture
def make_server(server_directory: Path) -> Iterator[Callable[..., RedisServer]]:
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        servers.append(RedisServer(server_directory / f"redis{len(servers)}", options=options))
        return servers[-1].start()

    yield make
    for server in servers:
        server.delete()


@pytest.fixture
def make_sender() -> Iterator[Callable[..., RedisStreamSender]]:
    senders: list[RedisStreamSender] = []

    def make(**options: object) -> RedisStreamSender:
        senders.append(RedisStreamSender(**{"key": "orders", "timeout": SHORT, "connect_timeout": SHORT, **options}))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


def received(server: RedisServer, key: str = "orders") -> list[str]:
    with connect(server.url) as client:
        return ids(read(client, key))


def poll(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def deliver(
    sender: RedisStreamSender,
    entries: list[ContractEntry],
    *,
    disturb: Callable[[], object],
    repair: Callable[[], object],
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
            outcome = sender.send(contract.batch(entries[done:], still_held=still_held))
        except Unavailable:
            time.sleep(0.1)
        else:
            assert {} == outcome.refused
            done += outcome.done
    repairing.join()
    assert len(entries) == done


def until_unavailable(sender: RedisStreamSender, entries: list[ContractEntry]) -> tuple[int, str]:
    """Send as long as any of it counts: how many did, and why no more."""
    done = 0
    while done < len(entries):
        try:
            done += sender.send(contract.batch(entries[done:])).done
        except Unavailable as error:
            return done, str(error)
    return done, ""


def test_a_server_that_is_stopped_killed_and_frozen_gets_every_event(make_server, make_sender):
    server = make_server()
    sender = make_sender(url=server.url, max_in_flight=100)
    sent: list[ContractEntry] = []

    def entries(first: int) -> list[ContractEntry]:
        sent.extend(contract.entries(1_000, first=first, streams=20))
        return sent[-1_000:]

    deliver(sender, entries(1), disturb=server.stop, repair=server.start)
    deliver(sender, entries(1_001), disturb=server.kill, repair=server.start)
    deliver(sender, entries(2_001), disturb=server.freeze, repair=server.thaw)
    got = received(server)
    assert set(wanted(sent)) == set(got)
    contract.first_come_in_order(sent, [Arrival(name, "{}") for name in got])
    # Of each outage one transaction is repeated, and of each try one event.
    tries = 3 * (OUTAGE / 0.1 + 10)
    assert len(got) - len(sent) <= 3 * 100 + tries

    # Restarted with nothing in it: nobody is told, and it goes on.
    server.stop()
    server.forget()
    server.start()
    last = contract.entries(5, first=6_001)
    contract.send_all(sender, last)
    assert wanted(last) == received(server)


def test_a_server_that_is_frozen_for_less_than_the_timeout_is_waited_for(make_server, make_sender):
    server = make_server()
    sender = make_sender(url=server.url, timeout=timedelta(seconds=60 + OUTAGE))
    asked: list[int] = []
    thawing = threading.Timer(OUTAGE, server.thaw)

    def still_held() -> bool:
        asked.append(1)
        if len(asked) == 3:
            server.freeze()
            thawing.start()
        return True

    entries = contract.entries(2_000)
    assert Outcome(done=2_000) == sender.send(contract.batch(entries, still_held=still_held))
    thawing.join()
    assert wanted(entries) == received(server)


def test_a_memory_that_is_full_makes_the_consumer_wait_and_loses_nothing(make_server, make_sender):
    server = make_server("--maxmemory-policy", "noeviction")
    entries = contract.entries(300)
    for entry in entries:
        entry.payload = '{"text":"%s"}' % ("x" * 20_000)
    sender = make_sender(url=server.url, max_in_flight=20)
    with connect(server.url) as client:
        # Above what it uses now by less than the events need, and by more than a transaction does.
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
        done, reason = until_unavailable(sender, entries)
        assert (True, True) == (0 < done < 300, "maxmemory" in reason)
        client.config_set("maxmemory", 0)
    while done < 300:
        done += sender.send(contract.batch(entries[done:])).done
    # A transaction is refused as a whole, so that nothing was repeated or came too early.
    assert wanted(entries) == received(server)


def test_credentials_and_rights_that_are_wrong_are_the_senders_trouble(make_server, make_sender):
    server = make_server("--requirepass", "right")
    address = server.url.removeprefix("redis://")
    with connect(f"redis://:right@{address}") as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">right", "~orders", "+@all")

    def send(user: str, **options: object) -> Outcome:
        sender = make_sender(url=f"redis://{user}@{address}", **options)
        return sender.send(contract.batch(contract.entries(3)))

    assert Outcome(done=3) == send(":right")
    assert Outcome(done=3) == send("shop:right")
    for user in (":s3cret", "shop:s3cret", "nobody:s3cret"):
        with pytest.raises(Unavailable, match=r"(?i)authentication|password") as caught:
            send(user)
        assert "s3cret" not in f"{caught.value} {caught.value.__cause__!r}"
    with pytest.raises(Unavailable, match=r"(?i)authentication required"):
        send("")
    with pytest.raises(Unavailable, match=r"(?i)permission"):
        send("shop:right", key="elsewhere")


def test_as_many_replicas_as_are_wanted_have_what_counts(make_server, make_sender):
    primary = make_server("--repl-diskless-sync-delay", "0")
    replica = make_server("--replicaof", "127.0.0.1", str(primary.port))
    entries = contract.entries(300)
    with connect(primary.url) as client:
        poll(lambda: int(client.execute_command("WAIT", 1, 1_000)) == 1)
    sender = make_sender(url=primary.url, replicas=1, max_in_flight=100)
    assert Outcome(done=300) == sender.send(contract.batch(entries))
    assert wanted(entries) == received(replica)

    replica.freeze()
    more = contract.entries(3, first=301)
    brief = timedelta(seconds=0.5)
    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        make_sender(url=primary.url, replicas=1, timeout=brief).send(contract.batch(more))
    replica.thaw()
    contract.send_all(sender, more)
    assert set(wanted(more)) <= set(received(replica))

    with pytest.raises(Unavailable, match="1 of 2 replicas"):
        make_sender(url=primary.url, replicas=2, timeout=brief).send(contract.batch(contract.entries(1)))
    with pytest.raises(Unavailable, match=r"(?i)read.?only"):
        make_sender(url=replica.url).send(contract.batch(contract.entries(1)))


@pytest.fixture
def cluster(make_server) -> list[RedisServer]:
    """Two nodes with half of the slots each."""
    buses = [free_port() for _ in range(2)]
    nodes = [make_server("--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in buses]
    first, second = (connect(node.url) for node in nodes)
    for client, (low, high) in zip((first, second), ((0, 8191), (8192, 16383)), strict=True):
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
    first.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 1)
    second.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
    first.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, buses[1])
    for client in (first, second):
        poll(lambda client=client: _is_whole(client))
        client.close()
    return nodes


def _is_whole(client: object) -> bool:
    text = _text(client.execute_command("CLUSTER", "INFO"))  # type: ignore[attr-defined]
    return all(fact in text for fact in ("state:ok", "known_nodes:2", "slots_assigned:16384"))


def test_each_key_of_a_cluster_has_its_events_in_order_also_after_its_slot_has_moved(cluster, make_sender):
    from redis.cluster import RedisCluster

    entries = contract.entries(600)
    for number, entry in enumerate(entries):
        entry.type = f"kind{number % 6}"
    nobody = "redis://127.0.0.1:1"
    sender = make_sender(url=f"{nobody};{cluster[1].url}", key="orders-{type}", cluster=True, max_in_flight=100)
    assert Outcome(done=400) == sender.send(contract.batch(entries[:400]))
    with RedisCluster.from_url(cluster[0].url) as client:
        keys = [f"orders-kind{kind}" for kind in range(6)]
        owners = {key: client.get_node_from_key(key).port for key in keys}
        assert {node.port for node in cluster} == set(owners.values())
        for kind, key in enumerate(keys):
            assert wanted(entry for entry in entries[:400] if entry.type == f"kind{kind}") == ids(read(client, key))
        moved = next(key for key in keys if owners[key] == cluster[0].port)
        slot = client.keyslot(moved)
        client.delete(moved)
    ports = {node.port: node for node in cluster}
    target = next(port for port in ports if port != owners[moved])
    with connect(ports[target].url) as new, connect(ports[owners[moved]].url) as old:
        identity = _text(new.execute_command("CLUSTER", "MYID"))
        for each in (new, old):
            each.execute_command("CLUSTER", "SETSLOT", slot, "NODE", identity)
    # The old owner says that it has moved; another look at the cluster finds it.
    contract.send_all(sender, entries[400:])
    with RedisCluster.from_url(cluster[0].url) as client:
        assert target == client.get_node_from_key(moved).port
        kind = moved.removeprefix("orders-")
        assert wanted(entry for entry in entries[400:] if entry.type == kind) == ids(read(client, moved))


def _text(value: object) -> str:
    """What redis-py makes of an answer depends on its version."""
    if isinstance(value, dict):
        return "\n".join(f"{name}:{fact}" for name, fact in value.items())
    return value.decode() if isinstance(value, bytes) else str(value)


class Encrypted:
    """A server that speaks TLS on a port of its own, and plain text on the other."""

    def __init__(self, make_server: Callable[..., RedisServer], certificate: tuple[str, str]) -> None:
        port = free_port()
        files = (
            "--tls-cert-file",
            certificate[0],
            "--tls-key-file",
            certificate[1],
            "--tls-ca-cert-file",
            certificate[0],
        )
        self.server = make_server("--tls-port", str(port), *files, "--tls-auth-clients", "no")
        self.url = f"rediss://127.0.0.1:{port}/0"


@pytest.mark.needs("openssl")
def test_events_go_by_tls_when_the_certificate_is_right(make_server, make_sender, certificates):
    encrypted = Encrypted(make_server, certificates.here)
    entries = contract.entries(1_000)
    entries[7].payload = '{"text":"%s"}' % ("x" * 1_000_000)
    sender = make_sender(url=encrypted.url, tls={"ca_certs": certificates.here[0]}, timeout=timedelta(seconds=1))
    assert Outcome(done=1_000) == sender.send(contract.batch(entries))
    assert wanted(entries) == received(encrypted.server)
    encrypted.server.freeze()
    with pytest.raises(Unavailable):
        sender.send(contract.batch(contract.entries(1, first=1_001)))
    encrypted.server.thaw()
    contract.send_all(sender, contract.entries(1, first=1_001))


@pytest.mark.needs("openssl")
def test_a_certificate_that_is_not_trusted_or_for_another_name_is_the_senders_trouble(
    make_server, make_sender, certificates
):
    encrypted = Encrypted(make_server, certificates.elsewhere)

    def send(**tls: object) -> Outcome:
        return make_sender(url=encrypted.url, tls=tls).send(contract.batch(contract.entries(1)))

    for tls in ({"ca_certs": certificates.here[0]}, {}):
        with pytest.raises(Unavailable, match=r"(?i)certificate.verify.failed"):
            send(**tls)
    with pytest.raises(Unavailable, match=r"mismatch|not valid for"):
        send(ca_certs=certificates.elsewhere[0])
    import ssl

    assert Outcome(done=1) == send(cert_reqs=ssl.CERT_NONE)


def test_a_server_can_be_reached_by_its_socket(make_server, make_sender, server_directory):
    path = server_directory / "redis.sock"
    server = make_server("--unixsocket", str(path))
    entries = contract.entries(10)
    assert Outcome(done=10) == make_sender(url=f"unix://{path}").send(contract.batch(entries))
    assert wanted(entries) == received(server)
