"""What a request asks of the database, on every alias."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.db import connections
from django.test.utils import CaptureQueriesContext


@contextmanager
def captured_statements() -> Iterator[list[str]]:
    """The list is filled when the block ends."""
    statements: list[str] = []
    with ExitStack() as stack:
        contexts = [stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in connections]
        yield statements
        for context in contexts:
            statements.extend(query["sql"] for query in context.captured_queries)
