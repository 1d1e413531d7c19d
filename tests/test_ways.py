"""The pages of the four ways, followed as a reader does; and what their tables say of crashes, tried."""

from __future__ import annotations

import re
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.documentation import DOCS, blocks, manage_commands
from tests.processes import Process
from tests.tutorial import Project

pytestmark = [pytest.mark.no_database, pytest.mark.long]

WAYS = DOCS / "ways"
KILLED = 9
CANCEL = ("shell", "-c", "from orders.models import Order; Order.objects.create().cancel('changed my mind')")
# What the reader does not write: mails that can be counted, and places at which the process dies.
BAD_DAY = """
import os
from django.core.mail.backends.base import BaseEmailBackend

def die(place):
    if os.environ.get("DIE") == place:
        os._exit(9)

class EmailBackend(BaseEmailBackend):
    def send_messages(self, messages):
        die("before the mail")
        with open("mails", "a") as mails:
            mails.writelines(message.extra_headers["Message-ID"] + "\\n" for message in messages)
        die("after the mail")
        return len(messages)
"""
SETTINGS = """
EMAIL_BACKEND = "bad_day.EmailBackend"
EVENTSTORE = {**globals().get("EVENTSTORE", {}), "LEASE": timedelta(seconds=2), "WAKE_UP": False}
"""
LEASE_IS_OVER = 2.5


class Shop(Project):
    """The quickstart's project with the code of one way."""

    def prepare(self, page: str) -> None:
        for block in blocks(WAYS / page, language="python"):
            self.write(block)
        self.manage("migrate", "--verbosity", "0")

    def expect_bad_days(self) -> None:
        """Die where the environment says so; and be taken over from after two seconds."""
        (self.directory / "bad_day.py").write_text(BAD_DAY)
        settings = self.directory / "shop" / "settings.py"
        settings.write_text("from datetime import timedelta\n" + settings.read_text() + SETTINGS)

    def insert(self, path: str, code: str, *, before: str) -> None:
        """A line of code, with the indentation of the one that it is put before."""
        file = self.directory / path
        text = file.read_text()
        [indented] = re.findall(rf"^ *{re.escape(before)}", text, re.M)
        file.write_text(text.replace(indented, indented.replace(before, code) + "\n" + indented))

    def die(self, place: str, *command: str) -> None:
        self.environment["DIE"] = place
        self.manage(*command, status=KILLED)
        del self.environment["DIE"]

    def commands(self, page: str) -> list[list[str]]:
        """What is typed on a page, without what does not end by itself."""
        return [
            command
            for block in blocks(WAYS / page, language="sh")
            for command in manage_commands(block)
            if command[0] != "runserver" and command != ["eventstore_forward", "--follow"]
        ]

    def mails(self) -> list[str]:
        path = self.directory / "mails"
        return path.read_text().splitlines() if path.exists() else []

    def count(self, table: str) -> int:
        return self.select(f"SELECT COUNT(*) FROM {table}")

    def select(self, statement: str, *, database: str = "db.sqlite3") -> int:
        connection = sqlite3.connect(self.directory / database)
        try:
            return int(connection.execute(statement).fetchone()[0])
        finally:
            connection.close()

    def start(self, *arguments: str, **environment: str) -> Process:
        """A program of a page that runs until it is killed."""
        log = self.directory / f"log{len(list(self.directory.glob('log*')))}"
        log.mkdir()
        return Process(
            arguments,
            environment={**self.environment, "PYTHONUNBUFFERED": "1", **environment},
            directory=log,
            cwd=self.directory,
        )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    project = Shop(tmp_path_factory.mktemp("quickstart"))
    for block in blocks(DOCS / "quickstart.md", language="python"):
        project.write(block)
    project.manage("makemigrations", "orders")
    project.manage("migrate", "--verbosity", "0")
    return project


@pytest.fixture
def shop(quickstart: Shop, tmp_path: Path) -> Shop:
    return quickstart.copy(tmp_path)


def test_the_ways_begin_with_what_the_quickstart_has_written(quickstart: Shop) -> None:
    [shown] = blocks(WAYS / "index.md", language="python")
    method = shown.text.split("    ...\n\n")[1]
    assert method in (quickstart.directory / "orders" / "models.py").read_text()


@pytest.mark.parametrize("page", ["after-commit.md", "messaging.md"])
def test_nothing_is_left_of_a_process_that_dies_before_its_commit(page: str, shop: Shop) -> None:
    shop.prepare(page)
    shop.expect_bad_days()
    dying = (
        "import os\nfrom django.db import transaction\nfrom orders.models import Order\n"
        "with transaction.atomic():\n    Order.objects.create().cancel('changed my mind')\n    os._exit(9)"
    )
    shop.manage("shell", "-c", dying, status=KILLED)
    shop.manage("eventstore_forward", "--once")
    assert (0, 0, 0) == tuple(shop.count(table) for table in ("orders_order", "eventstore_entry", "orders_refund"))
    assert [] == shop.mails()


# --- after the commit -------------------------------------------------------------------------------------------------


