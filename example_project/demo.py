"""Starts a shop and a second service as real processes, and follows events through them.

    python demo.py            a story of a few orders; ends by itself, 0 if every step of every event was seen
    python demo.py --serve    everything stays up until Ctrl-C

Needs nothing but what `pip install django-eventstore` brings.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from observer import Shop
from story import Story
from supervisor import DemoFailed, Supervisor

HERE = Path(__file__).resolve().parent
READY_WITHIN = 60.0


class Demo:
    """The running processes, and who may talk to them."""

    def __init__(self, *, data: Path, port: int) -> None:
        self.data = data
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.logs = data / "logs"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        (data / "mail").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            # Whatever project the terminal was set up for, this one is meant.
            "DJANGO_SETTINGS_MODULE": "shop_site.settings",
            "PYTHONUNBUFFERED": "1",
            "SHOP_DATA": str(data),
            "SHOP_DEBUG": "0",
            # No proxy stands between two processes of one machine.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        self.supervisor = Supervisor(environment=environment, logs=self.logs)

    def prepare(self) -> None:
        """The database, and who may use the shop."""
        self.supervisor.run("migrate", "manage.py", "migrate", "--verbosity", "1", "--no-color")
        output = self.supervisor.run("setup", "manage.py", "shop_setup")
        # The administrator's password is for the terminal, not for a file.
        (self.logs / "setup.log").unlink()
        self.credentials: dict[str, str] = json.loads(output.splitlines()[-1])
        self.customer = Shop(url=self.url, token=self.credentials["customer_token"])
        self.reader = Shop(url=self.url, token=self.credentials["bookkeeping_token"])
        self.admin = {"name": self.credentials["admin_name"], "password": self.credentials["admin_password"]}

    def start(self) -> None:
        """Start all four, then wait for each, so that they load side by side."""
        supervisor = self.supervisor
        address = f"127.0.0.1:{self.port}"
        web = supervisor.start("web", "manage.py", "runserver", "--noreload", address, environment={"SHOP_DEBUG": "1"})
        celery = ("-m", "celery", "-A", "shop_site")
        self.worker = supervisor.start("worker", *celery, "worker", "--pool", "solo", "--loglevel", "INFO")
        beat = supervisor.start("beat", *celery, "beat", "--loglevel", "INFO")
        supervisor.wait_until("GET /products is answered", self._shop_answers, process=web, timeout=READY_WITHIN)
        self.puller = supervisor.start(
            "puller",
            "puller.py",
            *("--url", self.url, "--database", str(self.data / "bookkeeping.sqlite3")),
            environment={"BOOKKEEPING_TOKEN": self.credentials["bookkeeping_token"]},
        )

        def worker_ticks() -> bool:
            return "django_eventstore.forward" in self.worker.text.partition(" ready.")[2]

        def beat_sends() -> bool:
            return "Sending due task django_eventstore.forward" in beat.text

        def puller_reads() -> bool:
            return "reading " in self.puller.text

        supervisor.wait_until("beat sends the forward task", beat_sends, process=beat, timeout=READY_WITHIN)
        supervisor.wait_until("the worker takes it", worker_ticks, process=self.worker, timeout=READY_WITHIN)
        supervisor.wait_until("it has opened its books", puller_reads, process=self.puller, timeout=READY_WITHIN)
        for process in supervisor.processes:
            print(f"  {process.name:8} pid {process.pid}")

    def tell_story(self) -> None:
        Story(
            customer=self.customer,
            reader=self.reader,
            admin=self.admin,
            supervisor=self.supervisor,
            worker=self.worker,
            puller=self.puller,
            mails=self.data / "mail",
        ).tell()
        print("\nmanage.py eventstore_status\n" + self.supervisor.run("status", "manage.py", "eventstore_status"))

    def _shop_answers(self) -> bool:
        try:
            status, body = Shop(url=self.url).call("GET", "/products")
        except OSError:
            return False
        return status == 200 and "products" in body


def serve(demo: Demo) -> None:
    """Leave everything running; a process that ends is a failure."""
    print(
        f"""
  shop    {demo.url}/products
  admin   {demo.url}/admin/   {demo.credentials["admin_name"]} / {demo.credentials["admin_password"]}
  logs    {demo.logs}
  mails   {demo.data / "mail"}

  T='Authorization: Token {demo.credentials["customer_token"]}'
  curl -H "$T" -d 'sku=tea&quantity=2' {demo.url}/orders
  curl -H "$T" -d 'reason=no' {demo.url}/orders/1/cancel
  curl -H 'Authorization: Token {demo.credentials["bookkeeping_token"]}' '{demo.url}/events?offset=0'

Ctrl-C stops everything.
""",
        flush=True,
    )
    while True:
        demo.supervisor.require_running()
        time.sleep(0.5)


def free_port(preferred: int = 0) -> int:
    """A port of this machine that nobody uses now: the preferred one if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


def interrupt(number: int, frame: object) -> None:
    """SIGTERM and SIGHUP end it as Ctrl-C does: through the blocks that stop the processes."""
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description="A shop, a worker, beat and a second service.")
    parser.add_argument("--serve", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--port", type=int, help="the shop's port; by default a free one")
    parser.add_argument("--data", type=Path, help="where to write; by default a temporary directory, or var/ to serve")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    began = time.monotonic()
    with ExitStack() as stack:
        data = arguments.data or (HERE / "var" if arguments.serve else None)
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eventstore-demo-")))
        port = arguments.port or free_port(8000 if arguments.serve else 0)
        demo = Demo(data=data.resolve(), port=port)
        stack.enter_context(demo.supervisor)
        try:
            print(f"Preparing {demo.data}, then starting four processes ...", flush=True)
            demo.prepare()
            demo.start()
            print(f"All ready after {time.monotonic() - began:.1f} s.\n", flush=True)
            if arguments.serve:
                serve(demo)
            demo.tell_story()
        except DemoFailed as failure:
            print(f"\nFAILED: {failure}", file=sys.stderr, flush=True)
            return 1
        except KeyboardInterrupt:
            print("\nStopping ...", flush=True)
            return 0 if arguments.serve else 130
    print(f"Everything is stopped, after {time.monotonic() - began:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
