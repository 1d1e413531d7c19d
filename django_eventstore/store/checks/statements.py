"""What the SQL files make, so that what is missing can be named together with the statement that makes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

from ...sql import sql_text

__all__ = ["created_objects"]

_FORWARD = re.compile(r"(\d{4}_\w+)\.(\w+)\.sql")
_OBJECT = re.compile(r"CREATE (?:OR REPLACE )?(FUNCTION|PROCEDURE|TRIGGER) (\w+)")


@lru_cache
def created_objects(vendor: str) -> dict[str, str]:
    """The functions, procedures and triggers of the migrations for this database: name to statement, newest last."""
    found: dict[str, str] = {}
    for name in sorted(path.name for path in files("django_eventstore.sql").iterdir()):
        match = _FORWARD.fullmatch(name)
        if match is None or match[2] != vendor:
            continue
        for statement in _statements(sql_text(match[1], vendor)):
            if created := _OBJECT.match(statement):
                found[created[2]] = statement
    return found


def _statements(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in text.splitlines():
        if not lines and (not line.strip() or line.startswith("--")):
            continue
        lines.append(line)
        if _is_complete(lines):
            yield "\n".join(lines)
            lines = []


def _is_complete(lines: list[str]) -> bool:
    """Bodies stand between dollar quotes (PostgreSQL), or between BEGIN and END; at the beginning of a line."""
    if "\n".join(lines).count("$$") % 2:
        return False
    if any(line.startswith("BEGIN") for line in lines) and "$$" not in "".join(lines):
        return lines[-1] == "END;"
    return lines[-1].endswith(";")
