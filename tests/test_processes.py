"""Processes that tests start work on the test's database, obey signals and cannot fail unseen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.db import connections

from tests.conftest import MariaDBFactory, PostgresFactory, RegisterDatabase, Spawn
from tests.processes import ProcessFailed
from tests.processes import spawn as start_process

COUNTER = """
import itertools, time
for number in itertools.count():
    print(number)
    time.sleep(0.005)
"""


@pytest.mark.django_db(transaction=True)
def test_a_process_sees_what_the_test_has_committed(spawn: Spawn) -> None:
    Group.objects.create(name="committed here")

    process = spawn(
        "-c",
        "from django.db import connection as c; k = c.cursor(); k.execute('SELECT name FROM auth_group'); "
        "print(k.fetchall())",
    )

    assert process.wait() == 0
    assert "committed here" in process.output


@pytest.mark.django_db(transaction=True)
def test_the_test_sees_what_a_process_has_committed(spawn: Spawn) -> None:
    script = "from django.db import connection as c; c.cursor().execute(\"INSERT INTO auth_group (name) VALUES ('x')\")"

    spawn("-c", script).wait()

    assert list(Group.objects.values_list("name", flat=True)) == ["x"]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_process_knows_both_databases_and_can_have_the_other_as_its_default(spawn: Spawn) -> None:
    script = (
        "from django.db import connections as c; print(*(c[a].settings_dict['NAME'] for a in ('default', 'other')))"
    )

    plain, swapped = spawn("-c", script), spawn("-c", script, using="other")
    plain.wait()
    swapped.wait()

    default, other = plain.output.split()
    assert default != other
    assert swapped.output.split() == [other, other]


@pytest.mark.no_database
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_private_server_can_be_the_database_of_the_test_and_of_its_processes(
    request: pytest.FixtureRequest, register_database: RegisterDatabase, spawn: Spawn, kind: str
) -> None:
    factory: PostgresFactory | MariaDBFactory = request.getfixturevalue(
        "postgres_cluster" if kind == "postgresql" else "mariadb_server"
    )
    server = factory()
    server.create_database("shop")
    alias = register_database(server.django_settings("shop"))
    script = "from django.db import connection as c; c.cursor().execute(\"INSERT INTO auth_group (name) VALUES ('x')\")"

    spawn("-c", script, using=alias).wait()
    connections[alias].close()
    server.kill()
    server.restart()

    assert list(Group.objects.using(alias).values_list("name", flat=True)) == ["x"]


@pytest.mark.no_database
def test_a_stopped_process_does_nothing_until_it_goes_on(spawn: Spawn) -> None:
    process = spawn("-c", COUNTER)
    process.wait_for("3\n")

    process.stop()
    before = process.output
    time.sleep(0.2)
    assert process.output == before
    assert process.running

    process.cont()
    process.wait_for(f"\n{len(before.split()) + 5}\n")


@pytest.mark.no_database
def test_a_stopped_process_can_be_killed(spawn: Spawn) -> None:
    process = spawn("-c", COUNTER)
    process.wait_for("3\n")
    process.stop()

    process.kill9()

    assert not process.running
    assert process.wait(check=False) == -9


@pytest.mark.no_database
def test_waiting_for_the_words_of_a_dead_process_says_what_it_died_of(spawn: Spawn) -> None:
    process = spawn("-c", "raise SystemExit('out of cheese')")

    with pytest.raises(ProcessFailed, match="out of cheese"):
        process.wait_for("ready")
    with pytest.raises(ProcessFailed, match="ended with 1"):
        process.wait()


@pytest.mark.no_database
@pytest.mark.parametrize("ending", ["release", "kill9", "stop"])
def test_a_process_that_failed_by_itself_cannot_be_ended_unseen(tmp_path: Path, ending: str) -> None:
    process = start_process("-c", "raise SystemExit('out of cheese')", directory=tmp_path / "process")
    while process.running:
        time.sleep(0.01)

    with pytest.raises(ProcessFailed, match="out of cheese"):
        getattr(process, ending)()
