"""The example project, run as its users run it: its demonstration starts real processes and stops them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes import ROOT, Process
from tests.servers.nats import nats_url
from tests.servers.rabbitmq import rabbitmq_url
from tests.servers.redis import redis_url

pytestmark = [pytest.mark.no_database, pytest.mark.long]

LONGEST = 150.0
STEP = re.compile(r"^ *[\d.]+ s +(?P<type>[A-Z]\w+) +(?P<stream>\w+-\d+) +\+ *(?P<ms>\d+) ms +(?P<step>.*)$", re.M)
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
BY_ADA = f"by ada in request {UUID}"


class Demo(Process):
    """The demonstration, with everything that it writes below ``data``."""

    def __init__(self, *arguments: str, directory: Path) -> None:
        directory.mkdir()
        self.data = directory / "data"
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        super().__init__(
            (str(ROOT / "example_project" / "demo.py"), "--data", str(self.data), *arguments),
            environment={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            directory=directory,
        )

    def running_processes(self) -> dict[int, str]:
        """What it has started and what runs now, by process id: each is told in its environment where to write."""
        found = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get("SHOP_DATA") == str(self.data) and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def pid_of(self, name: str) -> int:
        return int(re.findall(rf"^  {name} +pid (\d+)$", self.output, re.M)[0])


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Demo]:
    """`demo.py --serve`, with all of its processes ready."""
    demo = Demo("--serve", directory=tmp_path / "demo")
    try:
        demo.wait_for("Ctrl-C stops everything.", timeout=LONGEST)
        assert {"web", "worker", "beat", "puller"} == {
            name for name in ("web", "worker", "beat", "puller") if demo.pid_of(name) in demo.running_processes()
        }
        yield demo
    finally:
        demo.release()


def test_the_demonstration_follows_every_event_to_its_end_and_leaves_no_process(tmp_path: Path) -> None:
    demo = Demo(directory=tmp_path / "demo")
    try:
        demo.wait(timeout=LONGEST)
    finally:
        demo.release()

    steps: dict[tuple[str, str], list[str]] = {}
    for step in STEP.finditer(demo.output):
        steps.setdefault((step["type"], step["stream"]), []).append(step["step"])
    mailed = ["forwarded, handled by shop.handlers.mail_customer", "mail written: “"]
    refunded = ["forwarded, handled by shop.handlers.refund"]
    pulled = ["pulled by the bookkeeping service"]
    expected = {
        ("OrderPlaced", "order-1"): [*mailed, *pulled],
        ("OrderPaid", "order-1"): pulled,
        # Saved by the admin's own form; captured.
        ("PriceChanged", "product-1"): pulled,
        ("OrderPlaced", "order-2"): [*mailed, *pulled],
        ("OrderPaid", "order-2"): pulled,
        ("OrderCancelled", "order-2"): [
            *refunded,
            "refund created: 29.90 EUR, the order is refunded",
            *mailed,
            *pulled,
        ],
        ("OrderRefunded", "order-2"): [*mailed, *pulled],
        ("OrderPlaced", "order-3"): [*mailed, *pulled],
        # It was never paid: the refund handler sees it and has nothing to do.
        ("OrderCancelled", "order-3"): [*refunded, *mailed, *pulled],
    }
    causes = {
        ("PriceChanged", "product-1"): f"by admin in request {UUID}",
        ("OrderRefunded", "order-2"): f"because of event {UUID}",
    }
    assert expected.keys() == steps.keys()
    for event, wanted in expected.items():
        recorded, position, *others = steps[event]
        assert re.fullmatch(rf"recorded as event {UUID}, {causes.get(event, BY_ADA)}", recorded), event
        assert re.fullmatch(r"in the log at position \d", position), event
        assert len(wanted) == len(others), event
        for step in wanted:
            assert 1 == sum(other.startswith(step) for other in others), (event, step)
    positions = sorted(int(number) for number in re.findall(r"in the log at position (\d+)$", demo.output, re.M))
    assert [1, 2, 3, 4, 5, 6, 7, 8, 9] == positions
    assert "→ 409: There are not 5 of teapot left." in demo.output
    assert "GET /products shows 4.80: the cached list was dropped right after the commit" in demo.output
    assert "every step of 9 events was seen; the other service's balance is 9.00 EUR" in demo.output
    assert re.search(rf"the refund goes back to the request {UUID}, in which ada cancelled$", demo.output, re.M)
    assert {} == demo.running_processes()


@pytest.mark.needs("rabbitmq", "nats", "redis")
def test_the_brokers_that_answer_receive_every_event_in_order(tmp_path: Path) -> None:
    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "brokers.py"),
            cwd=ROOT / "example_project",
            env={
                **os.environ,
                "KAFKA_URL": "127.0.0.1:9",
                "RABBITMQ_URL": rabbitmq_url(),
                "NATS_URL": nats_url(),
                "REDIS_URL": redis_url(),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )

    shown = run()
    assert (0, "") == (shown.returncode, shown.stderr)
    assert ["RabbitMQ", "NATS JetStream", "Redis Streams"] == re.findall(
        r"^  (\w[\w ]*?) +9 events accepted in \d+ ms; all arrived, each stream in order$", shown.stdout, re.M
    )
    assert "  Kafka           not shown: nothing answers at 127.0.0.1:9" in shown.stdout
    nowhere = run(**{f"{name}_URL": f"{name.lower()}://127.0.0.1:9" for name in ("RABBITMQ", "NATS", "REDIS")})
    assert 1 == nowhere.returncode
    assert "No broker answers. `make demo` needs none." in nowhere.stdout


def test_the_shop_passes_its_own_tests(tmp_path: Path) -> None:
    tests = subprocess.run(
        (sys.executable, "manage.py", "test"),
        cwd=ROOT / "example_project",
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "shop_site.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "SHOP_DATA": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert re.search(r"^Ran 7 tests in .*\n\nOK$", tests.stderr, re.M), tests.stderr


def test_a_worker_that_dies_makes_it_fail_with_the_reason_and_the_log(serving: Demo) -> None:
    os.kill(serving.pid_of("worker"), signal.SIGKILL)

    assert 1 == serving.wait(timeout=LONGEST, check=False)
    assert "FAILED: worker ended with status -9\nThe end of the log of worker:\n" in serving.errors
    assert "Task django_eventstore.forward" in serving.errors
    assert {} == serving.running_processes()


def test_ctrl_c_ends_what_serve_has_left_running(serving: Demo) -> None:
    os.kill(serving.pid, signal.SIGINT)

    assert 0 == serving.wait(timeout=LONGEST)
    assert {} == serving.running_processes()


class Feed:
    """Answers of a shop: each GET /events takes the next; what was asked is in ``asked``."""

    def __init__(self, *answers: tuple[int, dict[str, Any]]) -> None:
        self.asked: list[str] = []
        asked, remaining = self.asked, list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                status, body = remaining.pop(0)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                """Not on the terminal of the tests."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def paid(position: int, amount: str) -> dict[str, Any]:
    payload = {"order_id": position, "amount": amount}
    return {"position": position, "event_id": f"event-{position}", "type": "shop.OrderPaid", "payload": payload}


