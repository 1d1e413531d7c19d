"""A project of its own, with the tests of the guide and some more: one process after the other, and several at once."""

from __future__ import annotations

import os
import re
from importlib.metadata import entry_points

import pytest
from django.conf import settings

from tests import databases
from tests.documentation import DOCS, blocks
from tests.tutorial import Project

TESTING = DOCS / "guides" / "testing.md"
PLUGIN = "django_eventstore.testing.plugin"

MORE = """
import os
from pathlib import Path

from django.test import TestCase, TransactionTestCase

from django_eventstore import EventStore
from django_eventstore.testing import EventStoreTestMixin, Faults
from orders.models import Order, Refund


class Orders:
    def setUp(self):
        with (Path(__file__).parent / "processes").open("a") as processes:
            processes.write(f"{os.getpid()}\\n")

    def _once(self, reason):
        order = Order.objects.create()
        order.cancel(reason)
        self.assert_recorded("orders.OrderCancelled", times=1, stream=order, reason=reason)
        self.assertEqual({"orders.handlers.refund": 1}, self.drain(faults=Faults(crash=True)).delivered)
        self.assertEqual(order, Refund.objects.get().order)

    def test_one(self):
        self._once("one")

    def test_two(self):
        self._once("two")

    def test_three(self):
        self._once("three")


class Each(EventStoreTestMixin, Orders):
    pass


class OneTests(Each, TestCase):
    pass


class TwoTests(Each, TransactionTestCase):
    def test_positions_begin_at_1(self):
        self._once("first")
        self.assertEqual([1], [entry.position for entry in EventStore().get().entries])


class ThreeTests(Each, TestCase):
    pass


class FourTests(Each, TransactionTestCase):
    test_positions_begin_at_1 = TwoTests.test_positions_begin_at_1
"""

UNITTESTS = 2 + 3 + 4 + 3 + 4
PYTESTS = UNITTESTS + 2


KEPT = ("ENGINE", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS")


def database(name: str) -> str:
    """The setting of a database of the project's own, on the server of this run."""
    entry = {key: value for key, value in settings.DATABASES["default"].items() if key in KEPT}
    named = {"NAME": name} if databases.chosen_vendor() != "sqlite" else {"NAME": "db.sqlite3"}
    test = {} if databases.chosen_vendor() == "sqlite" else {"TEST": {"NAME": f"test_{name}"}}
    return f"DATABASES = {{'default': { ({**entry, **named, **test})!r}}}\n"


@pytest.fixture(scope="module")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project of the quickstart, with the tests of the guide and those above."""
    made = Project(tmp_path_factory.mktemp("project"))
    for block in (*blocks(DOCS / "quickstart.md", language="python"), *blocks(TESTING, language="python")):
        made.write(block)
    (made.directory / "orders" / "test_more.py").write_text(MORE)
    with (made.directory / "shop" / "settings.py").open("a") as file:
        file.write(f"\n{database(f'eventstore_kit_{os.getpid()}')}EVENTSTORE = {{'WAKE_UP': False}}\n")
    made.manage("makemigrations", "orders")
    return made


@pytest.fixture
def project(made_project: Project) -> Project:
    (made_project.directory / "orders" / "processes").write_text("")
    return made_project


def processes(project: Project) -> int:
    """How many have run tests."""
    return len(set((project.directory / "orders" / "processes").read_text().split()))


def run_pytest(project: Project, *arguments: str) -> str:
    # As installed: this checkout may have been installed before it had an entry point.
    plugin = () if entry_points(group="pytest11", name="django_eventstore") else ("-p", PLUGIN)
    common = ("-m", "pytest", "-p", "no:cacheprovider", "--ds", "shop.settings", "-o", "python_files=test*.py", "-q")
    return project._run(project.directory, *common, *plugin, *arguments, "orders")


def test_manage_py_test_runs_them_one_after_the_other(project: Project) -> None:
    assert f"Ran {UNITTESTS} tests" in project.manage("test", "--shuffle")
    assert 1 == processes(project)


def test_manage_py_test_runs_them_in_parallel(project: Project) -> None:
    said = project.manage("test", "--parallel", "2")
    assert f"Ran {UNITTESTS} tests" in said
    assert "Cloning test database" in said
    assert 2 == processes(project)


def test_pytest_runs_them_one_after_the_other(project: Project) -> None:
    assert re.search(rf"^{PYTESTS} passed", run_pytest(project), re.M)
    assert 1 == processes(project)


def test_pytest_xdist_runs_them_in_parallel(project: Project) -> None:
    assert re.search(rf"^{PYTESTS} passed", run_pytest(project, "-n", "2"), re.M)
    assert 2 == processes(project)
