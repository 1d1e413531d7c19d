"""A broker in a process of its own that is stopped for a while: what it had taken arrives late, and changes no order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from django_eventstore.exceptions import Unavailable
from django_eventstore.testing.contracts import SenderContract
from tests.servers.kafka import TansuBroker
from tests.services.kafka import Ground, deliver, ids, in_order, tansu_ground, wanted

pytestmark = [pytest.mark.no_database, pytest.mark.needs("kafka-broker")]

LONG = "EVENTSTORE_TEST_LONG"
"""Set: the broker is stopped for 20 seconds; else for one."""
contract = SenderContract()


@pytest.fixture
def ground() -> Iterator[Ground]:
    with tansu_ground() as ground:
        yield ground


@pytest.mark.parametrize("options", [{}, {"transactional_id": "test-{consumer}-{partition}"}], ids=["plain", "fenced"])
def test_a_broker_that_was_stopped_has_every_event_and_each_stream_in_its_order(ground, options):
    sender, entries = ground.sender(**options), contract.entries(600, streams=7)
    assert {} == deliver(sender, entries[:200])
    outage = 20.0 if os.environ.get(LONG) else 1.0
    assert isinstance(ground.kafka, TansuBroker)
    ground.kafka.freeze()
    try:
        ground.hurry()
        ended = time.monotonic() + outage
        while time.monotonic() < ended:
            with pytest.raises(Unavailable):
                sender.send(contract.batch(entries[200:400]))
    finally:
        ground.kafka.thaw()
    ground.take_time()
    assert {} == deliver(sender, entries[200:])
    received = ground.read(600)
    place = {name: number for number, name in enumerate(wanted(entries))}
    missing = sorted(set(place.values()) - {place[name] for name in ids(received)})
    assert [] == missing, [place[name] for name in ids(received)]
    in_order(entries, received)