def test_after_the_commit_the_process_that_cancelled_sends_the_mail(shop: Shop) -> None:
    shop.prepare("after-commit.md")
    [cancel] = shop.commands("after-commit.md")
    assert "Subject: Your order 1 is cancelled" in shop.manage(*cancel)
    assert 0 == shop.count("orders_refund")
    assert "Subject" not in shop.manage("eventstore_forward", "--once")
    assert 1 == shop.count("orders_refund")


@pytest.mark.parametrize("place, mails", [("before the mail", 0), ("after the mail", 1)])
def test_after_the_commit_a_crash_loses_the_mail_and_not_the_refund(place: str, mails: int, shop: Shop) -> None:
    shop.prepare("after-commit.md")
    shop.expect_bad_days()
    shop.die(place, *CANCEL)
    shop.manage("eventstore_forward", "--once")
    assert (1, 1) == (shop.count("eventstore_entry"), shop.count("orders_refund"))
    assert mails == len(shop.mails())


# --- messaging --------------------------------------------------------------------------------------------------------


def _stopped(shop: Shop) -> int:
    return shop.select("SELECT COUNT(*) FROM stopped", database="warehouse.sqlite3")


def test_the_warehouse_receives_what_the_sender_publishes(shop: Shop) -> None:
    shop.prepare("messaging.md")
    shop.manage("check", "--database", "default", "--fail-level", "WARNING")
    for command in shop.commands("messaging.md"):
        shop.manage(*command)
    warehouse = shop.start("warehouse.py")
    try:
        warehouse.wait_for("stopped 1")
    finally:
        warehouse.kill9()
    assert 1 == _stopped(shop)


def test_a_message_that_was_confirmed_comes_again_when_the_offset_was_not_saved(shop: Shop) -> None:
    shop.prepare("messaging.md")
    shop.expect_bad_days()
    shop.insert("orders/senders.py", "import bad_day; bad_day.die('confirmed')", before="return Outcome(done=len(")
    shop.manage(*CANCEL)
    shop.die("confirmed", "eventstore_forward", "--once", "warehouse")
    time.sleep(LEASE_IS_OVER)
    shop.manage("eventstore_forward", "--once")
    warehouse = shop.start("warehouse.py")
    try:
        warehouse.wait_for("seen before 1")
    finally:
        warehouse.kill9()
    assert ["stopped 1", "seen before 1"] == warehouse.output.splitlines()
    assert 1 == _stopped(shop)


def test_the_consumer_of_a_broker_that_is_away_waits_and_no_event_is_blamed(shop: Shop) -> None:
    shop.prepare("messaging.md")
    shop.expect_bad_days()
    settings = shop.directory / "shop" / "settings.py"
    settings.write_text(
        settings.read_text() + 'CELERY_BROKER_URL = "amqp://127.0.0.1:1"\nCELERY_BROKER_TRANSPORT_OPTIONS = {}\n'
    )
    shop.manage(*CANCEL)
    assert "tried again: warehouse (its sender)." in shop.manage("eventstore_forward", "--once", status=1)
    assert 1 == shop.count("orders_refund")


TRY_SENDER = """
from types import SimpleNamespace
from unittest import mock
from uuid import uuid4
from kombu import Producer
from orders.senders import BrokerSender

def send(*, largest=128_000, held=lambda: True, errors=()):
    entries = [
        SimpleNamespace(event_id=uuid4(), type="orders.X", stream="order-1", position=n, payload="{}") for n in (4, 5, 6)
    ]
    batch = SimpleNamespace(entries=entries, epoch=1, still_held=held)
    with mock.patch.object(Producer, "publish", side_effect=errors or [None] * 3):
        return BrokerSender(largest=largest).send(batch)

print("all", send())
print("broken", send(errors=[None, OSError("gone")]))
print("over", send(held=iter([True, True, False]).__next__))
print("large", send(largest=10).done, sorted(send(largest=10).refused))
try:
    send(errors=[OSError("gone")])
except OSError as error:
    print("away", error)
"""


def test_the_sender_of_the_page_claims_no_more_than_was_confirmed(shop: Shop) -> None:
    shop.prepare("messaging.md")
    said = shop.manage("shell", "-v", "0", "-c", TRY_SENDER)
    assert [
        "all Outcome(done=3, refused={})",
        "broken Outcome(done=1, refused={})",
        "over Outcome(done=2, refused={})",
        "large 3 [4, 5, 6]",
        "away gone",
    ] == said.splitlines()


# --- forwarder --------------------------------------------------------------------------------------------------------


