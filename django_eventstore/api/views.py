"""The viewset of the pull API."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from django.db import connections, router, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from rest_framework import serializers, status
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from ..exceptions import EpochChanged
from ..models import EventEntry
from ..store import EventStore, log_state
from ..store.sequencing import sequence
from .pages import etag, head_body, page_body
from .parameters import page_parameters, refuse_parameters
from .permissions import MayReadEvents
from .serializers import HeadSerializer, PageSerializer

__all__ = ["EventViewSet"]


class AcceptNegotiation(DefaultContentNegotiation):
    """By the Accept header alone: ``?format=`` is an unknown parameter like any other."""

    settings = SimpleNamespace(URL_FORMAT_OVERRIDE=None)  # type: ignore[assignment]  # all that is read of them


class EventViewSet(ViewSet):
    """The log, read by position: a reader keeps its own offset and asks for what comes after it.

    ``using``: the database alias; by default where the router writes events. What decides about access and representation
    is fixed here; authentication and throttling are the project's.
    """

    using: str | None = None

    http_method_names = ["get", "head", "options"]
    permission_classes = [MayReadEvents]
    renderer_classes = [JSONRenderer]
    parser_classes: list[Any] = []
    content_negotiation_class = AcceptNegotiation
    versioning_class = None

    @classmethod
    def as_view(cls, actions: dict[str, Any] | None = None, **initkwargs: Any) -> Any:
        view = super().as_view(actions, **initkwargs)
        # In a transaction of ATOMIC_REQUESTS the sequencer may not run: pages would never be complete.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def get_serializer_class(self) -> type[serializers.Serializer[object]]:
        """What the body holds, for schema generators."""
        return HeadSerializer if self.action == "head_of_log" else PageSerializer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Before authentication, so that the answer to a write is the same for everybody.
        if str(request.method).lower() not in self.http_method_names:
            raise MethodNotAllowed(str(request.method))
        super().initial(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        # Kept by the reader alone, and asked about at each use.
        final["Cache-Control"] = "private, no-cache"
        final["X-Content-Type-Options"] = "nosniff"
        patch_vary_headers(final, ["Accept", "Authorization", "Cookie"])
        return final

    def list(self, request: Request) -> HttpResponseBase:
        """The events after ``offset``, in the order of the log.

        ``limit``: how many at most. ``types``: type names and prefixes, as in ``orders.OrderPlaced,billing.*``. ``stream``:
        what they are about. ``epoch``: the one the offset was read in; 409 when the offset is not in the log's history.
        """
        parameters = page_parameters(request.query_params)
        try:
            page = EventStore(self.using).get(
                parameters.offset,
                parameters.limit,
                types=parameters.types,
                stream=parameters.stream,
                epoch=parameters.epoch,
            )
        except EpochChanged as error:
            return _epoch_changed(error)
        body = page_body(page)
        response = _conditional(request, body, etag(body, parameters))
        query = parameters.next_query(offset=page.next_offset, epoch=page.epoch)
        response["Link"] = f'<{request.build_absolute_uri(request.path)}?{query}>; rel="next"'
        return response

    def head_of_log(self, request: Request) -> HttpResponseBase:
        """Where the log ends, brought up to date first."""
        refuse_parameters(request.query_params)
        using = self.using or router.db_for_write(EventEntry)
        done = sequence(using)
        body = head_body(log_state(using), complete=done.reached)
        return _conditional(request, body, etag(body))


def _conditional(request: Request, body: bytes, validator: str) -> HttpResponseBase:
    """The body, or 304 when the reader has it already."""
    plain: HttpRequest = request._request
    response = HttpResponse(body, content_type="application/json")
    response["ETag"] = validator
    answer = get_conditional_response(plain, etag=validator, response=response)
    return answer if answer is not None else response


def _epoch_changed(error: EpochChanged) -> Response:
    return Response(
        {
            "detail": str(error),
            "log": error.log,
            "epoch": error.epoch,
            "reader_epoch": error.reader_epoch,
            "head": error.head,
            "began_after": error.began_after,
        },
        status=status.HTTP_409_CONFLICT,
    )
