"""Columns that compare byte by byte, and the database functions behind their defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Func, UUIDField
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler

__all__ = ["DatabaseNow", "ExactCharField", "ExactTextField", "Uuid7"]

# A name is what its bytes say: MariaDB's default collations find "A" equal to "a" and drop trailing spaces, and PostgreSQL's
# make LIKE 'orders.%' unable to use an index.
EXACT_COLLATIONS = {"postgresql": "C", "mysql": "utf8mb4_nopad_bin"}


if TYPE_CHECKING:  # Django's fields are generic to the type checker only
    _CharField = models.CharField[Any, Any]
    _TextField = models.TextField[Any, Any]
else:
    _CharField = models.CharField
    _TextField = models.TextField


class _ExactMixin:
    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = super().db_parameters(connection)  # type: ignore[misc]
        parameters["collation"] = EXACT_COLLATIONS.get(connection.vendor)
        return parameters


class ExactCharField(_ExactMixin, _CharField):
    """A short text that is equal only to the same bytes, on every database."""


class ExactTextField(_ExactMixin, _TextField):
    """A long text kept byte for byte, in an encoding that holds all of Unicode."""


class DatabaseNow(Now):
    """The database's clock in UTC, whatever the session's time zone is."""

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


class Uuid7(Func):
    """A UUID version 7 (RFC 9562) made by the database, for rows that do not come from this package."""

    output_field = UUIDField()
    arity = 0

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        # A version 4 UUID with 48 bits of milliseconds laid over its head; setting bits 52 and 53 turns 4 into 7.
        template = (
            "encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing substring(int8send("
            "(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid"
        )
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        template = (
            "LOWER(CONCAT(LPAD(HEX(CAST(FLOOR(UNIX_TIMESTAMP(NOW(6)) * 1000) AS UNSIGNED)), 12, '0'), '7', "
            "SUBSTR(MD5(CONCAT(UUID(), RAND())), 1, 3), SUBSTR('89ab', 1 + FLOOR(RAND() * 4), 1), "
            "SUBSTR(MD5(CONCAT(RAND(), UUID())), 1, 15)))"
        )
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        template = (
            "lower(printf('%%%%012x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)) || '7' || "
            "substr(hex(randomblob(2)), 2) || substr('89ab', 1 + (random() & 3), 1) || "
            "substr(hex(randomblob(2)), 2) || hex(randomblob(6)))"
        )
        return self.as_sql(compiler, connection, template=template, **extra)
