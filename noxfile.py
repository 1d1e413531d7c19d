"""The matrix of Python and Django on SQLite: `nox`, or one cell by `nox -s "tests(python='3.12', django='6.0')"`.

What the other databases add is run by `make test`; lint, types and docs have their own targets in the Makefile.
"""

import nox

nox.needs_version = ">=2024.4.15"
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
# Django 6.0 needs Python 3.12.
MATRIX = [("3.10", "5.2"), ("3.11", "5.2"), ("3.12", "5.2"), ("3.12", "6.0"), ("3.13", "5.2"), ("3.13", "6.0")]


def run_suite(session: nox.Session) -> None:
    session.run("python", "-m", "django", "--version")
    database = {"EVENTSTORE_TEST_DATABASE": "sqlite"}
    session.run("python", "-X", "dev", "-m", "pytest", "tests", *session.posargs, env=database)


def test_requirements() -> list[str]:
    """The `test` extra without its reference to the package itself, for cells that install the package by hand."""
    extras = PROJECT["optional-dependencies"]
    return [*(name for name in extras["test"] if not name.startswith("django-eventstore")), *extras["postgres"]]


@nox.session
@nox.parametrize("python,django", MATRIX)
def tests(session: nox.Session, django: str) -> None:
    session.install("-e", ".[test]", f"Django~={django}.0")
    run_suite(session)


@nox.session(python="3.10")
def floors(session: nox.Session) -> None:
    """The oldest versions that the metadata promises."""
    session.install("-e", ".[test]", *(name.replace(">=", "==") for name in PROJECT["dependencies"]))
    run_suite(session)


@nox.session(python="3.13")
def django61(session: nox.Session) -> None:
    """Django 6.1, which django-celery-beat 2.9 works with and forbids: it goes in without its own requirements.

    `pip check` complains in this environment. The cell becomes an ordinary one when beat 2.10 is out.
    """
    beat = next(name for name in PROJECT["dependencies"] if name.startswith("django-celery-beat"))
    others = [name for name in PROJECT["dependencies"] if name not in (beat, "Django>=5.2")]
    session.install(
        "Django~=6.1.0",
        *others,
        *test_requirements(),
        # What beat asks for, save Django.
        "cron-descriptor<2",
        "django-timezone-field",
        "python-crontab",
        "tzdata",
    )
    session.install("--no-deps", beat)
    session.install("--no-deps", "-e", ".")
    run_suite(session)
