"""What a delivery report that is an error says of its message."""

from __future__ import annotations

from enum import Enum
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from ...exceptions import Unavailable

__all__ = ["Fenced", "Verdict", "is_fence", "verdict_of"]


class Fenced(Unavailable):
    """Another producer has taken the transactional id over."""


class Verdict(Enum):
    """Whose fault it is that a message was not taken."""

    MESSAGE = "message"
    """That of a message in the request, which no broker with these limits will ever take."""
    TOPIC = "topic"
    """The topic is not there, or not for us."""
    FENCE = "fence"
    """Another producer has the transactional id now."""
    STOPPED = "stopped"
    """The producer has stopped because of something else, and has not sent it, or has not waited for its report."""
    BROKER = "broker"
    """None of these: the sender as a whole is in trouble."""


_MESSAGE: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
    }
)
_TOPIC: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_FENCE: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
_STOPPED: Final = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_VERDICTS: Final = {
    **dict.fromkeys(_MESSAGE, Verdict.MESSAGE),
    **dict.fromkeys(_TOPIC, Verdict.TOPIC),
    **dict.fromkeys(_FENCE, Verdict.FENCE),
    **dict.fromkeys(_STOPPED, Verdict.STOPPED),
}


def verdict_of(error: KafkaError) -> Verdict:
    """The verdict on an error of a delivery report, of ``produce()`` or of a topic's metadata."""
    return _VERDICTS.get(error.code(), Verdict.BROKER)


def is_fence(error: BaseException) -> bool:
    """Whether the error, or one that it hides, says that another producer has the transactional id."""
    cause = error.__cause__ or error
    return isinstance(cause, KafkaException) and verdict_of(cause.args[0]) is Verdict.FENCE
