"""The reference against the code: what it names exists, and what exists is named."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from datetime import timedelta
from itertools import pairwise
from typing import Any, get_args

import pytest
from django.core.checks import Error, Warning  # noqa: A004 - Django's name for it
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.dispatch import Signal

import django_eventstore
from django_eventstore import conf, exceptions, inspection, signals, testing
from django_eventstore.api import parameters, serializers
from django_eventstore.inspection.findings import FindingKind
from django_eventstore.models import EventEntry
from tests.documentation import DOCS, FENCE, PACKAGE, PAGES, README, code, rows, section, subsections

pytestmark = pytest.mark.no_database

COMMANDS = sorted(path.stem for path in (PACKAGE / "management" / "commands").glob("[!_]*.py"))


def _command(name: str) -> BaseCommand:
    command: BaseCommand = load_command_class("django_eventstore", name)
    return command


TYPES = {
    "bool": "bool",
    "int": "int",
    "str": "str",
    "str | None": "str or None",
    "timedelta": "timedelta",
    "tuple[str, ...]": "list of str",
    "OutsideTransaction": '`"allow"`, `"warn"` or `"error"`',
    "Literal['block', 'continue']": '`"block"` or `"continue"`',
    "Literal['block', 'continue'] | None": '`"block"`, `"continue"` or None',
    "Literal['retry', 'park', 'pause']": '`"retry"`, `"park"` or `"pause"`',
    "int | None": "int or None",
    "Literal['now', 'beginning'] | int | datetime": '`"now"`, `"beginning"`, int or datetime',
    "Mapping[str, object]": "dict",
    "Mapping[str, ConsumerSettings]": "dict of name to [consumer](#consumers)",
}


@pytest.mark.parametrize(
    "heading, cls", [("EVENTSTORE", conf.Settings), ("A consumer of CONSUMERS", conf.ConsumerSettings)]
)
def test_the_settings_are_those_of_the_code(heading: str, cls: Any) -> None:
    documented = {}
    for name, kind, default, meaning in rows(section("reference/settings.md", heading)):
        assert meaning.endswith(".")
        value = "required" if default == "required" else eval(code(default), {"timedelta": timedelta})
        documented[code(name)] = (kind, value)
    existing = {
        field.name: (
            TYPES[str(field.type)],
            field.default_factory()
            if field.default_factory is not dataclasses.MISSING
            else "required"
            if field.default is dataclasses.MISSING
            else field.default,
        )
        for field in dataclasses.fields(cls)
    }
    assert existing == documented


CHECK_ID = re.compile(r"django_eventstore\.[EW]\d{3}")


def _checks_of_the_code() -> set[tuple[str, str]]:
    """(class, id) of every check message that the package makes."""
    return {
        (node.func.id, keyword.value.value)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for keyword in node.keywords
        if keyword.arg == "id"
        and isinstance(keyword.value, ast.Constant)
        and CHECK_ID.fullmatch(str(keyword.value.value))
    }


def test_the_checks_are_those_of_the_code() -> None:
    documented = {
        (cls.__name__, code(row[0]))
        for heading, cls in (("Errors", Error), ("Warnings", Warning))
        for row in rows(section("reference/checks.md", heading))
    }
    assert _checks_of_the_code() == documented


def test_no_other_check_id_is_anywhere() -> None:
    named = {id_ for path in (*PACKAGE.rglob("*.py"), README, *PAGES) for id_ in CHECK_ID.findall(path.read_text())}
    assert {id_ for _, id_ in _checks_of_the_code()} == named


def test_the_commands_are_those_that_exist() -> None:
    assert COMMANDS == sorted(re.findall(r"^## (\S+)$", (DOCS / "reference/commands.md").read_text(), re.M))


def _options(parser: Any) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found |= {option for option in action.option_strings if option.startswith("--")}
        if isinstance(action.choices, dict):
            found |= set(action.choices) | {option for sub in action.choices.values() for option in _options(sub)}
    return found


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.startswith("eventstore_")])
def test_the_options_of_a_command_are_those_it_takes(name: str) -> None:
    everywhere = _options(BaseCommand().create_parser("manage.py", name))
    text = FENCE.sub("", section("reference/commands.md", name).split("| finding |")[0])
    first_cells = {re.match(r"`([\w-]+)", row[0]) for row in rows(text)}
    documented = {match[1] for match in first_cells if match} | set(re.findall(r"`(--[\w-]+)", text))
    assert _options(_command(name).create_parser("manage.py", name)) - everywhere == documented - {"CONSUMER"}


def test_the_findings_of_verify_are_those_of_the_code() -> None:
    findings = section("reference/commands.md", "eventstore_verify").split("| finding | meaning |")[1]
    assert set(get_args(FindingKind)) == {code(row[0]) for row in rows(findings)}


def test_the_fields_of_the_status_are_those_of_the_code() -> None:
    text = section("reference/commands.md", "eventstore_status").split(
        "are those of `LogStatus` and `ConsumerStatus`:"
    )[1]
    fields = [*dataclasses.fields(inspection.LogStatus), *dataclasses.fields(inspection.ConsumerStatus)]
    assert {field.name for field in fields} == set(re.findall(r"`(\w+)`", text))


def test_the_states_of_a_consumer_are_those_of_the_code() -> None:
    states = {code(row[0]) for row in rows(section("guides/operating.md", "Look"))}
    assert set(get_args(inspection.ConsumerState)) == states


def test_the_parameters_of_the_api_are_those_it_takes() -> None:
    table = rows(subsections("reference/http.md", "GET events")[""])
    assert list(parameters.KNOWN) == [code(row[0]) for row in table]
    assert str(parameters.DEFAULT_LIMIT) == {code(row[0]): row[1] for row in table}["limit"]
    assert f"at most {parameters.MOST_TYPES}" in {code(row[0]): row[2] for row in table}["types"]


@pytest.mark.parametrize(
    "heading, part, serializer",
    [
        ("GET events", "The page", serializers.PageSerializer),
        ("GET events", "An event", serializers.EventSerializer),
        ("Errors", "409", serializers.EpochChangedSerializer),
    ],
)
def test_the_fields_of_a_body_are_those_it_has(heading: str, part: str, serializer: Any) -> None:
    table = rows(subsections("reference/http.md", heading)[part])
    assert list(serializer().fields) == [code(row[0]) for row in table if row[0]]


def test_the_signals_are_those_of_the_code() -> None:
    table = rows((DOCS / "reference/signals.md").read_text())
    existing = {name for name in signals.__all__ if isinstance(getattr(signals, name), Signal)}
    assert existing == {code(row[0]) for row in table}
    documented = {code(row[0]): set(re.findall(r"`(\w+)`", row[3])) for row in table}
    assert _arguments_that_signals_name() == documented
    sent = _arguments_that_are_sent()
    # Which of the two it is is decided where they are sent: tests/consumers receives them.
    assert set(documented) - {"stream_blocked", "stream_parked"} == set(sent)
    for name, arguments in sent.items():
        assert documented[name] == arguments, name


def _arguments_that_signals_name() -> dict[str, set[str]]:
    """What the texts below the signals say."""
    body = ast.parse(inspect.getsource(signals)).body
    return {
        node.targets[0].id: set(re.findall(r"``(\w+)``", text.value.value.partition("Argument")[2].split(". ")[0]))
        for node, text in pairwise(body)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value) == "Signal()"
    }


def _arguments_that_are_sent() -> dict[str, set[str]]:
    """Of each call of ``send``, at once or as a partial, whose signal is written there."""
    sent: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            names = [getattr(argument, "id", "") for argument in node.args]
            if node.func.id == "partial" and names[:1] == ["send"]:
                names = names[1:]
            elif node.func.id != "send":
                continue
            if names and hasattr(signals, names[0]):
                sent[names[0]] = {str(keyword.arg) for keyword in node.keywords} - {"sender"}
    return sent


PUBLIC = subsections("reference/python.md", "django_eventstore")


def test_the_public_names_are_those_of_the_package() -> None:
    assert set(django_eventstore.__all__) == set(PUBLIC) - {""}


def _parameters(arguments: ast.arguments) -> dict[str, tuple[str, object]]:
    def parsed(source: ast.expr | None) -> object:
        return inspect.Parameter.empty if source is None else ast.literal_eval(source)

    positional = arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    found = {
        arg.arg: ("POSITIONAL_OR_KEYWORD", parsed(default)) for arg, default in zip(positional, defaults, strict=True)
    }
    if arguments.vararg:
        found[arguments.vararg.arg] = ("VAR_POSITIONAL", inspect.Parameter.empty)
    for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[arg.arg] = ("KEYWORD_ONLY", parsed(default))
    if arguments.kwarg:
        found[arguments.kwarg.arg] = ("VAR_KEYWORD", inspect.Parameter.empty)
    return found


def _require_same_signature(documented: ast.FunctionDef | ast.AsyncFunctionDef, function: Any) -> None:
    existing = {
        parameter.name: (parameter.kind.name, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    }
    assert existing == _parameters(documented.args)
    assert inspect.iscoroutinefunction(function) == isinstance(documented, ast.AsyncFunctionDef)


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"", "EventEntry"}))
def test_a_documented_signature_is_that_of_the_code(name: str) -> None:
    match = FENCE.search(PUBLIC[name])
    assert match is not None
    [node] = ast.parse(match[4]).body
    existing = getattr(django_eventstore, name)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        _require_same_signature(node, existing)
        return
    assert isinstance(node, ast.ClassDef)
    fields = {
        member.target.id: ast.unparse(member.annotation) for member in node.body if isinstance(member, ast.AnnAssign)
    }  # type: ignore[union-attr]
    if dataclasses.is_dataclass(existing):
        assert {field.name: str(field.type) for field in dataclasses.fields(existing)} == fields
    for member in node.body:
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
            _require_same_signature(member, vars(existing)[member.name])


def test_every_public_method_is_documented() -> None:
    for name in ("EventStore", "EventForwarder", "EventSender", "OffsetStore"):
        match = FENCE.search(PUBLIC[name])
        assert match is not None
        members = {key for key, value in vars(getattr(django_eventstore, name)).items() if inspect.isfunction(value)}
        private = {key for key in members if key.startswith("_")} | {"prepare", "append", "recorded"}  # record()'s own
        assert members - private == set(re.findall(r"def ([a-z]\w+)", match[4]))


def test_the_attributes_of_an_entry_are_its_columns() -> None:
    columns = [field.name for field in EventEntry._meta.concrete_fields]
    assert columns == [code(row[0]) for row in rows(PUBLIC["EventEntry"]) if row[0]]


def test_other_names_can_be_imported() -> None:
    for row in rows(section("reference/python.md", "Other modules")):
        if row[0]:
            module, _, name = code(row[0]).rpartition(".")
            assert hasattr(importlib.import_module(module), name), row[0]


def test_the_names_for_tests_are_those_of_the_code() -> None:
    documented = [code(row[0]) for row in rows(section("reference/python.md", "django_eventstore.testing")) if row[0]]
    assert testing.__all__ == documented


def test_the_errors_and_their_attributes_are_those_of_the_code() -> None:
    documented = {
        code(row[0]): set(re.findall(r"`(\w+)`", row[1]))
        for row in rows(section("reference/python.md", "django_eventstore.exceptions"))
    }
    existing = {
        name: set(inspect.signature(getattr(exceptions, name).__init__).parameters) - {"self", "message"}
        for name in exceptions.__all__
    }
    assert existing == documented
