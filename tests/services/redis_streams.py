"""The shared Redis as one test uses it: through a proxy, with keys of its own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import urlsplit

from django_eventstore.delivery import DeliveredEntry
from django_eventstore.senders.redis import RedisStreamSender
from tests.servers.proxy import Proxy
from tests.servers.redis import connect, redis_url

SHORT = timedelta(seconds=2)
Fields = dict[str, str]


class RedisStreams:
    """The shared server through a proxy, and a key for this test alone."""

    def __init__(self) -> None:
        self.key = f"eventstore-test-{uuid.uuid4().hex}"
        self.straight = connect(redis_url())
        upstream = urlsplit(redis_url())
        self.proxy = Proxy(str(upstream.hostname), upstream.port or 6379)
        self.url = upstream._replace(netloc=f"127.0.0.1:{self.proxy.port}").geturl()
        self.senders: list[RedisStreamSender] = []

    def read(self, atleast: int, key: str | None = None) -> list[Fields]:
        """All that the stream has."""
        deadline = time.monotonic() + 5
        while True:
            got = read(self.straight, key or self.key)
            if len(got) >= atleast or time.monotonic() > deadline:
                return got
            time.sleep(0.02)

    def sender(self, **options: object) -> RedisStreamSender:
        defaults = {"key": self.key, "url": self.url, "timeout": SHORT, "connect_timeout": SHORT}
        self.senders.append(RedisStreamSender(**{**defaults, **options}))
        return self.senders[-1]

    def close(self) -> None:
        for sender in self.senders:
            sender.close()
        self.proxy.close()
        for key in self.straight.scan_iter(f"{self.key}*", count=1_000):
            self.straight.delete(key)
        self.straight.close()


def read(client: object, key: str) -> list[Fields]:
    """The entries of a stream, oldest first, as texts."""
    entries = client.xrange(key)  # type: ignore[attr-defined]
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]


def ids(entries: Iterable[Fields]) -> list[str]:
    return [fields["ce-id"] for fields in entries]


def wanted(entries: Iterable[DeliveredEntry]) -> list[str]:
    return [str(entry.event_id) for entry in entries]