def page(*events: dict[str, Any], next_offset: int, epoch: int = 1, log: str = "log-a") -> tuple[int, dict[str, Any]]:
    body = {"log": log, "epoch": epoch, "events": list(events), "next_offset": next_offset, "complete": True}
    return 200, body


@pytest.fixture
def pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Decimal, int, list[str]]]:
    """``pull(*answers)``: the bookkeeping service pulls once for each; (balance, offset, what it asked for)."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    spec = importlib.util.spec_from_file_location("example_puller", ROOT / "example_project" / "puller.py")
    assert spec is not None
    assert spec.loader is not None
    puller = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(puller)

    def pull_all(*answers: tuple[int, dict[str, Any]]) -> tuple[Decimal, int, list[str]]:
        feed = Feed(*answers)
        # Opened anew each time: a service that was stopped goes on from its books.
        books = puller.Books(str(tmp_path / "books.sqlite3"))
        try:
            for _ in answers:
                puller.pull(books, feed.url, "token")
            return books.balance(), books.progress()[0], feed.asked
        finally:
            books.close()
            feed.close()

    return pull_all


def test_the_second_service_books_a_page_and_its_offset_together(pull: Callable[..., Any]) -> None:
    pull(page(paid(1, "10.00"), next_offset=1))
    broken = paid(3, "no number")
    with pytest.raises(InvalidOperation):
        pull(page(paid(2, "5.00"), broken, next_offset=3))

    balance, offset, asked = pull(page(paid(2, "5.00"), paid(3, "1.00"), next_offset=3))

    assert ["/events?offset=1&limit=100&epoch=1"] == asked
    assert (Decimal("16.00"), 3) == (balance, offset)


def test_the_second_service_takes_back_what_a_new_history_does_not_hold(pull: Callable[..., Any]) -> None:
    pull(page(paid(1, "10.00"), paid(2, "5.00"), paid(3, "1.00"), next_offset=3))
    changed = (409, {"log": "log-a", "epoch": 2, "reader_epoch": 1, "head": 2, "began_after": 1, "detail": "…"})

    balance, offset, asked = pull(changed, page(paid(2, "7.00"), next_offset=2, epoch=2))

    assert ["/events?offset=3&limit=100&epoch=1", "/events?offset=1&limit=100&epoch=2"] == asked
    assert (Decimal("17.00"), 2) == (balance, offset)


def test_the_second_service_does_not_mix_two_logs(pull: Callable[..., Any]) -> None:
    pull(page(paid(1, "10.00"), next_offset=1))

    with pytest.raises(SystemExit, match="this is another log"):
        pull(page(paid(2, "5.00"), next_offset=2, log="log-b"))
