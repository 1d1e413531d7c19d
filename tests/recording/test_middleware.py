"""EventContextMiddleware, through whole requests, sync and async."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth import login
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from rest_framework.authentication import BasicAuthentication
from rest_framework.decorators import api_view, authentication_classes

from django_eventstore import arecord, get_event_context, record
from django_eventstore.context import EventContext
from django_eventstore.models import EventEntry
from django_eventstore.recording import EventContextMiddleware
from tests import settings as given
from tests.delivery import COUNTED
from tests.test_context import TRACE

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "django_eventstore.recording.EventContextMiddleware"


@transaction.atomic
def recording(request: HttpRequest) -> HttpResponse:
    record(COUNTED, {"n": 1})
    record(COUNTED, {"n": 2})
    return HttpResponse()


async def recording_async(request: HttpRequest) -> HttpResponse:
    await arecord(COUNTED, {"n": 1})
    return HttpResponse()


def nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_event_context().correlation_id)


def failing(request: HttpRequest) -> HttpResponse:
    raise KeyError("view")


@transaction.atomic
def logging_in(request: HttpRequest) -> HttpResponse:
    record(COUNTED, {"n": 1})
    login(request, User.objects.get(), backend="django.contrib.auth.backends.ModelBackend")
    record(COUNTED, {"n": 2})
    return HttpResponse()


@api_view(["GET"])
@authentication_classes([BasicAuthentication])
def framework(request: object) -> HttpResponse:
    return recording(request)  # type: ignore[arg-type]


urlpatterns = [
    path("record", recording),
    path("arecord", recording_async),
    path("nothing", nothing),
    path("failing", failing),
    path("login", logging_in),
    path("framework", framework),
]


@pytest.fixture(autouse=True)
def served():
    with override_settings(
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[*given.MIDDLEWARE, PATH],
        EVENTSTORE={"OUTSIDE_TRANSACTION": "allow", "WAKE_UP": False},
    ):
        yield


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="secret")


def client_of(user: User | None = None, *, raises: bool = True) -> Client:
    client = Client(raise_request_exception=raises)
    if user is not None:
        client.force_login(user)
    return client


def ids() -> set[str | None]:
    return set(EventEntry.objects.values_list("correlation_id", flat=True))


def metadata() -> list[dict[str, object]]:
    return [json.loads(text) for text in EventEntry.objects.order_by("id").values_list("metadata", flat=True)]


def actor(user: User) -> dict[str, str]:
    return {"model": "auth.user", "id": str(user.pk), "label": user.username}


def test_the_correlation_id_of_the_header_is_on_every_event():
    client_of().get("/record", headers={"X-Correlation-ID": "c-1", "X-Request-ID": "r-1"})
    assert {"c-1"} == ids()


def test_without_one_the_request_id_is_it():
    client_of().get("/record", headers={"X-Request-ID": "r-1"})
    assert {"r-1"} == ids()


def test_without_either_every_request_has_a_new_one():
    client_of().get("/record")
    (first,) = ids()
    client_of().get("/record")
    assert 2 == len(ids())
    assert first == str(UUID(first))


@pytest.mark.parametrize("wrong", ["", "x" * 101, "a b", "a\tb", "é", "\x7f"])
def test_a_header_of_a_wrong_form_is_as_none(wrong):
    client_of().get("/record", headers={"X-Correlation-ID": wrong})
    (fresh,) = ids()
    assert fresh == str(UUID(fresh))
    client_of().get("/record", headers={"X-Correlation-ID": wrong, "X-Request-ID": "r-1"})
    assert {fresh, "r-1"} == ids()


def test_a_traceparent_is_taken_and_a_wrong_one_is_not():
    client_of().get("/record", headers={"traceparent": TRACE})
    client_of().get("/record", headers={"traceparent": "'; DROP TABLE"})
    assert [{"traceparent": TRACE}, {"traceparent": TRACE}, {}, {}] == metadata()


def test_the_user_is_the_actor_and_stays_named_when_the_row_is_gone(ada):
    expected = actor(ada)
    client_of(ada).get("/record")
    ada.delete()
    assert [{"actor": expected}] * 2 == metadata()


def test_nobody_is_logged_in_and_nobody_is_named():
    client_of().get("/record")
    assert [{}, {}] == metadata()


def test_a_request_that_records_nothing_asks_for_no_user(ada):
    client = client_of(ada)
    with CaptureQueriesContext(connection) as captured:
        client.get("/nothing")
    assert 0 == len(captured)


def test_the_actor_is_who_is_logged_in_when_the_event_is_recorded(ada):
    client_of().get("/login")
    assert [{}, {"actor": actor(ada)}] == metadata()


def test_a_user_that_the_view_authenticates_is_the_actor(ada):
    basic = "Basic YWRhOnNlY3JldA=="  # ada:secret
    client_of().get("/framework", headers={"Authorization": basic})
    assert [{"actor": actor(ada)}] * 2 == metadata()


def test_after_a_request_its_context_is_gone_also_when_the_view_fails():
    client_of().get("/nothing")
    assert EventContext() == get_event_context()
    client_of(raises=False).get("/failing")
    with pytest.raises(KeyError):
        EventContextMiddleware(failing)(HttpRequest())
    assert EventContext() == get_event_context()


def test_a_subclass_looks_elsewhere():
    class Tenant(EventContextMiddleware):
        correlation_headers = ("X-Trace",)

        def actor(self, request):
            return f"tenant-{request.headers['X-Tenant']}"

    request = HttpRequest()
    request.META = {"HTTP_X_TRACE": "t-1", "HTTP_X_TENANT": "7", "HTTP_X_CORRELATION_ID": "c-1"}
    Tenant(recording)(request)
    assert {"t-1"} == ids()
    assert [{"actor": "tenant-7"}] * 2 == metadata()


@pytest.mark.parametrize("user", [AnonymousUser(), None])
def test_a_request_without_a_user_names_none(user):
    request = HttpRequest()
    if user is not None:
        request.user = user
    EventContextMiddleware(recording)(request)
    assert [{}, {}] == metadata()


# --- async: the client calls the views in an event loop, and Django's own middleware stands around ---


def in_loop(coroutine_function, *arguments):
    return async_to_sync(coroutine_function)(*arguments)


@pytest.mark.parametrize("address", ["/record", "/arecord"])
def test_under_asgi_the_events_carry_header_and_user(ada, address):
    async def ask() -> int:
        client = AsyncClient()
        await client.aforce_login(ada)
        response = await client.get(address, headers={"X-Correlation-ID": "c-1", "traceparent": TRACE})
        return response.status_code

    assert 200 == in_loop(ask)
    assert {"c-1"} == ids()
    assert {"actor": actor(ada), "traceparent": TRACE} == metadata()[0]


def test_under_asgi_requests_at_one_time_do_not_see_each_other():
    async def ask(name: str) -> str:
        response = await AsyncClient().get("/nothing", headers={"X-Correlation-ID": name})
        return response.content.decode()

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(ask(f"c-{number}") for number in range(10)))

    assert [f"c-{number}" for number in range(10)] == in_loop(all_at_once)


def test_it_is_async_where_what_it_wraps_is():
    assert iscoroutinefunction(EventContextMiddleware(recording_async))
    assert not iscoroutinefunction(EventContextMiddleware(recording))
