"""Transactions that decide by what others have committed until then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

__all__ = ["fresh_transaction"]


@contextmanager
def fresh_transaction(using: str) -> Iterator[None]:
    """A transaction in which what is read after a lock was got holds what its last holder has committed.

    A role or a database of PostgreSQL may default to REPEATABLE READ, where the first statement decides what all others
    see, before it waits for a lock. On MariaDB, whose default that is, a statement that locks decides nothing: there the
    first one has to be such a statement. Inside another transaction it is that one's level.
    """
    connection = connections[using]
    is_outermost = not connection.in_atomic_block
    with transaction.atomic(using=using):
        if is_outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield
