"""A second connection, threads with connections of their own, and what the log holds, seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import pytest
from django.db import connections

from tests.conftest import RegisterDatabase

T = TypeVar("T")


class Connect(Protocol):
    def __call__(self, alias: str, *, options: Mapping[str, Any] | None = None, **settings: Any) -> str: ...


@pytest.fixture
def connect(register_database: RegisterDatabase) -> Connect:
    """``connect("second", options=…, AUTOCOMMIT=False)``: one more alias, and so one more connection, of ``default``."""

    def make(alias: str, *, options: Mapping[str, Any] | None = None, **settings: Any) -> str:
        entry = connections["default"].settings_dict
        merged = {**entry, "OPTIONS": {**entry["OPTIONS"], **(options or {})}, **settings}
        return register_database(merged, alias=alias, migrate=False)

    return make


@pytest.fixture
def second(connect: Connect) -> str:
    """The alias of a second connection to the test's database."""
    return connect("second")


class Elsewhere(Protocol):
    def __call__(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> Future[T]: ...


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Call a function on a thread, which has connections of its own and closes them at its end; returns the Future."""
    pool = ThreadPoolExecutor(8)

    def call(function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        try:
            return function(*arguments, **keywords)
        finally:
            connections.close_all()

    yield lambda function, *arguments, **keywords: pool.submit(call, function, *arguments, **keywords)
    pool.shutdown()
