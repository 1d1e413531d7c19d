"""A worker as a process: ``python -m tests.webhooks.worker``. It forwards to the endpoints until it is killed."""

from __future__ import annotations

import time
from datetime import timedelta

import django
from django.conf import settings

LEASE = timedelta(seconds=1)


def main() -> None:
    settings.EVENTSTORE = {"LEASE": LEASE}
    django.setup()

    from django_eventstore import EventForwarder
    from django_eventstore.consumers import Consumer
    from django_eventstore.webhooks import WebhookSender

    sender = WebhookSender(
        allow_http=True,
        allow_private=True,
        ports=range(1, 65_536),
        retry_base=timedelta(milliseconds=20),
        retry_cap=timedelta(milliseconds=20),
        patience=timedelta(milliseconds=200),
    )
    consumer = Consumer(name="webhooks", events=("test.*",), sender="none", start="beginning", limit=10)
    forwarder = EventForwarder(consumer, sender=sender)
    while True:
        forwarder.get_and_send()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
