"""What leaves is read by the CloudEvents SDK, and is what was recorded."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest
from cloudevents.core.bindings import rabbitmq
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from django_eventstore.events.cloudevents import MEDIA_TYPE, CloudEvents, from_header, sequence, to_header
from django_eventstore.events.wire import WireFormat
from django_eventstore.exceptions import PermanentError
from django_eventstore.testing.contracts import ContractEntry

pytestmark = pytest.mark.no_database

LOG = UUID("0198c0de-0000-7000-8000-00000000000a")
EVENT = UUID("0198c0de-0000-7000-8000-00000000000b")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WHEN = datetime(2026, 11, 27, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
CLOUD_EVENTS = CloudEvents(log=LOG, epoch=3)


def entry(**changes: object) -> ContractEntry:
    given = {
        "position": 42,
        "event_id": EVENT,
        "type": "orders.OrderPlaced",
        "version": 2,
        "payload": '{"total": "1.10", "big": 12345678901234567890123}',
        "stream": "order-42",
        "timestamp": WHEN,
    }
    return ContractEntry(**{**given, **changes})


FULL = entry(
    correlation_id="request-1",
    causation_id="0198c0de-0000-7000-8000-00000000000c",
    metadata=f'{{"actor":"7","traceparent":"{PARENT}","tracestate":"a=1"}}',
    subject="customer-7",
)
ATTRIBUTES = {
    "specversion": "1.0",
    "id": str(EVENT),
    "source": f"urn:uuid:{LOG}",
    "type": "orders.OrderPlaced",
    "subject": "order-42",
    "time": "2026-11-27T10:00:00.000005Z",
    "datacontenttype": "application/json",
    "dataschema": "urn:schema:orders.OrderPlaced:2",
    "sequence": "0000000000000000042",
    "partitionkey": "order-42",
    "epoch": 3,
    "traceparent": PARENT,
    "tracestate": "a=1",
    "correlationid": "request-1",
    "causationid": "0198c0de-0000-7000-8000-00000000000c",
}


def read(body: bytes) -> CloudEvent:
    return JSONFormat().read(None, body)


def attributes_of(event: CloudEvent) -> dict[str, object]:
    return {**event.get_attributes(), "time": event.get_time().isoformat().replace("+00:00", "Z")}


def test_an_entry_has_these_attributes():
    assert ATTRIBUTES == CLOUD_EVENTS.attributes(FULL)


def test_what_has_no_value_is_left_out():
    absent = {"subject", "partitionkey", "traceparent", "tracestate", "correlationid", "causationid"}
    assert ATTRIBUTES.keys() - absent == CLOUD_EVENTS.attributes(entry(stream="")).keys()


def test_whose_data_it_is_stays_here():
    assert b"customer-7" not in CLOUD_EVENTS.structured(FULL)


def test_the_sdk_reads_the_structured_form():
    event = read(CLOUD_EVENTS.structured(FULL))
    assert ATTRIBUTES == attributes_of(event)
    assert json.loads(FULL.payload) == event.get_data()


def test_the_payload_is_put_in_byte_for_byte():
    assert FULL.payload.encode() in CLOUD_EVENTS.structured(FULL)


def test_a_batch_is_an_array_of_them():
    entries = [entry(position=n) for n in (1, 2, 3)]
    body = CLOUD_EVENTS.batch(entries)
    assert b"[" + b",".join(CLOUD_EVENTS.structured(each) for each in entries) + b"]" == body
    assert [sequence(n) for n in (1, 2, 3)] == [
        read(json.dumps(each).encode()).get_extension("sequence") for each in json.loads(body)
    ]


def test_an_empty_batch_is_an_empty_array():
    assert b"[]" == CLOUD_EVENTS.batch([])


def test_data_that_is_not_said_to_be_json_is_a_string():
    event = json.loads(CLOUD_EVENTS.structured(entry(content_type="text/csv", payload='"a;b"')))
    assert '"a;b"' == event["data"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.order+json"]
)
def test_data_of_a_json_type_is_json(content_type):
    assert {"a": 1} == json.loads(CLOUD_EVENTS.structured(entry(content_type=content_type, payload='{"a":1}')))["data"]


def test_the_sdk_reads_the_binary_form_of_rabbitmq():
    wire = WireFormat().writer(log=LOG, epoch=3)(FULL)
    event = rabbitmq.from_rabbitmq_event(rabbitmq.RabbitMQMessage(dict(wire.headers), wire.content_type, wire.body))
    assert {**ATTRIBUTES, "epoch": "3"} == attributes_of(event)
    assert FULL.payload.encode() == wire.body


STREAM = 'commande n° 1 "été" 100% \U0001f9fe'


def test_the_sdk_reads_the_binary_form_of_http_with_text_of_any_kind():
    wire = WireFormat(encode=to_header).writer(log=LOG, epoch=3)(entry(stream=STREAM))
    assert all(value.isascii() and value.isprintable() for value in wire.headers.values())
    event = from_http_event(HTTPMessage({**wire.headers, "content-type": wire.content_type}, wire.body))
    assert STREAM == event.get_subject()


def test_headers_are_encoded_as_the_binding_says():
    # The example of the HTTP protocol binding, and one character of each kind that it names.
    assert "Euro%20%E2%82%AC%20%F0%9F%98%80" == to_header("Euro € \U0001f600")
    assert "%22%25%20%7F~!/?" == to_header('"% \x7f~!/?')


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_a_header(text):
    encoded = to_header(text)
    assert text == from_header(encoded)
    assert all(0x21 <= ord(character) <= 0x7E and character != '"' for character in encoded)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_sequences_sort_as_positions(one, other):
    assert (one < other) == (sequence(one) < sequence(other))


PERMITTED = st.characters(exclude_categories=["Cc", "Cs", "Cn"])


@given(st.text(PERMITTED, max_size=50), st.text(PERMITTED, max_size=50))
def test_any_permitted_text_is_read_by_the_sdk(stream, correlation):
    given = entry(stream=stream, correlation_id=correlation, payload=json.dumps({"text": stream}))
    event = read(CLOUD_EVENTS.structured(given))
    assert (stream or None, {"text": stream}) == (event.get_subject(), event.get_data())
    assert (correlation or None) == event.get_extension("correlationid")


@pytest.mark.parametrize(
    "character",
    ["\x00", "\n", "\x1f", "\x7f", "\x9f", "\ufffe", "\uffff", "\ufdd0", "\U0001fffe", "\U0010ffff", "\ud800"],
)
@pytest.mark.parametrize("name", ["stream", "correlation_id", "causation_id", "content_type"])
def test_a_character_that_no_attribute_may_hold_is_the_events_fault(name, character):
    with pytest.raises(PermanentError, match=str(EVENT)):
        CLOUD_EVENTS.structured(entry(**{name: f"a{character}b"}))


@pytest.mark.parametrize(
    "metadata",
    [
        '{"traceparent":7}',
        '{"traceparent":"nonsense"}',
        '{"traceparent":null}',
        '{"x":"\\"traceparent\\""}',
        '{"traceparent":"',
    ],
)
def test_what_is_no_trace_is_left_out(metadata):
    assert "traceparent" not in CLOUD_EVENTS.attributes(entry(metadata=metadata))


def test_a_tracestate_that_is_no_text_is_left_out():
    attributes = CLOUD_EVENTS.attributes(entry(metadata=f'{{"traceparent":"{PARENT}","tracestate":[1]}}'))
    assert (PARENT, False) == (attributes["traceparent"], "tracestate" in attributes)


def test_source_and_dataschema_are_options():
    events = CloudEvents(
        log=LOG, epoch=1, source="https://shop.example/orders", dataschema="https://shop.example/{type}/{version}.json"
    )
    event = read(events.structured(FULL))
    assert "https://shop.example/orders" == event.get_source()
    assert "https://shop.example/orders.OrderPlaced/2.json" == event.get_dataschema()
    assert "dataschema" not in CloudEvents(log=LOG, epoch=1, dataschema="").attributes(FULL)


@pytest.mark.parametrize(
    "options",
    [
        {"source": "with space"},
        {"source": "ü"},
        {"dataschema": "/relative/{type}"},
        {"dataschema": "https://shop.example/{name}"},
        {"dataschema": "https://shop.example/{0}"},
        {"dataschema": "https://shop.example/{type"},
        {"dataschema": "https://shop.example/{type.__class__}"},
    ],
)
def test_a_bad_option_is_an_error_at_once(options):
    with pytest.raises(ValueError):
        CloudEvents(log=LOG, epoch=1, **options)
    with pytest.raises(ValueError):
        WireFormat(**options)


def test_an_unknown_format_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match="'binary', 'structured', 'json'"):
        WireFormat(shape="xml")


def test_the_structured_form_has_no_headers():
    wire = WireFormat(shape="structured").writer(log=LOG, epoch=3)(FULL)
    assert (MEDIA_TYPE, {}, CLOUD_EVENTS.structured(FULL)) == (wire.content_type, wire.headers, wire.body)


def test_plain_json_is_what_the_api_shows_and_the_log_that_it_is_of():
    wire = WireFormat(shape="json").writer(log=LOG, epoch=3)(FULL)
    assert "application/json" == wire.content_type
    assert {
        "log": str(LOG),
        "epoch": 3,
        "position": 42,
        "event_id": str(EVENT),
        "type": "orders.OrderPlaced",
        "version": 2,
        "content_type": "application/json",
        "stream": "order-42",
        "stream_version": None,
        "timestamp": "2026-11-27T10:00:00.000005Z",
        "correlation_id": "request-1",
        "causation_id": "0198c0de-0000-7000-8000-00000000000c",
        "metadata": json.loads(FULL.metadata),
        "payload": json.loads(FULL.payload),
    } == json.loads(wire.body)
    assert FULL.payload.encode() in wire.body


def test_several_at_once_are_a_batch_of_either_kind():
    entries = [entry(position=n) for n in (1, 2)]
    wire = WireFormat().write_batch(entries, log=LOG, epoch=3)
    assert ("application/cloudevents-batch+json", CLOUD_EVENTS.batch(entries)) == (wire.content_type, wire.body)
    plain = WireFormat(shape="json").write_batch(entries, log=LOG, epoch=3)
    assert ("application/json", [1, 2]) == (plain.content_type, [each["position"] for each in json.loads(plain.body)])


def test_prefix_and_encoding_are_the_bindings():
    wire = WireFormat(prefix="ce_", encode=str.upper).writer(log=LOG, epoch=3)(entry(stream="a"))
    assert "A" == wire.headers["ce_subject"]
