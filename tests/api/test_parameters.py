from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from django_eventstore import record

pytestmark = pytest.mark.django_db

WRONG_INTEGERS = [
    "-1",
    "1.5",
    "%2B1",  # +1
    "%201",
    "1%20",
    "1%0A",
    "%D9%A1",  # ١
    "%EF%BC%91",  # １
    "",
    "0x10",
    "1_0",
    "1e3",
    "NaN",
    "None",
    "9223372036854775808",
    str(10**30),
    "9" * 5_000,
    "00000000000000000001",
    "1%00",
]


@pytest.mark.parametrize("name", ["offset", "limit", "epoch"])
@pytest.mark.parametrize("value", WRONG_INTEGERS)
def test_a_number_that_is_not_plain_63_bit_decimal_digits_is_refused(client: APIClient, name: str, value: str) -> None:
    response = client.get(f"/events?{name}={value}")

    assert 400 == response.status_code
    assert [name] == list(response.json())


@pytest.mark.parametrize("name", ["limit", "epoch"])
def test_limit_and_epoch_begin_at_one(client: APIClient, name: str) -> None:
    response = client.get(f"/events?{name}=0")

    assert 400 == response.status_code
    assert [name] == list(response.json())


@pytest.mark.parametrize(
    "given, meant", [("ofset", "offset"), ("Limit", "limit"), ("type", "types"), ("streams", "stream")]
)
def test_a_misspelt_parameter_is_refused_with_the_name_it_resembles(client: APIClient, given: str, meant: str) -> None:
    response = client.get(f"/events?{given}=1")

    assert 400 == response.status_code
    assert {given: [f"Unknown parameter. Did you mean {meant!r}?"]} == response.json()


@pytest.mark.parametrize("name", ["after", "format", "wait", "version", "subject", "correlation_id"])
def test_an_unknown_parameter_is_refused(client: APIClient, name: str) -> None:
    response = client.get(f"/events?{name}=1")

    assert 400 == response.status_code
    assert [name] == list(response.json())


def test_a_long_name_is_not_repeated_whole(client: APIClient) -> None:
    response = client.get(f"/events?{'x' * 50_000}=1")

    assert 400 == response.status_code
    assert len(response.content) < 1_000


@pytest.mark.parametrize("name", ["offset", "limit", "stream", "epoch"])
def test_a_parameter_given_twice_is_refused(client: APIClient, name: str) -> None:
    response = client.get(f"/events?{name}=1&{name}=1")

    assert 400 == response.status_code
    assert [name] == list(response.json())


@pytest.mark.parametrize(
    "pattern", ["orders", "orders.", "*.*", "a.*.b", "a.B*", "a.B,", ",a.B", "a b.C", "a.B%00", "a.Ü", "a." + "x" * 200]
)
def test_a_wrong_type_pattern_is_refused(client: APIClient, pattern: str) -> None:
    response = client.get(f"/events?types={pattern}")

    assert 400 == response.status_code
    assert ["types"] == list(response.json())


def test_too_many_types_are_refused(client: APIClient) -> None:
    names = [f"a.B{number}" for number in range(201)]

    assert 400 == client.get("/events", {"types": ",".join(names)}).status_code
    assert 200 == client.get("/events", {"types": ",".join(names[:-1])}).status_code


@pytest.mark.parametrize("stream", ["x" * 201, "a%00b"])
def test_a_stream_that_cannot_be_is_refused(client: APIClient, stream: str) -> None:
    response = client.get(f"/events?stream={stream}")

    assert 400 == response.status_code
    assert ["stream"] == list(response.json())


def test_the_longest_stream_is_found(client: APIClient) -> None:
    record("a.B", {}, stream="ü" * 200)

    assert 1 == len(client.get("/events", {"stream": "ü" * 200}).json()["events"])


def test_every_problem_is_named_at_once(client: APIClient) -> None:
    response = client.get("/events?offset=-1&limit=0&types=x&foo=1")

    assert {"offset", "limit", "types", "foo"} == set(response.json())


def test_the_head_takes_no_parameters(client: APIClient) -> None:
    assert 400 == client.get("/events/head?epoch=1").status_code
