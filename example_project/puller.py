"""Bookkeeping: a second service. It knows the shop by its HTTP API only, and keeps its own offset.

It follows the shop's log and books what was paid and refunded. The booking and the offset that it belongs to are written
in one transaction of its own database, so after a crash at any moment it goes on where its books end: nothing is booked
twice and nothing is left out.

Only the standard library is used: any language with HTTP and a database can do the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from decimal import Decimal
from http.client import HTTPException
from typing import Any

PAUSE = 0.2
LONGEST_PAUSE = 5.0
SIGNS = {"shop.OrderPaid": 1, "shop.OrderRefunded": -1}

TABLES = """
CREATE TABLE IF NOT EXISTS booking (position INTEGER PRIMARY KEY, event_id TEXT UNIQUE, order_id INTEGER, amount TEXT);
CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY CHECK (id = 1), "offset" INTEGER, epoch INTEGER, log TEXT);
INSERT OR IGNORE INTO progress VALUES (1, 0, NULL, NULL);
"""


class HistoryChanged(Exception):
    """409: the log was restored or failed over, and the offset may name other events now. Carries the answer's body."""


class Books:
    """The bookings and the offset up to which they are complete."""

    def __init__(self, path: str) -> None:
        # Transactions are begun and ended here, not by the driver.
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=20)
        self.connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + TABLES)

    def close(self) -> None:
        self.connection.close()

    def progress(self) -> tuple[int, int | None, str | None]:
        """(offset, epoch, log); epoch and log are None before the first page."""
        offset, epoch, log = self.connection.execute('SELECT "offset", epoch, log FROM progress').fetchone()
        return offset, epoch, log

    def balance(self) -> Decimal:
        return sum((Decimal(amount) for (amount,) in self.connection.execute("SELECT amount FROM booking")), Decimal(0))

    def book(self, page: dict[str, Any]) -> None:
        """The page's events and its offset, both or neither."""
        self.connection.execute("BEGIN IMMEDIATE")
        with self.connection:
            for event in page["events"]:
                if sign := SIGNS.get(event["type"]):
                    payload = event["payload"]
                    self.connection.execute(
                        "INSERT INTO booking VALUES (?, ?, ?, ?)",
                        (
                            event["position"],
                            event["event_id"],
                            payload["order_id"],
                            str(sign * Decimal(payload["amount"])),
                        ),
                    )
            self._move(page["next_offset"], page["epoch"], page["log"])

    def rewind(self, began_after: int, epoch: int, log: str) -> int:
        """Take back what was booked from a history that has ended, and go on from where the new one began.

        Returns the number of bookings taken back. A service whose effects cannot be taken back would stop here and
        ask somebody instead.
        """
        self.connection.execute("BEGIN IMMEDIATE")
        with self.connection:
            taken_back = self.connection.execute("DELETE FROM booking WHERE position > ?", (began_after,)).rowcount
            self._move(min(began_after, self.progress()[0]), epoch, log)
        return taken_back

    def _move(self, offset: int, epoch: int, log: str) -> None:
        self.connection.execute('UPDATE progress SET "offset" = ?, epoch = ?, log = ?', (offset, epoch, log))


def get_page(url: str, token: str, *, offset: int, epoch: int | None) -> dict[str, Any]:
    """One page of the log after ``offset``.

    Raises HistoryChanged for a 409, and what urllib raises for any other failure.
    """
    query = {"offset": offset, "limit": 100, **({"epoch": epoch} if epoch is not None else {})}
    request = urllib.request.Request(
        f"{url}/events?{urllib.parse.urlencode(query)}", headers={"Authorization": f"Token {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            page: dict[str, Any] = json.load(answer)
            return page
    except urllib.error.HTTPError as error:
        if error.code == 409:
            raise HistoryChanged(json.load(error)) from error
        raise


def pull(books: Books, url: str, token: str) -> bool:
    """Book one page. Returns whether the end of the log was reached."""
    offset, epoch, log = books.progress()
    try:
        page = get_page(url, token, offset=offset, epoch=epoch)
    except HistoryChanged as changed:
        now = changed.args[0]
        require_same_log(log, now["log"])
        taken_back = books.rewind(now["began_after"], now["epoch"], now["log"])
        tell(f"rewound to={now['began_after']} epoch={now['epoch']} taken_back={taken_back} balance={books.balance()}")
        return False
    require_same_log(log, page["log"])
    books.book(page)
    for event in page["events"]:
        tell(f"pulled position={event['position']} event={event['event_id']}")
    if page["events"]:
        tell(f"booked offset={page['next_offset']} balance={books.balance()}")
    return bool(page["complete"])


def require_same_log(mine: str | None, theirs: str) -> None:
    """Another log altogether (somebody emptied the shop): no offset of these books means anything in it."""
    if mine not in (None, theirs):
        sys.exit(f"bookkeeping: this is another log ({theirs}); these books belong to {mine}")


def follow(books: Books, url: str, token: str) -> None:
    """Pull for ever. A shop that cannot be reached is waited for; one that refuses the token is not."""
    failures = 0
    while True:
        try:
            at_the_end = pull(books, url, token)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                sys.exit(f"bookkeeping: the shop answered {error.code} {error.reason}: {error.read(500)!r}")
            failures += 1
            tell(f"the shop answered {error.code}")
        except (OSError, HTTPException) as error:
            failures += 1
            tell(f"the shop cannot be reached: {error}")
        else:
            failures = 0
            if not at_the_end:
                continue
        time.sleep(min(PAUSE * 2**failures, LONGEST_PAUSE))


def tell(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="where the shop is, as http://127.0.0.1:8000")
    parser.add_argument("--database", required=True, help="the file of its own database")
    arguments = parser.parse_args()
    # Not an argument: the list of processes shows those to everybody.
    token = os.environ.get("BOOKKEEPING_TOKEN")
    if not token:
        sys.exit("bookkeeping: BOOKKEEPING_TOKEN is not set")
    with closing(Books(arguments.database)) as books:
        offset, epoch, log = books.progress()
        tell(f"reading {arguments.url}/events from offset={offset} epoch={epoch} log={log}")
        follow(books, arguments.url, token)


if __name__ == "__main__":
    main()
