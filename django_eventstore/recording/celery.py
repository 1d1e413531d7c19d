"""The context on its way through Celery: in a header, from whoever sends a task to the worker that runs it."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

from celery import Task
from celery.signals import before_task_publish, task_postrun, task_prerun, worker_process_shutdown
from django.core.exceptions import SynchronousOnlyOperation

from ..conf import get_settings
from ..context import EventContext, active_context, entered, get_event_context
from ..events import decode_mapping, encode_metadata
from ..exceptions import EventDecodingError
from .handler_threads import finish_after_commit

__all__ = ["CONTEXT_HEADER", "connect_celery"]

logger = logging.getLogger(__name__)

# One text, which every transport carries; values that JSON does not know are written as in an event's metadata.
CONTEXT_HEADER = "eventstore_context"
OWN_TASKS = "django_eventstore."
ENTERED = "_eventstore_entered"


def connect_celery() -> None:
    """Let tasks take the context along, and let a worker's process end only after its handlers."""
    before_task_publish.connect(_send_along, weak=False, dispatch_uid="django_eventstore.context")
    task_prerun.connect(_enter, weak=False, dispatch_uid="django_eventstore.context")
    task_postrun.connect(_leave, weak=False, dispatch_uid="django_eventstore.context")
    # Celery's processes end without calling what was registered for their exit.
    worker_process_shutdown.connect(_finish, weak=False, dispatch_uid="django_eventstore.context")


def _send_along(*, sender: object = None, headers: MutableMapping[str, object] | None = None, **kwargs: object) -> None:
    context = active_context()
    # Our own tasks handle the events of everybody; whose commit has woken them means nothing.
    if context is None or headers is None or str(sender).startswith(OWN_TASKS):
        return
    given = _to_mapping(context)
    if given:
        largest = get_settings().MAX_PAYLOAD_BYTES
        headers[CONTEXT_HEADER] = encode_metadata(given, type=str(sender), max_bytes=largest)


def _to_mapping(context: EventContext) -> dict[str, object]:
    try:
        return context.to_mapping()
    except SynchronousOnlyOperation:
        pass  # a task sent by async code: the user would have to be looked up, and cannot be here
    except Exception:
        logger.exception("A task is sent without its actor")
    return replace(context, actor=None).to_mapping()


def _enter(*, task: Task[Any, Any], **kwargs: object) -> None:
    """Set the context also where nothing was sent: the worker's thread may still have another one."""
    block = entered(_context_of(task))
    block.__enter__()
    # On the request, which is this run's alone: a task that is run where it is sent can have the id of one around it.
    vars(task.request)[ENTERED] = block


def _leave(*, task: Task[Any, Any], **kwargs: object) -> None:
    block = vars(task.request).pop(ENTERED, None)
    if block is not None:
        block.__exit__(None, None, None)


def _context_of(task: Task[Any, Any]) -> EventContext:
    if str(task.name).startswith(OWN_TASKS):
        return EventContext()
    request = task.request
    sent = getattr(request, CONTEXT_HEADER, None) or (request.headers or {}).get(CONTEXT_HEADER)
    if sent is None:
        # Run where it was sent, it has no message, and is a part of what goes on there.
        return get_event_context() if request.is_eager else EventContext()
    try:
        return EventContext.from_mapping(decode_mapping(str(sent)))
    except EventDecodingError:
        logger.warning("Task %s has a header %s that cannot be read", task.name, CONTEXT_HEADER)
        return EventContext()


def _finish(**kwargs: object) -> None:
    finish_after_commit()
