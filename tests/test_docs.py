"""The documentation: its snippets compile and fit the code, and its links lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class
from django.test import override_settings

from django_eventstore import conf
from tests.documentation import DOCS, PAGES, README, ROOT, Block, blocks, manage_commands, without_blocks

pytestmark = pytest.mark.no_database

README_AND_PAGES = (README, *PAGES)
PYTHON = blocks(*README_AND_PAGES, language="python")
SHELL = blocks(*README_AND_PAGES, language="sh")
INCLUDES = blocks(*PAGES, language="{literalinclude}")


def test_there_is_something_to_look_at() -> None:
    assert len(PAGES) > 20
    assert len(PYTHON) > 20
    assert len(SHELL) > 10
    assert len(INCLUDES) > 5


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_snippet_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _imported(block: Block) -> Iterator[tuple[str, object]]:
    """(name in the snippet, object) of what it imports from the package."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "django_eventstore":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                yield alias.asname or alias.name, getattr(module, alias.name)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_snippet_calls_what_exists_with_keywords_that_exist(block: Block) -> None:
    names = dict(_imported(block))
    for node in ast.walk(ast.parse(block.text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names):
            continue
        taken = inspect.signature(names[node.func.id]).parameters  # type: ignore[arg-type]
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in taken.values()):
            assert {keyword.arg for keyword in node.keywords} <= set(taken)


def _settings(block: Block) -> Iterator[ast.expr]:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["EVENTSTORE"]:
            yield node.value


@pytest.mark.parametrize("block", [block for block in PYTHON if "EVENTSTORE = " in block.text], ids=str)
def test_settings_of_a_snippet_are_right(block: Block) -> None:
    for value in _settings(block):
        settings = eval(compile(ast.Expression(value), str(block), "eval"), {"timedelta": timedelta})
        with override_settings(EVENTSTORE=settings):
            assert [] == conf.setting_problems()


@pytest.mark.parametrize("block", [block for block in SHELL if list(manage_commands(block))], ids=str)
def test_commands_of_a_snippet_are_understood(block: Block) -> None:
    for name, *arguments in manage_commands(block):
        if name.startswith("eventstore_"):
            load_command_class("django_eventstore", name).create_parser("manage.py", name).parse_args(arguments)


@pytest.mark.parametrize("block", INCLUDES, ids=str)
def test_an_included_piece_of_code_exists(block: Block) -> None:
    source = (block.page.parent / block.argument).resolve().read_text()
    options = dict(re.findall(r"^:([\w-]+): *(.*)$", block.text, re.M))
    if "start-at" in options:
        assert any(options["start-at"] in line for line in source.splitlines())
    else:
        scope: Any = ast.parse(source)
        for name in options["pyobject"].split("."):
            [scope] = [node for node in scope.body if getattr(node, "name", None) == name]


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _anchors(page: Path) -> set[str]:
    text = without_blocks(page)
    headings = re.findall(r"^#{1,3} (.+)$", text, re.M)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_internal_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(without_blocks(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in _anchors(target), link


def test_every_page_is_in_the_table_of_contents() -> None:
    entries = {line for block in blocks(DOCS / "index.md", language="{toctree}") for line in block.text.splitlines()}
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES} - {"index"} == {
        entry for entry in entries if entry and not entry.startswith(":")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_of_the_repository_that_a_page_names_exist(page: Path) -> None:
    for path in re.findall(r"`((?:tests|django_eventstore|example_project)/[\w/.]*)`", without_blocks(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_named_in_the_text_exist(page: Path) -> None:
    names = re.findall(r'EVENTSTORE\["(\w+)"\]', page.read_text())
    assert set(names) <= {field.name for field in dataclasses.fields(conf.Settings)}
