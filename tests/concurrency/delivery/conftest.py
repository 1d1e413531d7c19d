"""A log, a nursery of workers, and a play of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.concurrency.delivery.nursery import Nursery
from tests.concurrency.delivery.play import Play


@pytest.fixture(scope="session")
def nursery(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One for all tests on the run's own database; it holds no connection."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.process.kill9()


@pytest.fixture
def play(log: str, nursery: Nursery, tmp_path: Path) -> Iterator[Play]:
    """A play on the run's own database, with a log that is new."""
    yield Play(nursery=nursery, directory=tmp_path, using=log)
    nursery.end_all()
