"""The Celery app of a worker that a test starts: ``python -m celery -A tests.recording.celery_worker worker``."""

from __future__ import annotations

import os
import time

import django
from celery import Celery
from django.db import transaction

django.setup()

from django_eventstore import handles, record  # noqa: E402
from tests.shop.models import Refund  # noqa: E402

app = Celery("tests")
app.config_from_object("django.conf:settings", namespace="CELERY")
directory = os.environ["EVENTSTORE_TEST_BROKER_DIRECTORY"]
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": directory,
        "data_folder_out": directory,
        "control_folder": f"{directory}/control",
        "polling_interval": 0.05,
    },
    worker_hijack_root_logger=False,
)


@app.task(name="tests.record_in_task")
def record_in_task(number: int) -> None:
    with transaction.atomic():
        record("test.InTask", {"n": number})


@handles("test.InTask", mode="after_commit")
def refund_later(event: dict[str, int]) -> None:
    time.sleep(3)  # longer than a process of the pool needs to end
    Refund.objects.create(order_id=event["n"])
