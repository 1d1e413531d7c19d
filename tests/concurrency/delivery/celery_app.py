"""``celery -A tests.concurrency.delivery.celery_app``: beat and worker on the test's database, over files as a broker."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from tests.concurrency import process

process.begin()

from tests.concurrency.delivery import worker  # noqa: E402 - it declares handlers, which needs Django

directory = Path(os.environ[worker.DIRECTORY])
app = Celery("tests", broker="filesystem://")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.broker_url = "filesystem://"
app.conf.broker_transport_options = {
    "data_folder_in": str(directory / "tasks"),
    "data_folder_out": str(directory / "tasks"),
    "control_folder": str(directory / "control"),
}
app.autodiscover_tasks(["django_eventstore"])
worker.declare(worker.Options(name=f"celery-{os.getpid()}", directory=str(directory)))
