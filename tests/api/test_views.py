from __future__ import annotations

import base64
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test import Client, override_settings
from django.urls import path, reverse
from rest_framework.renderers import JSONRenderer
from rest_framework.test import APIClient

from django_eventstore import record
from django_eventstore.api.serializers import EpochChangedSerializer, HeadSerializer, PageSerializer
from django_eventstore.api.views import EventViewSet
from django_eventstore.store import begin_epoch

URLS = ["/events", "/events/head"]


class RoutedByTheProject:
    """A project's own routes; the names of the actions are public."""

    urlpatterns = [path("feed/", EventViewSet.as_view({"get": "list", "post": "list", "delete": "list"}))]


def test_the_urls_have_names_and_no_trailing_slash() -> None:
    assert ["/events", "/events/head"] == [reverse("eventstore:events"), reverse("eventstore:head")]


@pytest.mark.django_db
@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("method", ["get", "head", "options"])
class TestAccess:
    def test_anonymous_requests_are_refused(self, url: str, method: str) -> None:
        assert getattr(APIClient(), method)(url).status_code in {401, 403}

    def test_a_user_without_the_permission_is_refused(self, url: str, method: str) -> None:
        client = APIClient()
        client.force_authenticate(User.objects.create_user("other"))

        assert 403 == getattr(client, method)(url).status_code

    def test_an_inactive_superuser_is_refused(self, url: str, method: str) -> None:
        client = APIClient()
        client.force_authenticate(User.objects.create_superuser("gone", is_active=False))

        assert 403 == getattr(client, method)(url).status_code

    def test_a_user_with_the_permission_is_answered(self, url: str, method: str, client: APIClient) -> None:
        assert 200 == getattr(client, method)(url).status_code


@pytest.mark.django_db
@pytest.mark.parametrize("url", URLS)
class TestMethods:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
    def test_writes_are_not_allowed_to_anybody(self, url: str, method: str, client: APIClient) -> None:
        for sender in (client, APIClient(), APIClient(enforce_csrf_checks=True)):
            response = sender.generic(method, url, data=b'{"a": 1}', content_type="application/json")

            assert 405 == response.status_code
            assert "GET, HEAD, OPTIONS" == response["Allow"]

    def test_head_says_what_get_says_without_a_body(self, url: str, client: APIClient) -> None:
        record("a.B", {})
        got = client.get(url)

        headed = client.head(url)

        assert (200, b"") == (headed.status_code, headed.content)
        assert dict(got.headers) == dict(headed.headers)


@pytest.mark.django_db
def test_the_project_cannot_loosen_access_or_representation_by_its_defaults(reader: User) -> None:
    # DRF's own defaults are AllowAny and the browsable API.
    assert [JSONRenderer] == EventViewSet.renderer_classes
    browser = APIClient()
    browser.force_authenticate(reader)

    response = browser.get("/events", HTTP_ACCEPT="text/html,application/xhtml+xml,*/*;q=0.8")

    assert "application/json" == response["Content-Type"]
    assert 406 == browser.get("/events", HTTP_ACCEPT="text/html").status_code


@pytest.mark.django_db
def test_own_routes_keep_the_guards(client: APIClient, settings: Any) -> None:
    settings.ROOT_URLCONF = RoutedByTheProject
    assert 200 == client.get("/feed/").status_code
    assert {405} == {client.post("/feed/").status_code, client.delete("/feed/").status_code}
    assert APIClient().get("/feed/").status_code in {401, 403}


