"""Workers killed at random, connections cut, the server restarted: at least once outside, exactly once in the database."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from django.db import OperationalError, connection, connections

from tests.concurrency.delivery.nursery import Nursery
from tests.concurrency.delivery.play import Play, until
from tests.concurrency.delivery.proxy import Proxy
from tests.concurrency.delivery.sinks import LIMIT
from tests.concurrency.marks import on_shared_log
from tests.conftest import MariaDBFactory, PostgresFactory, RegisterDatabase

KILLS = "EVENTSTORE_TEST_KILLS"
CUT_EVERY = 0.2


@on_shared_log
def test_workers_killed_at_random_lose_nothing_and_double_at_most_the_batch_in_hand(play: Play, seed: str) -> None:
    chance = random.Random(seed)
    stop = str(play.directory / "stop")
    with play.load(pause=0.02):
        for number in range(int(os.environ.get(KILLS, "50"))):
            worker = play.fork(stop=stop, scope=("event", "batch")[number % 2], slow=0.001)
            time.sleep(chance.uniform(0.01, 0.12))
            worker.kill9()
            play.pass_time()
    play.drain()
    assert [] == play.violations()
    assert play.recorded.total() > 200


@on_shared_log
@pytest.mark.postgresql
@pytest.mark.mariadb
def test_connections_cut_all_the_time_lose_and_double_nothing(
    play: Play, seed: str, seconds: float, tmp_path: Path
) -> None:
    proxy = Proxy(connection.settings_dict, seed=seed)
    nursery = Nursery(tmp_path / "behind-proxy", using=proxy.settings)
    try:
        cut = Play(nursery=nursery, directory=tmp_path, recorded=play.recorded)
        stop = tmp_path / "stop"
        workers = [cut.fork(stop=str(stop), scope=scope) for scope in ("event", "batch")]
        with play.load(pause=0.02):
            proxy.cut_every(CUT_EVERY)
            end = time.monotonic() + seconds / 2
            while time.monotonic() < end:
                time.sleep(CUT_EVERY)
                play.pass_time()
        proxy.cut_every(None)
        stop.touch()
        for worker in workers:
            worker.wait()
    finally:
        nursery.process.kill9()
        proxy.close()
    play.drain()
    print(f"{proxy.cuts} cuts, {play.recorded.total()} events")
    assert proxy.cuts > seconds
    assert [] == play.violations(repeats=LIMIT * proxy.cuts)


def _restarts(play: Play, kill: object, restart: object) -> None:
    stop = play.directory / "stop"
    worker = play.fork(stop=str(stop), slow=0.001)
    for _ in range(2):
        play.record(rounds=40)
        time.sleep(0.2)
        kill()  # type: ignore[operator]
        connections[play.using].close()
        time.sleep(0.2)
        restart()  # type: ignore[operator]
        until(lambda: _answers(play.using), "the server is back")
        play.pass_time()
    play.record(rounds=2)
    stop.touch()
    worker.wait()
    play.drain()
    assert [] == play.violations(repeats=3 * LIMIT)


def _answers(using: str) -> bool:
    try:
        connections[using].ensure_connection()
    except OperationalError:
        return False
    return True


@pytest.mark.postgresql
@pytest.mark.needs("postgres-binaries")
def test_a_server_that_stops_immediately_and_comes_back_loses_and_doubles_nothing(
    postgres_cluster: PostgresFactory, register_database: RegisterDatabase, tmp_path: Path
) -> None:
    cluster = postgres_cluster()
    cluster.create_database("shop")
    settings = cluster.django_settings("shop")
    using = register_database(settings)
    nursery = Nursery(tmp_path / "nursery", using=settings)
    try:
        play = Play(nursery=nursery, directory=tmp_path, using=using)
        _restarts(play, cluster.kill, cluster.restart)
    finally:
        nursery.process.kill9()


@pytest.mark.mariadb
@pytest.mark.needs("mariadb-binaries")
def test_a_mariadb_that_is_killed_and_comes_back_loses_and_doubles_nothing(
    mariadb_server: MariaDBFactory, register_database: RegisterDatabase, tmp_path: Path
) -> None:
    server = mariadb_server()
    server.create_database("shop")
    settings = server.django_settings("shop")
    using = register_database(settings)
    nursery = Nursery(tmp_path / "nursery", using=settings)
    try:
        play = Play(nursery=nursery, directory=tmp_path, using=using)
        _restarts(play, server.kill, server.restart)
    finally:
        nursery.process.kill9()
