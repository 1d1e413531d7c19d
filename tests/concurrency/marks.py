"""What the tests of this suite say about the database they use."""

from __future__ import annotations

import pytest

on_shared_log = pytest.mark.django_db(
    transaction=True,
    # Django empties the tables of these after each test, and no others, which takes a tenth of the time.
    available_apps=[
        "django_eventstore",
        "tests.shop",
    ],  # not auth: the flush would take its permissions from other tests
)
"""The test commits to the run's own database and uses the fixture ``log``."""
