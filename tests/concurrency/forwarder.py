"""A process that forwards the log to a file through EventForwarder: at least once, with the offset in the database.

``python -m tests.concurrency.forwarder --notes FILE --drain FILE``; it ends when it has sent the position that the drain file
names.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests.concurrency import process
from tests.concurrency.journal import Journal

IDLE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--drain", type=Path, required=True)
    arguments = parser.parse_args()
    process.begin()

    from django_eventstore import Batch, EventForwarder, EventSender, OffsetStore, Outcome
    from django_eventstore.consumers import Consumer

    journal = Journal(arguments.notes)

    class FileSender(EventSender):
        def send(self, batch: Batch) -> Outcome:
            entries = [[entry.position, str(entry.event_id)] for entry in batch.entries]
            journal.append({"ended": time.monotonic(), "entries": entries})
            return Outcome(done=len(entries))

    consumer = Consumer(name="file", events=("*",), sender="", start="beginning")
    forwarder = EventForwarder(consumer, sender=FileSender())
    print("ready", flush=True)
    while True:
        draining = arguments.drain.exists()
        forwarded = forwarder.get_and_send()
        if draining:
            progress = OffsetStore().load("file")
            if progress is not None and progress.offset >= int(arguments.drain.read_text()):
                return
        if not forwarded.delivered:
            time.sleep(IDLE)


if __name__ == "__main__":
    main()
