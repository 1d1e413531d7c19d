from __future__ import annotations

import json
import re
import threading
import uuid
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection, connections, transaction
from rest_framework.test import APIClient

from django_eventstore import EventEntry, EventStore, record
from tests.api.statements import captured_statements
from tests.databases import chosen_vendor

HOSTILE = {
    "script": "</script><script>alert(1)</script>",
    "quotes": '"\'\\" \\u0022 %s %(x)s {0} %b',
    "unicode": "\u2028\u2029 ü 名 \U0001f600 \x7f",
    "controls": "\t\n\r\x01",
    "numbers": [0, -1, 10**18, 1.5, 1e300],
    "empty": [{}, [], "", None, True],
    'a key with " in it': {"</script>": 1},
}


def url_of_next(response: Any) -> str:
    match = re.fullmatch(r'<(?P<url>[^>]+)>; rel="next"', response["Link"])
    assert match is not None, response["Link"]
    return match["url"]


def record_raw(payload: str, **columns: Any) -> None:
    """An INSERT of another program, which names what it likes."""
    names = ["type", "payload", *columns]
    marks = ", ".join(["%s"] * len(names))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO eventstore_entry ({', '.join(names)}) VALUES ({marks})", ["raw.E", payload, *columns.values()]
        )


@pytest.mark.django_db
def test_an_empty_log_is_a_complete_page(client: APIClient) -> None:
    response = client.get("/events")

    page = response.json()
    assert 200 == response.status_code
    assert "application/json" == response["Content-Type"]
    assert {"log", "epoch", "events", "next_offset", "complete", "head"} == set(page)
    assert ([], 0, True, 0) == (page["events"], page["next_offset"], page["complete"], page["head"])


@pytest.mark.django_db
def test_an_event_is_sent_with_all_its_fields_and_not_with_its_subject(client: APIClient) -> None:
    event_id = uuid.uuid4()
    before = datetime.now(timezone.utc)
    record(
        "shop.Happened",
        {"total": "1.10"},
        stream="order-42",
        expected_version=0,
        metadata={"actor": "ä"},
        event_id=event_id,
        subject="customer-7-is-secret",
    )

    response = client.get("/events")

    (event,) = response.json()["events"]
    timestamp = event.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", timestamp)
    assert before <= datetime.fromisoformat(timestamp.replace("Z", "+00:00")) <= datetime.now(timezone.utc)
    assert {
        "position": 1,
        "event_id": str(event_id),
        "type": "shop.Happened",
        "version": 1,
        "content_type": "application/json",
        "stream": "order-42",
        "stream_version": 1,
        "correlation_id": None,
        "causation_id": None,
        "metadata": {"actor": "ä"},
        "payload": {"total": "1.10"},
    } == event
    assert b"secret" not in response.content


@pytest.mark.django_db
def test_timestamps_are_utc_with_six_digits_whatever_the_time_zone_of_the_project(
    client: APIClient, settings: Any
) -> None:
    settings.TIME_ZONE = "Asia/Kathmandu"
    moment = datetime(2026, 3, 1, 12, 0, 0, 0, tzinfo=timezone.utc)
    EventEntry.objects.create(type="a.B", payload="{}", metadata="{}", timestamp=moment)

    (event,) = client.get("/events").json()["events"]

    assert "2026-03-01T12:00:00.000000Z" == event["timestamp"]


@pytest.mark.django_db
def test_hostile_events_come_back_as_they_were_recorded(client: APIClient) -> None:
    stream = 'o"</script>\u2028名\\'
    record("shop.Hostile", HOSTILE, stream=stream, metadata=HOSTILE)

    (event,) = client.get("/events").json()["events"]

    assert HOSTILE == event["payload"]
    assert HOSTILE == event["metadata"]
    assert stream == event["stream"]


@pytest.mark.django_db
def test_names_of_raw_inserts_are_escaped(client: APIClient) -> None:
    hostile = 'x","payload":{"forged":1},"y":"\\'
    record_raw("{}", stream=hostile, content_type=hostile, correlation_id=hostile, causation_id=hostile)

    (event,) = client.get("/events").json()["events"]

    assert {} == event["payload"]
    assert [hostile] * 4 == [event[name] for name in ("stream", "content_type", "correlation_id", "causation_id")]


@pytest.mark.django_db
def test_payload_and_metadata_are_sent_byte_for_byte(client: APIClient) -> None:
    payload = '{ "b" : 1.10, "a":\n1E+2 ,"dup":1,"dup":2, "n": 123456789012345678901234567890.50, "u":"\\u00e9é" }'
    metadata = '{"z" :1,  "a": 2.50}'
    record_raw(payload, metadata=metadata)

    response = client.get("/events")

    assert f'"metadata":{metadata},"payload":{payload}}}'.encode() in response.content
    json.loads(response.content)


@pytest.mark.django_db
def test_an_event_of_a_megabyte_is_sent_whole(client: APIClient) -> None:
    text = "ü</script>" * 90_000
    record("shop.Large", {"text": text})

    (event,) = client.get("/events").json()["events"]

    assert text == event["payload"]["text"]


@pytest.mark.django_db
def test_types_stream_and_offset_select(client: APIClient) -> None:
    for number, type_ in enumerate(["a.B", "c.D", "c.e.F", "cc.D", "a.B"], 1):
        record(type_, {"n": number}, stream=f"order-{number % 2}")

    def numbers(query: str) -> list[int]:
        return [event["payload"]["n"] for event in client.get(f"/events?{query}").json()["events"]]

    assert [1, 2, 3, 5] == numbers("types=a.B,c.*")
    assert [1, 2, 3, 5] == numbers("types=a.B&types=c.*")
    assert [1, 3, 5] == numbers("stream=order-1")
    assert [3, 5] == numbers("stream=order-1&offset=1")
    assert [1, 5] == numbers("stream=order-1&types=a.*")
    assert [1, 2, 3, 4, 5] == numbers("types=*")
    assert [1, 2, 3, 4, 5] == numbers("types=&stream=")
    assert [] == numbers("types=A.b")
    assert [] == numbers("stream=ORDER-1")


