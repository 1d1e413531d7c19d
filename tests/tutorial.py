"""A project that is made as a page of the documentation says, file by file and command by command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from typing_extensions import Self

from tests.documentation import ROOT, Block


class Project:
    """A project that is made by following a page."""

    def __init__(self, directory: Path) -> None:
        """The one that is in ``directory / "shop"`` already, or else a new one."""
        inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        self.environment = {**inherited, "PYTHONPATH": str(ROOT)}
        self.directory = directory / "shop"
        if not self.directory.exists():
            self._run(directory, "-m", "django", "startproject", "shop")
            self.manage("startapp", "orders")

    def copy(self, directory: Path) -> Self:
        """The same project in another place, with its database."""
        shutil.copytree(self.directory, directory / "shop")
        return type(self)(directory)

    def _run(self, directory: Path, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            (sys.executable, *arguments),
            cwd=directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def manage(self, *arguments: str, status: int = 0) -> str:
        return self._run(self.directory, "manage.py", *arguments, status=status)

    def write(self, block: Block) -> None:
        """A block that begins with the path of a file is the file; what is said of the settings is added to them."""
        match = re.match(r"# ([\w/]+\.py)\n", block.text)
        if match:
            path = self.directory / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text() + "\n" if path.name == "settings.py" else ""
            path.write_text(before + block.text)
