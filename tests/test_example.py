"""The example project, run as its users run it: its demonstration starts real processes and stops them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import ROOT, Process

pytestmark = pytest.mark.no_database

LONGEST = 150.0
STEP = re.compile(r"^ *[\d.]+ s +(?P<type>Order\w+) +(?P<stream>order-\d+) +\+ *(?P<ms>\d+) ms +(?P<step>.*)$", re.M)


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
        ("OrderPlaced", "order-1"): mailed + pulled,
        ("OrderPaid", "order-1"): pulled,
        ("OrderPlaced", "order-2"): mailed + pulled,
        ("OrderPaid", "order-2"): pulled,
        ("OrderCancelled", "order-2"): refunded + ["refund created: 29.90 EUR, the order is refunded"] + mailed + pulled,
        ("OrderRefunded", "order-2"): mailed + pulled,
        ("OrderPlaced", "order-3"): mailed + pulled,
        # It was never paid: the refund handler sees it and has nothing to do.
        ("OrderCancelled", "order-3"): refunded + mailed + pulled,
    }
    assert expected.keys() == steps.keys()
    for event, wanted in expected.items():
        recorded, position, *others = steps[event]
        assert re.fullmatch(r"recorded as event [0-9a-f-]{36}", recorded), event
        assert re.fullmatch(r"in the log at position \d", position), event
        assert len(wanted) == len(others), event
        for step in wanted:
            assert 1 == sum(other.startswith(step) for other in others), (event, step)
    positions = sorted(int(number) for number in re.findall(r"in the log at position (\d+)$", demo.output, re.M))
    assert [1, 2, 3, 4, 5, 6, 7, 8] == positions
    assert "→ 409: There are not 5 of teapot left." in demo.output
    assert "every step of 8 events was seen; the other service's balance is 9.00 EUR" in demo.output
    assert {} == demo.running_processes()


def test_a_worker_that_dies_makes_it_fail_with_the_reason_and_the_log(serving: Demo) -> None:
    os.kill(serving.pid_of("worker"), signal.SIGKILL)

    assert 1 == serving.wait(timeout=LONGEST, check=False)
    assert "FAILED: worker ended with status -9. The end of its log:" in serving.errors
    assert "Task django_eventstore.forward" in serving.errors
    assert {} == serving.running_processes()


def test_ctrl_c_ends_what_serve_has_left_running(serving: Demo) -> None:
    os.kill(serving.pid, signal.SIGINT)

    assert 0 == serving.wait(timeout=LONGEST)
    assert {} == serving.running_processes()
