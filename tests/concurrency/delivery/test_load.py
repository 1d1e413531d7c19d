"""Several workers, while events are recorded all the time: divided, slowed down, told a wrong time, asked to stop."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from django.db import connection, connections, transaction

from django_eventstore import EventStore, record
from django_eventstore.models import FailedDelivery, Lease
from tests.concurrency.delivery.clock import wrong_clock
from tests.concurrency.delivery.nursery import Nursery
from tests.concurrency.delivery.play import Play, until
from tests.concurrency.delivery.sinks import LIMIT, NUMBERED, effects, lines_of
from tests.concurrency.marks import on_shared_log
from tests.concurrency.test_interrupted_pass import NUMBERS
from tests.conftest import Spawn

pytestmark = on_shared_log

BACKLOG = "EVENTSTORE_TEST_BACKLOG"
LONGEST_TAKE_OVER = 15.0
"""Seconds, with a lease of one."""
MOST_GROWTH = 40_000
"""Kilobytes of memory between the first tenth of a backlog and its end."""


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_partitions_change_under_load_with_three_workers_one_of_which_has_a_wrong_clock(
    play: Play, tmp_path: Path, seconds: float
) -> None:
    stop = str(tmp_path / "stop")
    late = Nursery(tmp_path / "late", environment=wrong_clock(tmp_path / "clock", seconds=3_600))
    try:
        workers = [play.fork(stop=stop, scope=scope) for scope in ("event", "batch")]
        workers.append(Play(nursery=late, directory=tmp_path).fork(stop=stop))
        with play.load(streams=24, pause=0.03):
            for count in (8, 3, 1, 5):
                time.sleep(seconds / 8)
                play.divide(count)
                play.divide(count, "effects")
        until(play.is_done, "everything has arrived")
        Path(stop).touch()
        for worker in workers:
            worker.wait()
    finally:
        late.process.kill9()
    # Each change may interrupt a batch of each partition before it.
    assert [] == play.violations(repeats=LIMIT * (1 + 8 + 3 + 1))


def test_a_worker_that_is_stopped_under_load_holds_up_nothing_for_longer_than_its_lease(play: Play) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("a writer that is frozen in a transaction keeps every other one out")
    stop = str(play.directory / "stop")
    with play.load(pause=0.01):
        frozen = play.fork(stop=stop, slow=0.005)
        until(lambda: bool(lines_of(play.file)), "it delivers")
        frozen.stop()
        other = play.fork(stop=stop)
        done, sent, began = _effects(), _delivered(play), time.monotonic()
        until(lambda: _effects() > done and _delivered(play) > sent, "the other one takes over")
        taken = time.monotonic() - began
        frozen.cont()
        time.sleep(0.3)
    Path(stop).touch()
    for worker in (frozen, other):
        worker.wait()
    play.drain()
    print(f"taken over after {taken:.2f} s")
    assert taken < LONGEST_TAKE_OVER
    assert [] == play.violations()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_an_open_transaction_that_has_recorded_delays_nobody_and_its_event_comes_after_its_commit(
    play: Play, seconds: float
) -> None:
    connections["holder"] = connections[play.using].copy("holder")
    try:
        with transaction.atomic(using="holder"):
            record(NUMBERED, {"n": 0}, stream="s-77", using="holder")
            play.record(rounds=20)
            stop = play.directory / "stop"
            worker = play.fork(stop=str(stop))
            until(play.is_done, "what the others recorded has arrived", patience=10)
            time.sleep(seconds / 6)
            play.record(rounds=5)
            until(play.is_done, "also later", patience=5)
        play.recorded["s-77"] += 1
        until(play.is_done, "the event of the long transaction has arrived", patience=10)
    finally:
        connections["holder"].close()
        del connections["holder"]
    stop.touch()
    worker.wait()
    assert [] == play.violations(repeats=0)


def test_one_poisonous_event_in_a_thousand_stops_its_own_stream_only(play: Play) -> None:
    streams = tuple(f"s-{number}" for number in range(500))
    play.record(*streams)
    play.record(*streams)
    play.make_bad("s-123")
    settings = {"MAX_ATTEMPTS": 3}
    for _ in range(4):
        play.pass_time()
        play.run(settings=settings, scope="batch")
    done = effects()
    assert {"s-123"} == set(streams) - set(done)
    assert all(numbers == [0, 1] for numbers in done.values())
    assert 2 == FailedDelivery.objects.filter(state="parked").count()  # one of each consumer
    sent = {(line.stream, line.number) for line in lines_of(play.file)}
    assert 2 * 499 == len(sent)


def test_sigterm_under_load_ends_a_worker_in_order_and_repeats_nothing(play: Play, spawn: Spawn) -> None:
    code = (
        "from tests.concurrency import process; process.begin(); from tests.concurrency.delivery import worker; "
        f"worker.declare(worker.Options(name='term', directory={str(play.directory)!r})); "
        "from django.core.management import call_command; call_command('eventstore_forward', follow=True, interval=0.05)"
    )
    with play.load(pause=0.01):
        process = spawn("-c", code)
        until(lambda: len(lines_of(play.file)) > 50, "it delivers")
        began = time.monotonic()
        assert 0 == process.terminate(timeout=30)
        assert time.monotonic() - began < 12
    assert not Lease.objects.exclude(owner="").exists()
    play.drain()
    assert [] == play.violations(repeats=0)


def test_a_backlog_is_delivered_in_flat_memory(play: Play) -> None:
    backlog = int(os.environ.get(BACKLOG, "6000"))
    recursive = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < %s) SELECT n FROM c"
    numbers = {**NUMBERS, "sqlite": recursive}
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventstore_entry (type, payload, stream) "
            f"SELECT %s, %s, 's-0' FROM ({numbers[connection.vendor]}) numbers",
            [NUMBERED, json.dumps({"n": 0}), backlog],
        )
    stop = play.directory / "stop"
    worker = play.fork(stop=str(stop), consumers=("outside",), settings={})
    until(lambda: _delivered(play) > backlog / 10, "a tenth of the backlog")
    first = _memory(worker.pid)
    until(lambda: _delivered(play) >= backlog, "the backlog", patience=60 + backlog / 500)
    growth = _memory(worker.pid) - first
    stop.touch()
    worker.wait()
    print(f"{backlog} events, {growth} kB more")
    assert growth < MOST_GROWTH
    assert EventStore().get(backlog).complete


def _effects() -> int:
    return sum(map(len, effects().values()))


def _delivered(play: Play) -> int:
    return play.file.read_bytes().count(b"\n") if play.file.exists() else 0


def _memory(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])
