"""What the demonstration sees of an event's way, from outside: the shop's HTTP API, and what its processes write.

Nothing here reaches into the package: an event is seen as any other service sees it, a delivery by the line that the shop
itself logs (``shop/deliveries.py``), a refund in the order that the shop shows, a mail as a file, and what the second
service has pulled by what that one prints.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

__all__ = ["Observer", "Shop", "actor"]

# The shop is on this machine, whatever proxy the terminal has for the world outside.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# What is to happen to each type of event: the consumers that handle it. Every event is pulled.
MAIL, REFUND = "shop.handlers.mail_customer", "shop.handlers.refund"
CONSUMERS = {
    "shop.PriceChanged": (),
    "shop.OrderPlaced": (MAIL,),
    "shop.OrderPaid": (),
    "shop.OrderCancelled": (REFUND, MAIL),
    "shop.OrderRefunded": (MAIL,),
}
# Django's file backend ends each message with this.
END_OF_MAIL = "-" * 79


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """The shop's HTTP API with one account's token."""

    url: str
    token: str = ""

    def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """(status, the answer's JSON), also for a refusal. Raises OSError when there is no answer."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Token {self.token}"} if self.token else {}),
            },
        )
        try:
            with DIRECT.open(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, {"detail": text[:500].decode(errors="replace")}


@dataclass(slots=True, kw_only=True)
class Lines:
    """The complete lines that a growing file has got since the last look."""

    path: Path
    read: int = 0

    def new(self) -> list[str]:
        with self.path.open("rb") as file:
            file.seek(self.read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self.read += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()


@dataclass(slots=True, kw_only=True)
class Seen:
    """An event as it was pulled, and the steps that were seen of its way."""

    entry: dict[str, Any]
    recorded_at: float
    steps: set[str] = field(default_factory=set)

    @property
    def expected(self) -> set[str]:
        """Every step that it has to take."""
        consumers = CONSUMERS[self.entry["type"]]
        steps = {f"forwarded, handled by {consumer}" for consumer in consumers}
        if MAIL in consumers:
            steps.add("mail written")
        if REFUND in consumers and Decimal(self.entry["payload"]["amount_paid"]):
            steps.add("refund created")
        return steps | {"pulled by the bookkeeping service"}


class Observer:
    """Looks at everything, again and again, and tells each step once."""

    def __init__(self, *, reader: Shop, customer: Shop, worker_log: Path, puller_log: Path, mails: Path) -> None:
        self.reader = reader
        self.customer = customer
        self.mails = mails
        self.events: list[Seen] = []
        self.balance = Decimal(0)
        self._began = time.time()
        self._offset, self._epoch = 0, None
        self._worker, self._puller = Lines(path=worker_log), Lines(path=puller_log)
        self._handled: dict[str, int] = {}
        self._pulled: set[str] = set()

    def say(self, text: str) -> None:
        """A line, after the seconds since the story began."""
        print(f"{time.time() - self._began:7.3f} s  {text}", flush=True)

    def missing(self) -> list[str]:
        """The steps that are still to be seen."""
        return [
            f"position {seen.entry['position']} {seen.entry['type']}: {step}"
            for seen in self.events
            for step in sorted(seen.expected - seen.steps)
        ]

    def look(self) -> None:
        """One look at everything. Raises OSError when the shop does not answer, RuntimeError when it refuses."""
        self._read_log()
        self._read_worker()
        self._read_puller()
        mailed = self._mailed()
        for seen in self.events:
            if not seen.expected - seen.steps:
                continue
            position, event_id = seen.entry["position"], seen.entry["event_id"]
            for consumer in CONSUMERS[seen.entry["type"]]:
                if position <= self._handled.get(consumer, 0):
                    self._step(seen, f"forwarded, handled by {consumer}")
            if "refund created" in seen.expected - seen.steps:
                self._look_for_refund(seen)
            if event_id in mailed:
                self._step(seen, "mail written", f": {mailed[event_id]}")
            if event_id in self._pulled:
                self._step(seen, "pulled by the bookkeeping service")

    def _step(self, seen: Seen, step: str, detail: str = "") -> None:
        if step not in seen.steps:
            seen.steps.add(step)
            self._tell(seen, step + detail)

    def _tell(self, seen: Seen, text: str, *, at: float | None = None) -> None:
        """A line about an event, with the milliseconds from its record() to ``at``, by default to our seeing it now.

        Both clocks are this machine's; looking takes its time, so what is printed is an upper bound.
        """
        elapsed = ((at or time.time()) - seen.recorded_at) * 1000
        kind = seen.entry["type"].removeprefix("shop.")
        self.say(f"  {kind:14} {seen.entry['stream']:8} +{elapsed:5.0f} ms  {text}")

    def _read_log(self) -> None:
        query = {"offset": self._offset, **({"epoch": self._epoch} if self._epoch is not None else {})}
        status, page = self.reader.call("GET", f"/events?{urllib.parse.urlencode(query)}")
        if status != 200:
            raise RuntimeError(f"GET /events answered {status}: {page}")
        for entry in page["events"]:
            recorded_at = datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")).timestamp()
            seen = Seen(entry=entry, recorded_at=recorded_at)
            self.events.append(seen)
            self._tell(seen, f"recorded as event {entry['event_id']}{_cause(entry)}", at=recorded_at)
            self._tell(seen, f"in the log at position {entry['position']}")
        self._offset, self._epoch = page["next_offset"], page["epoch"]

    def _read_worker(self) -> None:
        """`… delivered consumer=shop.handlers.refund events=1 offset=5`"""
        for line in self._worker.new():
            _, found, rest = line.partition("delivered consumer=")
            if found:
                consumer, _, offset = rest.split()
                self._handled[consumer] = int(offset.removeprefix("offset="))

    def _read_puller(self) -> None:
        for line in self._puller.new():
            word, *facts = line.split()
            values = dict(fact.split("=", 1) for fact in facts if "=" in fact)
            if word == "pulled":
                self._pulled.add(values["event"])
            elif word == "booked":
                self.balance = Decimal(values["balance"])

    def _look_for_refund(self, seen: Seen) -> None:
        status, order = self.customer.call("GET", f"/orders/{seen.entry['payload']['order_id']}")
        if status != 200:
            raise RuntimeError(f"the order of {seen.entry} was answered with {status}: {order}")
        if order["refunded"] is not None:
            self._step(seen, "refund created", f": {order['refunded']} EUR, the order is {order['status']}")

    def _mailed(self) -> dict[str, str]:
        """Event id → subject and file of the mail that was written for it."""
        found = {}
        for path in self.mails.glob("*.log"):
            for mail in path.read_text(errors="replace").split(END_OF_MAIL)[:-1]:
                headers = dict(
                    line.split(": ", 1) for line in mail.strip().split("\n\n")[0].splitlines() if ": " in line
                )
                event_id = headers["Message-ID"].removeprefix("<").removesuffix("@shop.example>")
                found[event_id] = f"“{headers['Subject']}” in {path.name}"
        return found


def actor(entry: dict[str, Any]) -> str | None:
    """The name of who was logged in; None for what a handler has recorded."""
    known = entry["metadata"].get("actor")
    return None if known is None else str(known["label"])


def _cause(entry: dict[str, Any]) -> str:
    if entry["causation_id"] is not None:
        return f", because of event {entry['causation_id']}"
    return f", by {actor(entry)} in request {entry['correlation_id']}"
