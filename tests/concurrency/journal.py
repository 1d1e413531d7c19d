"""Files in which a process keeps what it knows, so that a kill -9 takes at most the line it was writing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """JSON lines, each written by one call, so that lines are whole save perhaps the last.

    Opening cuts a half line off that a killed process left.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            text = path.read_bytes()
            whole = text.rfind(b"\n") + 1
            if whole < len(text):
                os.truncate(path, whole)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if os.write(self._file, data) != len(data):
            raise OSError("the journal took a part of a line only")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines; none when the file is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
