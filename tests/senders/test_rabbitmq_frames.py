"""The frames are, octet for octet, those that py-amqp writes."""

from __future__ import annotations

import amqp
import pytest
from amqp import spec
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st

from django_eventstore.exceptions import PermanentError
from django_eventstore.senders.rabbitmq.frames import Message, octets, publish_frames

pytestmark = pytest.mark.no_database

FRAME_MAX = 4096


class Written:
    """A connection and its transport, as far as py-amqp's writer looks at them."""

    frame_max = FRAME_MAX
    bytes_sent = 0

    def __init__(self):
        self.octets = b""

    def write(self, piece):
        self.octets += bytes(piece)


def by_py_amqp(message: Message, *, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    content = amqp.Message(
        message.body,
        content_type=message.content_type,
        application_headers=message.headers or None,
        delivery_mode=2,
        message_id=message.message_id,
        type=message.type,
        timestamp=message.timestamp,
        correlation_id=message.correlation_id or None,
    )
    written = Written()
    arguments = dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
    frame_writer(written, written)(1, 7, spec.Basic.Publish, arguments, content)
    return written.octets


def require_the_same(message: Message, **way: object) -> None:
    assert by_py_amqp(message, **way) == publish_frames(message, channel=7, frame_max=FRAME_MAX, **way)


def message(**changes: object) -> Message:
    given = {"body": b"{}", "content_type": "application/json", "headers": {"ce-id": "1"}, "message_id": "1"}
    return Message(**{**given, "type": "orders.OrderPlaced", "timestamp": 1_795_000_000, **changes})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(
    body=st.binary(max_size=200),
    headers=st.dictionaries(TEXT.filter(bool), TEXT, max_size=15),
    name=TEXT,
    correlation_id=st.none() | TEXT.filter(bool),
    timestamp=st.integers(0, 2**40),
    mandatory=st.booleans(),
)
def test_any_message_is_written_as_py_amqp_writes_it(body, headers, name, correlation_id, timestamp, mandatory):
    made = message(
        body=body, headers=headers, message_id=name, type=name, correlation_id=correlation_id, timestamp=timestamp
    )
    require_the_same(made, exchange=name, routing_key=name, mandatory=mandatory)


@pytest.mark.parametrize(
    "size", [0, 1, FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, 2 * (FRAME_MAX - 8), 10 * FRAME_MAX + 1]
)
def test_a_body_is_cut_where_a_frame_is_full(size):
    require_the_same(message(body=b"x" * size), exchange="orders", routing_key="a", mandatory=True)


def test_headers_that_fit_into_no_frame_are_the_events_fault():
    with pytest.raises(PermanentError, match="a frame has room for 4088"):
        publish_frames(
            message(headers={"a": "x" * FRAME_MAX}),
            exchange="",
            routing_key="",
            mandatory=True,
            channel=1,
            frame_max=FRAME_MAX,
        )


def test_octets_are_counted_as_utf_8():
    assert (3, 6) == (octets("abc"), octets("aé漢"))