@pytest.mark.django_db
def test_the_link_leads_on_with_the_same_filters(client: APIClient) -> None:
    for number in range(5):
        record("a.B", {"n": number}, stream="a&b=ü,>")
        record("c.D", {"n": number})

    response = client.get("/events", {"types": "a.*,x.Y", "stream": "a&b=ü,>", "limit": "3"})

    url = urlsplit(url_of_next(response))
    assert ("http", "testserver", "/events") == (url.scheme, url.netloc, url.path)
    page = response.json()
    expected = {
        "offset": [str(page["next_offset"])],
        "limit": ["3"],
        "types": ["a.*,x.Y"],
        "stream": ["a&b=ü,>"],
        "epoch": [str(page["epoch"])],
    }
    assert expected == parse_qs(url.query)
    rest = client.get(url_of_next(response)).json()
    assert [3, 4] == [event["payload"]["n"] for event in rest["events"]]


@pytest.mark.django_db
def test_the_end_of_the_log_has_a_link_too(client: APIClient) -> None:
    record("a.B", {})

    link = url_of_next(client.get("/events"))

    assert link.endswith("/events?offset=1&limit=100&epoch=1")
    assert [] == client.get(link).json()["events"]


@pytest.mark.django_db
def test_only_a_complete_page_names_the_head(client: APIClient) -> None:
    for number in range(3):
        record("a.B", {"n": number})

    first, last = client.get("/events?limit=2").json(), client.get("/events?offset=2&limit=2").json()

    assert (False, 2) == (first["complete"], first["next_offset"])
    assert "head" not in first
    assert (True, 3, 3) == (last["complete"], last["next_offset"], last["head"])


@pytest.mark.django_db
def test_the_limit_is_100_unless_given_and_capped_by_the_setting(client: APIClient, settings: Any) -> None:
    for number in range(101):
        record("a.B", {"n": number})

    assert 100 == len(client.get("/events").json()["events"])
    assert 101 == len(client.get("/events?limit=101").json()["events"])
    settings.EVENTSTORE = {"PAGE_LIMIT": 7}
    capped = client.get("/events?limit=9223372036854775807")
    assert 7 == len(capped.json()["events"])
    assert "limit=7&" in url_of_next(capped)
    assert 7 == len(client.get("/events").json()["events"])
    # More than the store reads in one page.
    settings.EVENTSTORE = {"PAGE_LIMIT": 10**12}
    assert 101 == len(client.get(f"/events?limit={10**11}").json()["events"])


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_page_takes_few_statements_and_never_counts_or_skips_rows(client: APIClient) -> None:
    with transaction.atomic():
        for number in range(30):
            record("a.B", {"n": number}, stream="order-1")
    client.get("/events")
    # A pass of the sequencer, the log's state, the page; and the types when there is a filter of types.
    passes = 0 if chosen_vendor() == "sqlite" else 1

    for query, expected in {
        "limit=10": 2,
        "offset=20&limit=10": 2,
        "offset=20&types=a.B": 3,
        "offset=5&types=a.*&stream=order-1": 3,
        "stream=order-1": 2,
        "types=none.*": 2,
    }.items():
        with captured_statements(*connections) as statements:
            assert 200 == client.get(f"/events?{query}").status_code
        assert passes + expected == len(statements), (query, statements)
        for statement in statements:
            # OFFSET 0 skips nothing, and says something to the planner.
            assert not re.search(r"\bOFFSET (?!0\))|\bCOUNT\s*\(", statement, re.IGNORECASE), statement

    with captured_statements(*connections) as statements:
        client.get("/events/head")
    assert passes + 1 == len(statements), statements


@pytest.mark.django_db(transaction=True)
def test_reading_page_by_page_while_others_write_is_reading_the_log(client: APIClient) -> None:
    writers, rounds = 4, 25
    errors: list[BaseException] = []
    finished = threading.Barrier(writers + 1)

    def write(writer: int) -> None:
        try:
            for number in range(rounds):
                with transaction.atomic():
                    record("w.Wrote", {"writer": writer, "n": number, "text": "ü" * number}, stream=f"w-{writer}")
                    record("w.Also", {"writer": writer, "n": number})
        except BaseException as error:
            errors.append(error)
        finally:
            connections["default"].close()
            finished.wait(timeout=60)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[dict[str, Any]] = []
    url, requests, pages_while_writing = "/events?limit=7", 0, 0
    while True:
        alone = finished.n_waiting == writers  # read before the page: everything was committed before it
        response = client.get(url)
        page = response.json()
        seen.extend(page["events"])
        url, requests = url_of_next(response), requests + 1
        pages_while_writing += bool(page["events"]) and not alone
        if alone and page["complete"]:
            break
        assert requests < 10_000
    finished.wait(timeout=60)
    for thread in threads:
        thread.join()

    assert [] == errors
    assert pages_while_writing > 1
    assert 2 * writers * rounds == page["head"] == len(seen)
    assert list(range(1, len(seen) + 1)) == [event["position"] for event in seen]
    log = EventStore().get(0, 1_000).entries
    assert [str(entry.event_id) for entry in log] == [event["event_id"] for event in seen]
    assert [entry.data for entry in log] == [event["payload"] for event in seen]
