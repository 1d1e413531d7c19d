"""Connections to Redis, one for each server that has some of the keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...exceptions import Unavailable
from .address import Address

try:
    from redis import ConnectionPool, ResponseError
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode, RedisCluster
    from redis.exceptions import ExecAbortError
    from redis.retry import Retry
except ImportError as error:
    raise ImportError("The Redis sender needs redis-py: pip install 'django-eventstore[redis]'") from error

__all__ = ["Addition", "Link"]

PORT = 6379
PATIENCE_OF_REPLICAS = 0.8
"""Part of the longest silence that is left to the replicas: the server must answer before we give up."""


@dataclass(frozen=True, slots=True)
class Addition:
    """An entry for the stream at ``key``, and the number of its event in the batch."""

    number: int
    key: str
    fields: tuple[str | bytes, ...]
    """Names and values in turn."""


class Link:
    """Appends to streams. Nothing is tried twice here: what may have been done is not known to be undone."""

    def __init__(self, address: Address, *, trim: Sequence[str], replicas: int) -> None:
        """``trim``: what stands between key and id in each XADD. ``replicas``: how many must have what was appended."""
        self._address = address
        self._trim, self._replicas = tuple(trim), replicas
        self._cluster: Any = None  # much of redis-py has no annotations
        self._connections: dict[object, Any] = {}
        if address.cluster:
            self._cluster = self._meet_cluster()
        else:
            # The pool knows how to make a connection of a URL, and is left out of everything else: what is read is read on
            # the connection that was written on.
            self._pool = ConnectionPool.from_url(address.urls[0], retry=_once(), **address.options())

    def is_usable(self) -> bool:
        """Whether nothing is known against it: a connection on which something can be read has ended, or is out of step."""
        try:
            return not any(connection.can_read() for connection in self._connections.values())
        except Exception:  # noqa: BLE001 - whatever ails it, another one is to be made
            return False

    def append(self, additions: Sequence[Addition], accept: Callable[[int], None]) -> None:
        """Append all, in their order for each key, and call ``accept(number)`` for each that the streams have.

        In one transaction, or for a cluster in one for each slot: of what is in it all is done or nothing, unless a key holds
        something else. Raises Unavailable, and errors of redis-py, when something was not done.
        """
        if self._cluster is None:
            self._transact(self._connection(None), additions, accept)
            return
        groups: dict[int, list[Addition]] = {}
        for addition in additions:
            groups.setdefault(self._cluster.keyslot(addition.key), []).append(addition)
        for group in groups.values():
            node = self._cluster.get_node_from_key(group[0].key)
            self._transact(self._connection(node), group, accept)

    def close(self) -> None:
        """Let go of all connections."""
        for connection in self._connections.values():
            with contextlib.suppress(Exception):
                connection.disconnect()
        self._connections.clear()
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close()

    def _meet_cluster(self) -> Any:
        first, *others = self._address.urls
        make_node: Any = ClusterNode
        nodes = [make_node(str(parts.hostname), parts.port or PORT) for parts in map(urlsplit, others)]
        return RedisCluster(url=first, startup_nodes=nodes, retry=_once(), **self._address.options())

    def _connection(self, node: Any) -> Any:
        """That to a node of the cluster, or the one there is."""
        name = None if node is None else node.name
        connection = self._connections.get(name)
        if connection is None:
            pool: Any = self._pool if node is None else self._cluster.get_redis_connection(node).connection_pool
            connection = self._connections[name] = pool.make_connection()
            connection.connect()
        return connection

    def _transact(self, connection: Any, additions: Sequence[Addition], accept: Callable[[int], None]) -> None:
        commands: list[tuple[object, ...]] = [("MULTI",)]
        commands += [("XADD", addition.key, *self._trim, "*", *addition.fields) for addition in additions]
        commands.append(("EXEC",))
        if self._replicas:
            milliseconds = int(self._address.silence.total_seconds() * 1000 * PATIENCE_OF_REPLICAS)
            commands.append(("WAIT", self._replicas, milliseconds))
        connection.send_packed_command(connection.pack_commands(commands))
        answers = [_answer(connection) for _ in commands]
        waited = answers.pop() if self._replicas else 0
        # The reason that a transaction is refused stands with its command; EXEC says only that it was.
        *queued, done = answers
        for answer in (*queued, done, waited):
            if isinstance(answer, Exception) and not isinstance(answer, ExecAbortError):
                raise answer
        if not isinstance(done, list) or len(done) != len(additions):
            raise done if isinstance(done, Exception) else Unavailable(f"Redis: EXEC answered {done!r}.")
        if not isinstance(waited, int) or waited < self._replicas:
            raise Unavailable(f"Redis: {waited} of {self._replicas} replicas have said that they have it.")
        _settle(additions, done, accept)


def _settle(additions: Sequence[Addition], answers: Sequence[object], accept: Callable[[int], None]) -> None:
    trouble: Exception | None = None
    for addition, answer in zip(additions, answers, strict=True):
        if isinstance(answer, Exception):
            trouble = trouble or Unavailable(f"Redis: key {addition.key!r}: {answer}")
        else:
            accept(addition.number)
    if trouble is not None:
        raise trouble


def _answer(connection: Any) -> object:
    """The next answer, errors of the server included; those of the connection are raised."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _once() -> Retry:
    return Retry(NoBackoff(), 0)
