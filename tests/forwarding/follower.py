"""A follower as a process: ``python -m tests.forwarding.follower SETTINGS SECONDS [ARGUMENT ...]``.

Runs ``eventstore_forward --follow`` with the arguments, and with one handler of test.Counted that takes SECONDS for each
event and leaves a refund of its number. SETTINGS is a JSON document: ``lease`` in seconds, and ``listen``, an entry of
DATABASES.
It says "begins N" when a handler begins.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

import django
from django.conf import settings

CONSUMER = "refunds"


def main() -> None:
    given, seconds = json.loads(sys.argv[1]), float(sys.argv[2])
    settings.EVENTSTORE = {"LEASE": timedelta(seconds=given.get("lease", 60))}
    if "listen" in given:
        settings.DATABASES["direct"] = given["listen"]
        settings.EVENTSTORE["LISTEN_ALIAS"] = "direct"
    django.setup()

    from django.core.management import call_command

    from django_eventstore import handles
    from tests.shop.models import Refund

    @handles("test.Counted", name=CONSUMER, start="beginning")
    def refund(event: dict[str, int]) -> None:
        print(f"begins {event['n']}", flush=True)
        Refund.objects.create(order_id=event["n"])
        time.sleep(seconds)

    call_command("eventstore_forward", "--follow", *sys.argv[3:])


if __name__ == "__main__":
    main()
