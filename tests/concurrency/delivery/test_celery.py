"""Three beats and three workers at once: more ticks than anybody needs, and every event once all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from django_celery_beat.models import PeriodicTask

from django_eventstore.forwarding.celery import FORWARD_TASK
from django_eventstore.models import Heartbeat
from tests.concurrency.delivery.play import Play, until
from tests.concurrency.delivery.worker import DIRECTORY
from tests.concurrency.marks import on_shared_log
from tests.conftest import Spawn

pytestmark = [on_shared_log, pytest.mark.postgresql]


def test_three_beats_and_three_workers_deliver_each_event_once(play: Play, spawn: Spawn, tmp_path: Path) -> None:
    assert PeriodicTask.objects.filter(task=FORWARD_TASK, enabled=True).exists()
    for folder in ("tasks", "control"):
        (tmp_path / folder).mkdir()
    environment = {DIRECTORY: str(tmp_path)}
    app = ("-m", "celery", "-A", "tests.concurrency.delivery.celery_app")
    workers = [
        spawn(
            *app,
            "worker",
            "--pool=solo",
            "--without-gossip",
            "--without-mingle",
            "-n",
            f"w{n}",
            environment=environment,
        )
        for n in range(3)
    ]
    beats = [spawn(*app, "beat", "--pidfile=", "--max-interval=1", environment=environment) for _ in range(3)]
    with play.load(pause=0.02):
        until(Heartbeat.objects.filter(name="beat").exists, "a beat has reached a worker", patience=60)
        until(lambda: bool(play.file.exists()), "something is delivered", patience=30)
        until(lambda: play.recorded.total() > 300, "there was some load")
    until(play.is_done, "everything has arrived", patience=30)
    for process in (*beats, *workers):
        process.kill9()
    assert [] == play.violations(repeats=0)
