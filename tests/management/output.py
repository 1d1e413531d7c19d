"""Calling a command and reading what it wrote."""

from __future__ import annotations

from io import StringIO

from django.core.management import call_command


def run(*arguments: str) -> str:
    """What the command wrote to standard output. Raises CommandError as the command does."""
    output = StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()
