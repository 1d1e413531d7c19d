"""The context of a request: its correlation id, its trace, and its user."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..context import EventContext, entered, new_identifier, valid_traceparent

__all__ = ["EventContextMiddleware"]

# What may stand in a log line, a URL and a header without being quoted.
SENT_IDENTIFIER = re.compile(r"[!-~]{1,100}")

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class EventContextMiddleware:
    """Everything recorded during a request carries its correlation id, its ``traceparent`` and its user.

    The correlation id is that of ``X-Correlation-ID``, else of ``X-Request-ID``, else a new one. What a client sends is
    taken only in the right form, and otherwise as if it had not been sent; whether it is true is known only to a proxy that
    sets these headers itself.

    The user is looked up when an event is recorded, as whoever is logged in then: a request that records nothing asks for
    nobody. Subclass it to look elsewhere.
    """

    sync_capable = True
    async_capable = True

    correlation_headers: tuple[str, ...] = ("X-Correlation-ID", "X-Request-ID")

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._respond(request)
        with entered(self.context(request)):
            return self.get_response(request)

    async def _respond(self, request: HttpRequest) -> HttpResponseBase:
        with entered(self.context(request)):
            response: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]
            return response

    def context(self, request: HttpRequest) -> EventContext:
        """The context of this request."""
        return EventContext(
            actor=lambda: self.actor(request),
            correlation_id=self.correlation_id(request),
            traceparent=valid_traceparent(request.headers.get("traceparent")),
        )

    def actor(self, request: HttpRequest) -> object:
        """Who is at work: a user, a text, or None. Called each time an event is recorded, in synchronous code."""
        return getattr(request, "user", None)

    def correlation_id(self, request: HttpRequest) -> str:
        """The correlation id of this request."""
        for header in self.correlation_headers:
            sent = request.headers.get(header, "")
            if SENT_IDENTIFIER.fullmatch(sent):
                return sent
        return new_identifier()
