"""The context on its way into Celery tasks: a real worker, messages as they are sent, and eager tasks."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from celery import Celery, _state, current_app, shared_task
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging, task_postrun
from django.contrib.auth.models import User
from django.db import connections
from django.test import RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

from django_eventstore import EventContext, event_context, get_event_context, handles
from django_eventstore.context import entered
from django_eventstore.forwarding import forward_all
from django_eventstore.forwarding.celery import FORWARD_TASK, wake_up
from django_eventstore.models import EventEntry
from django_eventstore.recording import EventContextMiddleware
from django_eventstore.recording.celery import CONTEXT_HEADER
from django_eventstore.signals import batch_delivered
from tests.delivery import COUNTED, record_numbers, refunds
from tests.test_context import TRACE

pytestmark = pytest.mark.django_db(transaction=True)

SEEN: list[EventContext] = []


@shared_task(name="tests.look")
def look():
    SEEN.append(get_event_context())


@shared_task(name="tests.fail")
def fail():
    raise KeyError("task")


@shared_task(name="tests.record")
def record_following():
    record_numbers(1, type="test.Following")


@shared_task(name="tests.repeat", bind=True, max_retries=2, default_retry_delay=0)
def repeat(self):
    SEEN.append(get_event_context())
    if self.request.retries < 2:
        raise self.retry(countdown=0)


@pytest.fixture(autouse=True)
def seen():
    SEEN.clear()
    return SEEN


@pytest.fixture
def app(monkeypatch):
    """An app with a broker in memory, which is the current one."""
    app = Celery("tests.recording", broker=f"memory://{os.getpid()}-{time.monotonic_ns()}", set_as_current=False)
    app.conf.update(
        task_ignore_result=True, task_default_queue=f"q{time.monotonic_ns()}", worker_hijack_root_logger=False
    )
    yield app
    app.close()


def header_of(app, task="tests.look", **options):
    """The header with which a task is sent now."""
    app.tasks[task].apply_async(**options)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(app.conf.task_default_queue).get(timeout=5)
        message.ack()
    return message.headers.get(CONTEXT_HEADER)


@contextmanager
def worker(app):
    """A worker on a thread, which runs each task as a real one does."""

    def close(**kwargs):
        connections.close_all()

    def leave_logging_alone(**kwargs):
        pass

    before, default = _state.get_current_app(), _state.default_app
    task_postrun.connect(close)
    setup_logging.connect(leave_logging_alone)
    try:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
            yield
    finally:
        task_postrun.disconnect(close)
        setup_logging.disconnect(leave_logging_alone)
        before.set_current()  # the worker has made its app the current one, and the default of every thread
        _state.set_default_app(default)


def until(condition, *, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


@contextmanager
def eager(*, propagates=True):
    given = current_app.conf.task_always_eager, current_app.conf.task_eager_propagates
    current_app.conf.task_always_eager, current_app.conf.task_eager_propagates = True, propagates
    try:
        yield
    finally:
        current_app.conf.task_always_eager, current_app.conf.task_eager_propagates = given


# --- what is sent ---


def test_without_a_context_there_is_no_header(app):
    assert header_of(app) is None
    with entered(EventContext()):
        assert header_of(app) is None


def test_the_context_is_sent_as_one_text(app):
    with event_context(actor="ada", correlation_id="c-1", causation_id="e-1", traceparent=TRACE, metadata={"k": 1}):
        header = header_of(app)
    expected = {
        "actor": "ada",
        "correlation_id": "c-1",
        "causation_id": "e-1",
        "traceparent": TRACE,
        "metadata": {"k": 1},
    }
    assert expected == json.loads(header)


def test_values_that_json_does_not_know_are_written_as_in_metadata(app):
    with event_context(metadata={"price": Decimal("1.50"), "at": datetime(2026, 1, 1, tzinfo=timezone.utc)}):
        header = header_of(app)
    assert {"price": "1.50", "at": "2026-01-01T00:00:00Z"} == json.loads(header)["metadata"]


def test_a_value_that_cannot_be_written_costs_the_header_and_not_the_task(app, caplog):
    with event_context(correlation_id="c", metadata={"x": object()}):
        assert header_of(app) is None
    assert "metadata" in caplog.text


def test_the_users_headers_are_left_alone(app):
    with event_context(correlation_id="c-1"):
        app.tasks["tests.look"].apply_async(headers={"mine": "1"})
    with app.connection_for_read() as connection:
        headers = connection.SimpleQueue(app.conf.task_default_queue).get(timeout=5).headers
    assert ("1", '{"correlation_id":"c-1"}') == (headers["mine"], headers[CONTEXT_HEADER])


def test_the_user_of_a_request_is_asked_for_when_a_task_is_sent(app):
    user = User.objects.create_user("ada")
    request = RequestFactory().get("/", headers={"X-Correlation-ID": "c-1"})
    request.user = SimpleLazyObject(lambda: User.objects.get())
    headers = []
    EventContextMiddleware(lambda request: headers.append(header_of(app)))(request)
    assert [{"model": "auth.user", "id": str(user.pk), "label": "ada"}] == [json.loads(h)["actor"] for h in headers]


def test_in_an_event_loop_a_user_that_was_not_asked_for_is_left_out(app):
    User.objects.create_user("ada")
    user = SimpleLazyObject(lambda: User.objects.get())

    async def view():
        with event_context(actor=lambda: user, correlation_id="c-1"):
            return header_of(app)

    assert {"correlation_id": "c-1"} == json.loads(async_to_sync(view)())


def test_an_actor_that_cannot_be_told_costs_the_actor_and_not_the_task(app, caplog):
    with event_context(actor=lambda: 7, correlation_id="c-1"):
        assert {"correlation_id": "c-1"} == json.loads(header_of(app))
    assert "without its actor" in caplog.text


def test_the_forward_task_takes_nobodys_context_along(app):
    with event_context(actor="ada", correlation_id="c-1"):
        assert header_of(app, FORWARD_TASK) is None


# --- what a worker makes of it ---


def test_a_task_has_the_context_of_who_sent_it_and_the_next_one_its_own_also_after_an_error(app, seen):
    with worker(app):
        with event_context(actor="ada", correlation_id="c-1", causation_id="e-1", traceparent=TRACE, metadata={"k": 1}):
            app.tasks["tests.look"].delay()
            app.tasks["tests.fail"].delay()
        app.tasks["tests.look"].delay()
        until(lambda: len(seen) == 2)
    expected = EventContext(actor="ada", correlation_id="c-1", causation_id="e-1", traceparent=TRACE, metadata={"k": 1})
    assert [expected, EventContext()] == seen


def test_a_task_that_is_retried_keeps_its_context(app, seen):
    with worker(app):
        with event_context(correlation_id="c-1"):
            app.tasks["tests.repeat"].delay()
        until(lambda: len(seen) == 3)
    assert ["c-1"] * 3 == [context.correlation_id for context in seen]


def test_an_event_of_a_task_that_a_handler_has_sent_names_the_handlers_event_as_its_cause(app):
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        app.tasks["tests.record"].delay()

    with worker(app):
        record_numbers(1)
        forward_all()
        until(lambda: EventEntry.objects.filter(type="test.Following").exists())
    cause, effect = EventEntry.objects.get(type=COUNTED), EventEntry.objects.get(type="test.Following")
    assert (str(cause.event_id), str(cause.event_id)) == (effect.causation_id, effect.correlation_id)


@pytest.mark.parametrize("wrong", ["{", "[1]", 7, {"actor": "ada"}, "", '{"correlation_id": 7, "actor": []}'])
def test_a_header_that_cannot_be_read_is_no_context_and_no_error(seen, wrong):
    with event_context(actor="ada"):
        look.apply(headers={CONTEXT_HEADER: wrong}, throw=True)
    assert [EventContext()] == seen


# --- tasks that are run where they are sent ---


def test_an_eager_task_is_in_the_context_of_its_caller(seen):
    with eager(), event_context(actor="ada", correlation_id="c-1"):
        look.delay()
        assert "c-1" == get_event_context().correlation_id
    assert [EventContext(actor="ada", correlation_id="c-1")] == seen


def test_an_eager_task_that_repeats_itself_leaves_its_callers_context(seen):
    with eager(propagates=False), event_context(correlation_id="c-1"):
        repeat.delay()
        assert EventContext(correlation_id="c-1") == get_event_context()
    assert ["c-1"] * 3 == [context.correlation_id for context in seen]
    assert EventContext() == get_event_context()


def test_an_eager_forward_task_lets_nothing_of_the_request_into_handlers(monkeypatch, seen):
    monkeypatch.setattr(wake_up, "_not_before", 0.0)

    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        seen.append(get_event_context())

    with eager(), event_context(actor="ada", correlation_id="c-1", metadata={"k": 1}):
        (entry,) = record_numbers(1)
        assert "ada" == get_event_context().actor
    assert [EventContext(correlation_id="c-1", causation_id=str(entry.event_id))] == seen


def test_an_eager_forward_task_is_itself_in_no_context(monkeypatch, seen):
    def receiver(**kwargs):
        seen.append(get_event_context())

    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event): ...

    batch_delivered.connect(receiver)
    try:
        with eager(), event_context(actor="ada"):
            record_numbers(1)
    finally:
        batch_delivered.disconnect(receiver)
    assert [EventContext()] == seen


def test_a_task_that_is_called_is_a_function(seen):
    with event_context(correlation_id="c-1"):
        look()
    assert ["c-1"] == [context.correlation_id for context in seen]


# --- a worker of processes ---


@override_settings(EVENTSTORE={"WAKE_UP": False})
def test_a_workers_process_takes_the_context_and_ends_only_after_its_handlers(spawn, tmp_path):
    broker = tmp_path / "broker"
    (broker / "control").mkdir(parents=True)
    with Celery("sending", broker="filesystem://", set_as_current=False) as sending:
        folders = {name: str(broker) for name in ("data_folder_in", "data_folder_out")}
        folders["control_folder"] = str(broker / "control")
        sending.conf.update(broker_transport_options=folders, task_ignore_result=True)
        with event_context(actor="ada", correlation_id="c-1"):
            sending.send_task("tests.record_in_task", args=[7])
    process = spawn(
        *("-m", "celery", "-A", "tests.recording.celery_worker", "worker", "--pool", "prefork", "-c", "1"),
        # The process ends with its task, at once, by os._exit().
        *("--max-tasks-per-child", "1"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        environment={"EVENTSTORE_TEST_BROKER_DIRECTORY": str(broker)},
    )
    until(EventEntry.objects.filter(type="test.InTask").exists, seconds=60)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(check=False)
    entry = EventEntry.objects.get(type="test.InTask")
    assert ("c-1", '{"actor":"ada"}') == (entry.correlation_id, entry.metadata)
    assert [7] == refunds()
