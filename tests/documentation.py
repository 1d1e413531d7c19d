"""The pages of docs/ as the tests read them: blocks of code, tables, sections."""

from __future__ import annotations

import dataclasses
import re
import shlex
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "django_eventstore"
README = ROOT / "README.md"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
FENCE = re.compile(r"^( *)```(\S+)([^\n]*)\n(.*?)^\1```$", re.M | re.S)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page. ``argument``: what stands behind the language."""

    page: Path
    line: int
    language: str
    argument: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*pages: Path, language: str) -> list[Block]:
    found = []
    for page in pages:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[2] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(page, line, match[2], match[3].strip(), textwrap.dedent(match[4])))
    return found


def without_blocks(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def section(page: str, heading: str) -> str:
    """The text below a heading of the second level."""
    return (DOCS / page).read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without headers and rulers."""
    lines = [*(line.strip() for line in text.splitlines()), ""]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line, following in pairwise(lines)
        if line.startswith("|") and not line.startswith("| ---") and not following.startswith("| ---")
    ]


def code(cell: str) -> str:
    return cell.strip("`")


def subsections(page: str, heading: str) -> dict[str, str]:
    head, *rest = re.split(r"^### (.+)$", section(page, heading), flags=re.M)
    return {"": head, **dict(zip(rest[::2], rest[1::2], strict=True))}


def manage_commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each ``python manage.py`` in a block of shell."""
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["python", "manage.py"]:
            yield words[2:]