@pytest.mark.django_db
def test_basic_and_session_authentication_work(reader: User) -> None:
    credentials = base64.b64encode(b"reader:reader").decode()
    session = Client()
    session.force_login(reader)

    assert 200 == APIClient().get("/events", HTTP_AUTHORIZATION=f"Basic {credentials}").status_code
    assert 200 == session.get("/events").status_code
    wrong = "Basic " + base64.b64encode(b"reader:no").decode()
    assert APIClient().get("/events", HTTP_AUTHORIZATION=wrong).status_code in {401, 403}


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("urls", [None, RoutedByTheProject])
def test_a_page_is_complete_under_atomic_requests(
    client: APIClient, urls: type[RoutedByTheProject] | None, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    if urls is not None:
        settings.ROOT_URLCONF = urls
    for alias in connections:
        monkeypatch.setitem(connections.settings[alias], "ATOMIC_REQUESTS", True)
    with transaction.atomic():
        record("a.B", {})

    page = client.get("/events" if urls is None else "/feed/").json()

    assert (True, 1, 1) == (page["complete"], page["head"], len(page["events"]))
    if urls is None:
        assert client.get("/events/head").json()["complete"] is True


@pytest.mark.django_db(transaction=True)
def test_a_page_inside_a_transaction_is_not_called_complete(client: APIClient) -> None:
    with transaction.atomic():
        assert False is client.get("/events").json()["complete"]
        assert False is client.get("/events/head").json()["complete"]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_view_may_name_its_database(reader: User) -> None:
    with transaction.atomic(using="other"):
        record("a.B", {"on": "other"}, using="other")
    client = APIClient()
    client.force_authenticate(reader)

    class Urls:
        urlpatterns = [
            path("other", EventViewSet.as_view({"get": "list"}, using="other")),
            path("other/head", EventViewSet.as_view({"get": "head_of_log"}, using="other")),
        ]

    with override_settings(ROOT_URLCONF=Urls):
        page, head = client.get("/other").json(), client.get("/other/head").json()

    assert [{"on": "other"}] == [event["payload"] for event in page["events"]]
    assert 1 == head["head"]
    assert [] == client.get("/events").json()["events"]


@pytest.mark.django_db(transaction=True)
def test_the_head_is_where_the_log_ends_now(client: APIClient) -> None:
    log = client.get("/events").json()["log"]
    with transaction.atomic():
        for number in range(3):
            record("a.B", {"n": number})

    assert {"log": log, "epoch": 1, "head": 3, "complete": True} == client.get("/events/head").json()


@pytest.mark.django_db
class TestEpochs:
    def test_an_offset_above_the_head_is_a_conflict(self, client: APIClient) -> None:
        record("a.B", {})
        log = client.get("/events").json()["log"]

        response = client.get("/events?offset=2")

        body = response.json()
        detail = body.pop("detail")
        assert 409 == response.status_code
        assert "Offset 2" in detail
        assert {"log": log, "epoch": 1, "reader_epoch": None, "head": 1, "began_after": 0} == body

    def test_an_offset_of_another_history_is_a_conflict(self, client: APIClient) -> None:
        for number in range(4):
            record("a.B", {"n": number})
        client.get("/events")
        begin_epoch("default", after=2, reason="a restore")

        shared = client.get("/events?offset=2&epoch=1")
        lost = client.get("/events?offset=3&epoch=1")
        unknown = client.get("/events?offset=0&epoch=9")

        assert (200, 2) == (shared.status_code, shared.json()["epoch"])
        assert (409, 409) == (lost.status_code, unknown.status_code)
        assert (2, 1, 4, 2) == tuple(lost.json()[name] for name in ("epoch", "reader_epoch", "head", "began_after"))
        assert 9 == unknown.json()["reader_epoch"]

    def test_the_largest_offset_and_epoch_are_conflicts_and_no_errors(self, client: APIClient) -> None:
        assert 409 == client.get(f"/events?offset={2**63 - 1}").status_code
        assert 409 == client.get(f"/events?epoch={2**63 - 1}").status_code


@pytest.mark.django_db
class TestCaching:
    def test_the_same_page_is_not_sent_again(self, client: APIClient) -> None:
        record("a.B", {})
        etag = client.get("/events")["ETag"]

        again = client.get("/events", HTTP_IF_NONE_MATCH=etag)

        assert (304, b"") == (again.status_code, again.content)
        assert etag == again["ETag"]
        assert not etag.startswith("W/")
        assert 304 == client.head("/events", HTTP_IF_NONE_MATCH=f'"other", {etag}').status_code
        assert 200 == client.get("/events", HTTP_IF_NONE_MATCH='"other"').status_code

    def test_a_new_event_is_a_new_page(self, client: APIClient) -> None:
        etags = [client.get(url)["ETag"] for url in URLS]

        record("a.B", {})

        again = [client.get(url, HTTP_IF_NONE_MATCH=etag) for url, etag in zip(URLS, etags, strict=True)]
        assert [200, 200] == [response.status_code for response in again]

    def test_every_range_filter_and_epoch_has_its_own_etag(self, client: APIClient) -> None:
        record("a.B", {}, stream="s")
        queries = ["", "?limit=1", "?limit=2", "?types=a.B", "?types=a.*", "?stream=s", "?offset=1", "?epoch=1"]

        etags = [client.get(f"/events{query}")["ETag"] for query in queries]
        begin_epoch("default", reason="a restore")
        etags.append(client.get("/events")["ETag"])
        etags.append(client.get("/events/head")["ETag"])

        assert len(etags) == len(set(etags))

    @pytest.mark.parametrize("url", ["/events", "/events/head", "/events?limit=0", "/events?offset=9"])
    def test_answers_stay_with_their_reader(self, url: str, client: APIClient) -> None:
        for response in (client.get(url), APIClient().get(url)):
            assert "private, no-cache" == response["Cache-Control"]
            vary = {name.strip() for name in response["Vary"].split(",")}
            assert {"Accept", "Authorization", "Cookie"} <= vary
            assert "nosniff" == response["X-Content-Type-Options"]


@pytest.mark.django_db
def test_the_described_bodies_are_the_sent_ones(client: APIClient) -> None:
    record("a.B", {"n": 1}, stream="", metadata={"x": 1})
    record("a.B", {"n": 1}, stream=" s ", expected_version=0)
    bodies: list[tuple[Any, Any]] = [
        (PageSerializer, client.get("/events").json()),
        (HeadSerializer, client.get("/events/head").json()),
        (EpochChangedSerializer, client.get("/events?offset=9").json()),
    ]

    for serializer_class, body in bodies:
        serializer = serializer_class(data=body)
        assert serializer.is_valid(), serializer.errors
        assert set(body) == set(serializer.fields)
    (_, page), *_ = bodies
    assert set(page["events"][0]) == set(PageSerializer().fields["events"].child.fields)
