"""The shared NATS as one test uses it: through a proxy, with streams of its own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django_eventstore.delivery import DeliveredEntry
from django_eventstore.events.cloudevents import from_header
from django_eventstore.senders.nats import NATSSender
from tests.servers.nats import NATSClient, nats_url
from tests.servers.proxy import Proxy

SHORT = timedelta(seconds=2)


class JetStream:
    """The shared server through a proxy, with a stream of this test alone, in memory unless ``config`` says otherwise."""

    def __init__(self, **config: object) -> None:
        self.name = f"eventstore-test-{uuid.uuid4().hex}"
        self.client = NATSClient(nats_url())
        self.streams: list[str] = []
        self.make(self.name, subjects=[f"{self.name}.>"], **config)
        upstream = urlsplit(nats_url())
        self.proxy = Proxy(str(upstream.hostname), upstream.port or 4222)
        self.url = f"nats://127.0.0.1:{self.proxy.port}"
        self.got = self.client.collect(self.name)
        self.senders: list[NATSSender] = []

    def make(self, name: str, **config: object) -> None:
        """A further stream, which is deleted at the end."""
        self.client.make_stream(name, **{"storage": "memory", **config})
        self.streams.append(name)

    def read(self, atleast: int) -> list[Any]:
        """All that the stream has had so far."""
        deadline = time.monotonic() + 10
        while len(self.got) < atleast and time.monotonic() < deadline:
            time.sleep(0.01)
        # A repeat may be on its way still: what the stream has is the measure, where it forgets nothing.
        while len(self.got) < self.client.messages(self.name) and time.monotonic() < deadline:
            time.sleep(0.01)
        return list(self.got)

    def sender(self, **options: object) -> NATSSender:
        defaults = {"stream": self.name, "url": self.url, "timeout": SHORT, "connect_timeout": SHORT}
        self.senders.append(NATSSender(**{**defaults, "subject": f"{self.name}.{{type}}", **options}))
        return self.senders[-1]

    def close(self) -> None:
        for sender in self.senders:
            sender.close()
        self.proxy.close()
        for name in self.streams:
            self.client.delete_stream(name)
        self.client.close()


def ids(messages: Iterable[Any]) -> list[str]:
    return [from_header(message.headers["ce-id"]) for message in messages]


def wanted(entries: Iterable[DeliveredEntry]) -> list[str]:
    return [str(entry.event_id) for entry in entries]