class Warehouse:
    """The other service's server: the keys that it was sent, and what it answers."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.statuses: list[int] = []
        keys, statuses = self.keys, self.statuses

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                keys.append(self.headers["Idempotency-Key"])
                self.send_response(statuses.pop(0) if statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Not on the terminal of the tests."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/cancellations"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def warehouse(shop: Shop) -> Iterator[Warehouse]:
    warehouse = Warehouse()
    shop.environment |= {"WAREHOUSE_URL": warehouse.url, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    try:
        yield warehouse
    finally:
        warehouse.close()


def test_the_forwarder_runs_every_handler(shop: Shop, warehouse: Warehouse) -> None:
    shop.prepare("forwarder.md")
    shop.manage("check", "--database", "default", "--fail-level", "WARNING")
    cancel, status = shop.commands("forwarder.md")
    shop.manage(*cancel)
    assert "Subject: Your order 1 is cancelled" in shop.manage("eventstore_forward", "--once")
    assert (1, 1) == (shop.count("orders_refund"), len(warehouse.keys))
    said = shop.manage(*status)
    for handler in ("refund", "mail_customer", "tell_warehouse"):
        assert re.search(rf"^orders\.handlers\.{handler} +running +1 +0", said, re.M)

    [own] = [block.text for block in blocks(WAYS / "forwarder.md", language="python") if "get_and_send" in block.text]
    shop.manage(*cancel)
    assert ["1 False"] == shop.manage("shell", "-v", "0", "-c", own).splitlines()


def test_a_worker_that_dies_between_effect_and_offset_refunds_once_and_mails_twice(
    shop: Shop, warehouse: Warehouse
) -> None:
    shop.prepare("forwarder.md")
    shop.expect_bad_days()
    handlers = shop.directory / "orders" / "handlers.py"
    creates = "    Refund.objects.create(order_id=event.order_id)\n"
    text = handlers.read_text()
    assert 1 == text.count(creates)
    handlers.write_text(text.replace(creates, f"{creates}    __import__('bad_day').die('after the refund')\n"))
    shop.manage(*CANCEL)
    shop.die("after the refund", "eventstore_forward", "--once", "orders.handlers.refund")
    shop.die("before the mail", "eventstore_forward", "--once", "orders.handlers.mail_customer")
    assert (0, 0) == (shop.count("orders_refund"), len(shop.mails()))
    time.sleep(LEASE_IS_OVER)
    shop.die("after the mail", "eventstore_forward", "--once", "orders.handlers.mail_customer")
    time.sleep(LEASE_IS_OVER)

    shop.manage("eventstore_forward", "--once")
    shop.manage("eventstore_forward", "--once")

    assert 1 == shop.count("orders_refund")
    assert (2, 1) == (len(shop.mails()), len(set(shop.mails())))


def test_a_warehouse_that_fails_is_told_again_with_the_same_key(shop: Shop, warehouse: Warehouse) -> None:
    shop.prepare("forwarder.md")
    shop.expect_bad_days()
    warehouse.statuses.append(503)
    shop.manage(*CANCEL)
    said = shop.manage("eventstore_forward", "--once", status=1)
    assert "tried again: orders.handlers.tell_warehouse (its sender)." in said
    time.sleep(1)  # the longest first wait
    shop.manage("eventstore_forward", "--once")
    assert (2, 1) == (len(warehouse.keys), len(set(warehouse.keys)))


# --- API --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    """The shop of the page, served; the order is cancelled, and the warehouse may read."""
    shop.prepare("api.md")
    for command in shop.commands("api.md"):
        shop.manage(*command)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = shop.start("manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
    try:
        server.wait_for("Starting development server", timeout=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill9()


def _reader(shop: Shop, url: str, **environment: str) -> Process:
    [password] = {command[1] for command in shop.commands("api.md") if command[0] == "grant_warehouse"}
    return shop.start("warehouse.py", url, WAREHOUSE_PASSWORD=password, no_proxy="127.0.0.1", **environment)


def test_the_warehouse_reads_the_cancelled_order(shop: Shop, url: str) -> None:
    warehouse = _reader(shop, url)
    try:
        warehouse.wait_for("stopped 1")
        shop.manage(*CANCEL)
        warehouse.wait_for("stopped 2")
    finally:
        warehouse.kill9()
    assert ["stopped 1", "stopped 2"] == warehouse.output.splitlines()
    assert 2 == shop.select('SELECT "offset" FROM progress', database="warehouse.sqlite3")


def test_a_reader_that_dies_before_its_commit_reads_the_same_page_again(shop: Shop, url: str) -> None:
    shop.insert(
        "warehouse.py", 'if os.environ.get("DIE"): os._exit(9)', before="database.execute(\n            'UPDATE"
    )
    assert KILLED == _reader(shop, url, DIE="1").wait(check=False)
    assert 0 == _stopped(shop)
    for _ in range(2):
        # Once more after its commit: it goes on, and stops nothing twice.
        warehouse = _reader(shop, url)
        try:
            deadline = time.monotonic() + 30
            while not _stopped(shop) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            warehouse.kill9()
    assert 1 == _stopped(shop)


def test_nobody_else_may_read(shop: Shop, url: str) -> None:
    warehouse = shop.start("warehouse.py", url, WAREHOUSE_PASSWORD="guessed", no_proxy="127.0.0.1")
    assert 1 == warehouse.wait(check=False)
    assert "The shop answered 401" in warehouse.errors
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/events?offset=0")
