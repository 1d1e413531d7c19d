"""The Celery app of the figure ``woken``: of its worker, ``python -m celery -A tests.benchmarks.woken worker``, and sender.

EVENTSTORE_TEST_BROKER_URL names the broker; without it messages are files of a directory, which every machine has.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import django
from celery import Celery

django.setup()

from django_eventstore import handles  # noqa: E402

BROKER_URL: Final = "EVENTSTORE_TEST_BROKER_URL"
DIRECTORY: Final = "EVENTSTORE_BENCHMARK_DIRECTORY"
"""Where arrivals are noted, and where the messages of a broker of files are."""
REUSE: Final = "EVENTSTORE_BENCHMARK_DB_REUSE_MAX"
"""For how many tasks Celery keeps the worker's database connection; "0": it opens one for each, which is its default."""


def _broker(directory: Path) -> dict[str, object]:
    url = os.environ.get(BROKER_URL)
    if url is not None:
        return {"broker_url": url}
    options = {
        "data_folder_in": str(directory),
        "data_folder_out": str(directory),
        "control_folder": f"{directory}/control",
        "polling_interval": 0.005,
    }
    return {"broker_url": "filesystem://", "broker_transport_options": options}


directory = Path(os.environ[DIRECTORY])
app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    **_broker(directory),
    # Another's worker on the same broker takes nothing of it.
    task_default_queue=f"benchmarks.{directory.name}",
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
app.conf["CELERY_DB_REUSE_MAX"] = int(os.environ.get(REUSE, "0"))
app.set_default()


def note(number: int) -> None:
    """Append when it arrived, by the clock that all processes of a machine share."""
    with (directory / "arrivals").open("a") as file:
        file.write(f"{number} {time.monotonic()}\n")


@app.task(name="benchmarks.arrive", ignore_result=True)
def arrive(number: int) -> None:
    note(number)


@handles("benchmarks.Woken", name="benchmarks.woken", start="beginning")
def handle(event: dict[str, int]) -> None:
    note(event["n"])
