"""What is set of librdkafka: what the guarantees rest on is ours, the rest the user's."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

__all__ = ["BATCH_BYTES", "ProducerOptions", "is_topic_name", "reason_of"]

BATCH_BYTES: Final = 128 * 1024
"""A message that is larger goes in a request of its own."""
_ADDRESS: Final = re.compile(r"([A-Za-z_]+://)?[^\s,/@]+")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")

_unheard = logging.Logger("unheard")  # noqa: LOG001 - what a producer that does nothing has to say is for nobody

_GUARANTEED: Final = "the sender's guarantees rest on it"
_OURS: Final[Mapping[str, str]] = {
    "bootstrap.servers": "use the option url",
    "metadata.broker.list": "use the option url",
    "message.max.bytes": "use the option max_bytes",
    "queue.buffering.max.messages": "use the option max_in_flight",
    "message.timeout.ms": "use the option timeout",
    "delivery.timeout.ms": "use the option timeout",
    "socket.connection.setup.timeout.ms": "use the option connect_timeout",
    "transactional.id": "use the option transactional_id",
    "batch.size": "it is how the sender finds the message that a broker refuses",
    "batch.num.messages": "it is how the sender finds the message that a broker refuses",
    **dict.fromkeys(
        (
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "enable.gapless.guarantee",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "retries",
            "message.send.max.retries",
            "partitioner",
            "queuing.strategy",
            "delivery.report.only.error",
            "default.topic.config",
        ),
        _GUARANTEED,
    ),
    **dict.fromkeys(("dr_cb", "dr_msg_cb", "on_delivery", "error_cb", "logger"), "the sender listens there itself"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerOptions:
    """The options of a producer. Valid, or a ValueError that names the option.

    ``config`` holds options of librdkafka by their names there; those that are ours are refused, and what librdkafka itself
    thinks of them says ``problem()``.
    """

    url: str
    config: Mapping[str, object] = field(repr=False)
    """Not in the repr: passwords are in it."""
    max_in_flight: int
    max_bytes: int
    connect_timeout: timedelta

    def __post_init__(self) -> None:
        if not isinstance(self.config, Mapping) or not all(isinstance(name, str) for name in self.config):
            raise ValueError(
                f"config must be a dict of options of librdkafka by name, got {type(self.config).__name__}."
            )
        for name in self.config:
            if name in _OURS:
                raise ValueError(f"config cannot have {name!r}: {_OURS[name]}.")

    def url_problem(self) -> str | None:
        """What is wrong with the addresses; None when nothing is. They are not repeated: there may be a password in them."""
        addresses = self.url.split(",") if isinstance(self.url, str) else []
        if addresses and all(_ADDRESS.fullmatch(each.strip()) for each in addresses):
            return None
        return (
            "Kafka: the url must be 'host:port', or several joined by ','; no path, user or password belongs into it."
        )

    def problem(self) -> str | None:
        """What librdkafka does not like; None when it takes them. Connects to nothing."""
        config = self.producer_config(one_by_one=False)
        del config["bootstrap.servers"]  # without them there is nobody to connect to
        try:
            Producer({**config, "log_level": 0}, logger=_unheard)
        except (KafkaException, TypeError, ValueError) as error:
            return f"Kafka: {reason_of(error)}"
        return None

    def producer_config(self, *, one_by_one: bool, transactional_id: str | None = None) -> dict[str, Any]:
        """``one_by_one``: each message in a request of its own, so that what is refused is that one and no other."""
        config: dict[str, Any] = {
            "client.id": "django-eventstore",
            # Warnings; not that an option of ours is called experimental, nor that connections come and go.
            "log_level": 4,
            "reconnect.backoff.max.ms": 1_000,
            "socket.keepalive.enable": True,
            **self.config,
            "bootstrap.servers": self.url,
            "acks": "all",
            "enable.idempotence": True,
            # As Java's producers do it, so that others who write a stream's messages write to the same partition.
            "partitioner": "murmur2_random",
            "message.max.bytes": self.max_bytes,
            "queue.buffering.max.messages": self.max_in_flight,
            "batch.size": BATCH_BYTES,
            # A message that times out alone would leave a gap that those behind it close. The sender gives up on all.
            "message.timeout.ms": 0,
            "socket.connection.setup.timeout.ms": max(1_000, _milliseconds(self.connect_timeout)),
        }
        if one_by_one:
            config["batch.num.messages"] = 1
        if transactional_id is None:
            # What comes after a message that failed is not sent: else it would be there first.
            config["enable.gapless.guarantee"] = True
        else:
            config["transactional.id"] = transactional_id
        return config


def is_topic_name(name: str) -> bool:
    """Whether Kafka takes it as the name of a topic."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


def reason_of(error: BaseException) -> str:
    """What librdkafka says of an error, without the decoration of its classes."""
    cause = error.__cause__ or error  # what is raised while another error is on its way hides that one
    known = cause.args[0] if isinstance(cause, KafkaException) and cause.args else None
    return f"{type(cause).__name__}: {cause}" if known is None else f"{known.str()} ({known.name()})"


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1_000)
