"""eventstore_catalogue: what it writes, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_eventstore import event, handles
from django_eventstore.events import registry, retire
from django_eventstore.handlers import handler_registry
from django_eventstore.inspection import catalogue
from tests.conftest import Spawn
from tests.declarations import declarations

from .output import run

pytestmark = [pytest.mark.no_database, pytest.mark.usefixtures("clean")]

__all__ = ["declarations"]

Declare = Callable[..., type]


@pytest.fixture
def clean(declarations: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for declared in (registry._by_type, registry._by_class):
        declared.clear()  # type: ignore[attr-defined]
    monkeypatch.setattr(handler_registry, "_handlers", {})
    with override_settings(EVENTSTORE={}):
        yield


def declare(type_name: str = "sales.Sold", *, version: int = 1, aliases: tuple[str, ...] = (), **fields: Any) -> type:
    """The code is written anew: the type has this class, and no other one."""
    if (earlier := registry._by_type.pop(type_name, None)) is not None:
        del registry._by_class[earlier.cls]
    cls = make_dataclass("Sold", (fields or {"n": int}).items(), frozen=True)
    cls.__module__ = __name__
    return event(type_name, version=version, aliases=aliases)(cls)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """The catalogue of the code as it was."""
    declare()
    path = tmp_path / "events.json"
    assert "" == run("eventstore_catalogue", "--format", "json", "--output", str(path))
    return path


def check(path: Path, *more: str) -> str:
    return run("eventstore_catalogue", "--check", str(path), *more)


def failure(capsys: pytest.CaptureFixture[str], path: Path, *more: str) -> tuple[list[str], str]:
    """The lines it wrote, and the sentence it failed with."""
    with pytest.raises(CommandError) as caught:
        call_command("eventstore_catalogue", "--check", str(path), *more)
    assert 1 == caught.value.returncode
    return capsys.readouterr().out.splitlines(), str(caught.value)


def test_a_table_shows_types_classes_and_who_wants_them() -> None:
    sold = declare(version=2, aliases=("shop.Sold",))
    handles(sold, "other.Thing", name="follow")(lambda event: None)
    retire("old.Thing", reason="nobody asked")
    retire("old.Other")

    assert [
        ["TYPE", "VERSION", "CLASS", "ALIASES", "HANDLERS", "CONSUMERS"],
        ["sales.Sold", "2", f"{__name__}.Sold", "shop.Sold", "follow"],
        ["other.Thing", "follow"],
        ["Retired:", "old.Other"],
        ["Retired:", "old.Thing", "(nobody", "asked)"],
    ] == [line.split() for line in run("eventstore_catalogue").splitlines()]


def test_nothing_declared_is_said() -> None:
    assert "No events are declared.\n" == run("eventstore_catalogue")


def test_json_is_the_catalogue_and_the_same_each_time() -> None:
    declare("b.B", ä=int)
    declare("a.A")
    written = run("eventstore_catalogue", "--format", "json")
    assert catalogue().document() == json.loads(written)
    in_order = json.dumps(json.loads(written), sort_keys=True, indent=2, ensure_ascii=False)
    assert written == f"{in_order}\n"
    assert '"ä"' in written
    assert written == run("eventstore_catalogue", "--format", "json")


def test_asyncapi_has_the_title_and_version_that_are_given() -> None:
    declare()
    made = json.loads(run("eventstore_catalogue", "--format", "asyncapi", "--title", "Shop", "--api-version", "2.1"))
    assert ({"title": "Shop", "version": "2.1"}, ["sales.Sold"]) == (made["info"], list(made["channels"]))


def test_a_file_holds_what_would_be_written(tmp_path: Path) -> None:
    declare(ä=int)
    for kind in ("json", "asyncapi"):
        path = tmp_path / kind
        run("eventstore_catalogue", "--format", kind, "--output", str(path))
        assert run("eventstore_catalogue", "--format", kind) == path.read_text(encoding="utf-8")


def test_a_catalogue_of_the_same_code_passes(committed: Path) -> None:
    assert "Nothing changed.\n" == check(committed) == check(committed, "--exact")


def test_a_change_that_breaks_nobody_is_told_and_passes(committed: Path) -> None:
    declare("sales.Returned")
    lines = check(committed).splitlines()
    assert "changed: sales.Returned: is new." == lines[0]
    assert lines[1].endswith(f"is not up to date. Renew it: eventstore_catalogue --format json --output {committed}")


def test_a_change_that_breaks_nobody_fails_when_the_file_must_be_exact(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare("sales.Returned")
    lines, sentence = failure(capsys, committed, "--exact")
    assert ["changed: sales.Returned: is new."] == lines
    assert sentence.startswith(f"{committed} is not up to date.")


def test_who_wants_an_event_is_a_difference_that_breaks_nobody(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handles("sales.*", name="follow")(lambda event: None)
    assert check(committed).startswith("Nothing breaks, and ")
    assert [] == failure(capsys, committed, "--exact")[0]


def test_changes_that_break_somebody_are_a_line_each_and_fail(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(n=str)
    lines, sentence = failure(capsys, committed)
    assert [
        (
            "breaking: sales.Sold: n: stored events hold integer, and this code reads string. Raise the version and "
            "declare @upcast(…, from_version=1)."
        ),
        "breaking: sales.Sold: n: this code writes string, and readers of version 1 expect integer. Raise the version.",
    ] == lines
    assert f"2 breaking changes since {committed}." == sentence


def test_one_breaking_change_is_one(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare(n=int, m=int)
    assert f"1 breaking change since {committed}." == failure(capsys, committed)[1]


def test_checking_changes_no_file(committed: Path) -> None:
    before = committed.read_bytes()
    declare("sales.Returned")
    check(committed)
    assert before == committed.read_bytes()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"catalogue": 1, "events": {"a.B": {}}}'])
def test_a_file_that_is_no_catalogue_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "events.json"
    path.write_text(text)
    with pytest.raises(CommandError, match=r"events\.json: "):
        check(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere\.json"):
        check(tmp_path / "nowhere.json")
    with pytest.raises(CommandError, match="nowhere"):
        run("eventstore_catalogue", "--format", "json", "--output", str(tmp_path / "nowhere" / "events.json"))


@pytest.mark.parametrize(
    "options, problem",
    [
        (["--exact"], "belongs to --check"),
        (["--output", "x"], "--format json or --format asyncapi"),
        (["--output", "x", "--format", "json", "--check", "y"], "leave --output out"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        run("eventstore_catalogue", *options)


def test_it_runs_without_a_database_and_twice_the_same(spawn: Spawn) -> None:
    nowhere = {"EVENTSTORE_TEST_DATABASE": "sqlite"}
    outputs = []
    for seed in ("1", "2"):
        process = spawn(
            "-m", "django", "eventstore_catalogue", "--format", "json", environment={**nowhere, "PYTHONHASHSEED": seed}
        )
        assert 0 == process.wait(check=False), process.errors
        outputs.append(process.output)
    assert outputs[0] == outputs[1]
    assert {"shop.OrderCancelled", "shop.OrderPlaced"} == set(json.loads(outputs[0])["events"])
