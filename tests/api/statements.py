"""What a request asks of the databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.db import DEFAULT_DB_ALIAS, connections
from django.test.utils import CaptureQueriesContext


@contextmanager
def captured_statements(*aliases: str) -> Iterator[list[str]]:
    """The statements on these aliases, by default ``default``, the only one a test may use unless it says so.

    The list is filled when the block ends.
    """
    statements: list[str] = []
    with ExitStack() as stack:
        contexts = [
            stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in aliases or (DEFAULT_DB_ALIAS,)
        ]
        yield statements
        for context in contexts:
            statements.extend(query["sql"] for query in context.captured_queries)
