"""The story that the demonstration tells: what is asked of the shop, and what must come of it."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path
from typing import Any

from editor import Editor
from observer import Observer, Shop, actor
from supervisor import DemoFailed, Process, Supervisor

__all__ = ["Story"]

STEPS_WITHIN = 30.0
PAUSE = 0.05
BETWEEN_REQUESTS = 0.4


class Story:
    """A few orders, placed, paid and cancelled by HTTP, and a price that is changed in the admin."""

    def __init__(
        self,
        *,
        customer: Shop,
        reader: Shop,
        admin: dict[str, str],
        supervisor: Supervisor,
        worker: Process,
        puller: Process,
        mails: Path,
    ) -> None:
        self.customer = customer
        self.admin = admin
        self.supervisor = supervisor
        self.worker = worker
        self.puller = puller
        self.observer = Observer(
            reader=reader, customer=customer, worker_log=worker.log, puller_log=puller.log, mails=mails
        )

    def tell(self) -> None:
        """Raises DemoFailed when a step of an event is not seen in time, or something else ends as it should not."""
        tea = self._post("/orders", {"sku": "tea", "quantity": 2}, expect=201)["id"]
        self._post(f"/orders/{tea}/pay", expect=200)
        self._change_price("tea", "4.80")
        teapot = self._post("/orders", {"sku": "teapot", "quantity": 1}, expect=201)["id"]
        self._post(f"/orders/{teapot}/pay", expect=200)
        self._post(f"/orders/{teapot}/cancel", {"reason": "changed my mind"}, expect=200)
        # Three were in stock and one came back: the handler inside the transaction refuses, and nothing is recorded.
        self._post("/orders", {"sku": "teapot", "quantity": 5}, expect=409)
        coffee = self._post("/orders", {"sku": "coffee", "quantity": 1}, expect=201)["id"]
        self._post(f"/orders/{coffee}/cancel", {"reason": "never paid"}, expect=200)
        self._post(f"/orders/{coffee}/cancel", {"reason": "once more"}, expect=409)
        self._watch_until_done(recorded=9)
        self._require_right_ends({tea: "paid", teapot: "refunded", coffee: "cancelled"}, balance=Decimal("9.00"))
        self._require_causes()

    def _change_price(self, sku: str, price: str) -> None:
        """In the admin, where no method of the model is called: the change itself is captured.

        The list of products is cached. That it shows the new price is the work of the handler after the commit.
        """
        if self._product(sku)["price"] == price:
            raise DemoFailed(f"{sku} costs {price} already.")
        try:
            Editor(url=self.customer.url, **self.admin).change_product(self._product(sku)["id"], price=price)
        except (OSError, RuntimeError) as error:
            raise DemoFailed(f"The price could not be changed in the admin: {error}") from error
        began = time.monotonic()
        self.observer.say(f"in the admin, the price of {sku} is changed to {price}")
        while (shown := self._product(sku)["price"]) != price:
            if time.monotonic() - began > STEPS_WITHIN:
                raise DemoFailed(f"The cached list still shows {shown} for {sku} and not {price}.")
            self._look()
        self.observer.say(f"GET /products shows {price}: the cached list was dropped right after the commit")

    def _product(self, sku: str) -> dict[str, Any]:
        products = self.customer.call("GET", "/products")[1]["products"]
        return next(product for product in products if product["sku"] == sku)

    def _post(self, path: str, body: dict[str, object] | None = None, *, expect: int) -> dict[str, object]:
        status, answer = self.customer.call("POST", path, body or {})
        outcome = answer.get("detail") or f"order {answer.get('id')} is {answer.get('status')}"
        self.observer.say(f"POST {path} {json.dumps(body or {})} → {status}: {outcome}")
        if status != expect:
            raise DemoFailed(f"POST {path} answered {status} instead of {expect}: {answer}")
        pause_ends = time.monotonic() + BETWEEN_REQUESTS
        while time.monotonic() < pause_ends:
            self._look()
        return answer

    def _watch_until_done(self, *, recorded: int) -> None:
        deadline = time.monotonic() + STEPS_WITHIN
        while len(self.observer.events) < recorded or self.observer.missing():
            if time.monotonic() > deadline:
                raise self._late(recorded)
            self._look()

    def _late(self, recorded: int) -> DemoFailed:
        waiting = self.observer.missing() or [f"{recorded - len(self.observer.events)} more events in the log"]
        slow = self.puller if all("pulled" in step for step in waiting) else self.worker
        # Why a consumer waits is said there, and may be far up in the worker's log.
        status = self.supervisor.run("status", "manage.py", "eventstore_status")
        steps = "".join(f"\n    {step}" for step in waiting)
        return slow.failure(f"is late. Not seen within {STEPS_WITHIN:g} s:{steps}\n{status}")

    def _look(self) -> None:
        self.supervisor.require_running()
        try:
            self.observer.look()
        except (OSError, HTTPException, RuntimeError) as error:
            # The process behind it may have ended this moment, and then its log says more than our error.
            time.sleep(0.2)
            self.supervisor.require_running()
            raise DemoFailed(f"The shop did not answer as it should: {error}") from error
        time.sleep(PAUSE)

    def _require_right_ends(self, orders: dict[object, str], *, balance: Decimal) -> None:
        positions = [seen.entry["position"] for seen in self.observer.events]
        if positions != list(range(1, len(positions) + 1)):
            raise DemoFailed(f"Positions are not 1, 2, 3, …: {positions}")
        for order, wanted in orders.items():
            found = self.customer.call("GET", f"/orders/{order}")[1]["status"]
            if found != wanted:
                raise DemoFailed(f"Order {order} is {found} and should be {wanted}.")
        if self.observer.balance != balance:
            raise DemoFailed(f"The bookkeeping's balance is {self.observer.balance} and should be {balance}.")
        self.observer.say(
            f"every step of {len(positions)} events was seen; the other service's balance is {balance} EUR"
        )

    def _require_causes(self) -> None:
        """The log says who did it; and of what the worker did, which request it goes back to."""
        entries = [seen.entry for seen in self.observer.events]
        actors = {entry["type"]: actor(entry) for entry in entries}
        wanted = {"shop.PriceChanged": self.admin["name"], "shop.OrderCancelled": "ada", "shop.OrderRefunded": None}
        found = {kind: actors[kind] for kind in wanted}
        if found != wanted:
            raise DemoFailed(f"The actors are {found} and should be {wanted}.")
        [refunded] = [entry for entry in entries if entry["type"] == "shop.OrderRefunded"]
        [cause] = [entry for entry in entries if entry["event_id"] == refunded["causation_id"]]
        if cause["type"] != "shop.OrderCancelled" or cause["correlation_id"] != refunded["correlation_id"]:
            raise DemoFailed(f"{refunded} does not name its cause, but {cause}.")
        self.observer.say(
            f"the refund goes back to the request {cause['correlation_id']}, in which {actor(cause)} cancelled"
        )
