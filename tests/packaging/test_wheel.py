"""The wheel and the sdist carry the whole package and say the right things about it.

They are built from a copy of the project, the wheel from the sdist, by the setuptools that is installed: no network.
"""

import email.message
import email.parser
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import django_eventstore

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "django_eventstore"
# SPDX licences in [project] need this one.
SETUPTOOLS_FLOOR = Version("77")
# One file of each kind that a later change may add. They are planted in the copy, so that the patterns in setup.cfg are
# tried also while the package has no file of that kind.
PLANTED = {
    "a template": "templates/admin/django_eventstore/planted/page.html",
    "a text template": "templates/django_eventstore/planted.txt",
    "a style sheet": "static/django_eventstore/planted/page.css",
    "an icon": "static/django_eventstore/planted.svg",
    "a compiled catalogue": "locale/de/LC_MESSAGES/planted.mo",
    "a migration": "migrations/9999_planted.py",
    "an SQL file": "sql/9999_planted.sql",
    "a module in a package": "store/sequencing/planted.py",
}
NEVER_SHIPPED = ("__pycache__", "*.py[cod]", "*.egg-info", "_build", "*.sqlite3*", "var")


@dataclass(frozen=True)
class Distributions:
    """What was built: file names inside each archive, without the sdist's leading folder, and the wheel's METADATA."""

    source: frozenset[str]
    sdist: frozenset[str]
    wheel: frozenset[str]
    metadata: email.message.Message


def missing_tool() -> str:
    """Why nothing can be built here; "" if it can."""
    for name in ("build", "setuptools"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    found = Version(importlib.metadata.version("setuptools"))
    return "" if found >= SETUPTOOLS_FLOOR else f"setuptools {found} is older than {SETUPTOOLS_FLOOR}"


def copy_project(target: Path) -> None:
    """The files an sdist is made from, without what lies about in a checkout."""
    target.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".coverage":
            shutil.copy2(path, target)
    for name in (PACKAGE, "tests", "docs", "example_project"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns(*NEVER_SHIPPED))


def files_below(folder: Path, *, relative_to: Path) -> Iterator[str]:
    return (path.relative_to(relative_to).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    if reason := missing_tool():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    work = tmp_path_factory.mktemp("packaging")
    project, output = work / "project", work / "dist"
    copy_project(project)
    for name in PLANTED.values():
        planted = project / PACKAGE / name
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text("")
    source = frozenset(files_below(project / PACKAGE, relative_to=project))
    finished = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(project)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    (sdist_path,), (wheel_path,) = output.glob("*.tar.gz"), output.glob("*.whl")
    with tarfile.open(sdist_path) as archive:
        sdist = frozenset(member.name.partition("/")[2] for member in archive.getmembers() if member.isfile())
    with zipfile.ZipFile(wheel_path) as archive:
        wheel = frozenset(archive.namelist())
        (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(name).decode())
    return Distributions(source=source, sdist=sdist, wheel=wheel, metadata=metadata)


def requirements(metadata: email.message.Message) -> list[Requirement]:
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Distributions) -> None:
    assert built.source == {name for name in built.wheel if ".dist-info/" not in name}


def test_the_sdist_holds_every_file_of_the_package(built: Distributions) -> None:
    assert built.source == {name for name in built.sdist if name.startswith(f"{PACKAGE}/")}


@pytest.mark.parametrize("name", [*PLANTED.values(), "py.typed"], ids=[*PLANTED, "the typing marker"])
def test_both_carry(built: Distributions, name: str) -> None:
    assert (True, True) == (f"{PACKAGE}/{name}" in built.wheel, f"{PACKAGE}/{name}" in built.sdist)


@pytest.mark.parametrize("kind", ["migrations/0*.py", "sql/*.sql"])
def test_the_package_has_files_of_the_kinds_it_cannot_work_without(kind: str) -> None:
    assert list((ROOT / PACKAGE).glob(kind)) != []


def test_the_suite_and_the_docs_can_be_run_from_the_sdist(built: Distributions) -> None:
    wanted = {"Makefile", "setup.cfg", "LICENSE", "CHANGELOG.md", "docs/conf.py", "docs/index.md", "tests/settings.py"}
    assert wanted - built.sdist == set()


def test_nothing_that_a_run_leaves_behind_is_in_the_sdist(built: Distributions) -> None:
    assert [name for name in built.sdist if "__pycache__" in name or name.endswith((".pyc", ".sqlite3"))] == []


def test_the_version_is_the_one_the_package_tells(built: Distributions) -> None:
    assert django_eventstore.__version__ == built.metadata["Version"]


def test_name_licence_and_python_are_stated(built: Distributions) -> None:
    found = {key: built.metadata[key] for key in ("Name", "License-Expression", "License-File", "Requires-Python")}
    assert found == {
        "Name": "django-eventstore",
        "License-Expression": "MIT",
        "License-File": "LICENSE",
        "Requires-Python": ">=3.10",
    }


def test_the_readme_is_the_description(built: Distributions) -> None:
    assert "text/markdown" in built.metadata["Description-Content-Type"]
    assert (ROOT / "README.md").read_text().strip() == str(built.metadata.get_payload()).strip()


def test_what_an_installation_brings_is_exactly_this(built: Distributions) -> None:
    found = {str(requirement) for requirement in requirements(built.metadata) if requirement.marker is None}
    assert found == {
        "Django>=5.2",
        "celery>=5.5",
        "django-celery-beat>=2.9",
        "djangorestframework>=3.16",
        "msgspec>=0.19",
    }


def test_no_requirement_has_an_upper_cap(built: Distributions) -> None:
    operators = {part.operator for requirement in requirements(built.metadata) for part in requirement.specifier}
    assert operators == {">="}


def test_the_extras_are_those_that_something_uses(built: Distributions) -> None:
    extras = {"postgres", "mysql", "kafka", "nats", "redis", "webhooks", "otel", "test", "lint", "docs"}
    assert extras == set(built.metadata.get_all("Provides-Extra", []))


@pytest.mark.parametrize("version", ["Python :: 3.10", "Python :: 3.11", "Python :: 3.12", "Python :: 3.13"])
def test_each_python_of_the_matrix_is_a_classifier(built: Distributions, version: str) -> None:
    assert f"Programming Language :: {version}" in built.metadata.get_all("Classifier", [])


@pytest.mark.parametrize("version", ["5.2", "6.0"])
def test_each_django_of_the_matrix_is_a_classifier(built: Distributions, version: str) -> None:
    assert f"Framework :: Django :: {version}" in built.metadata.get_all("Classifier", [])
