"""Whether the database answers a statement through an index."""

from __future__ import annotations

import re

from django.db import connection

OURS = ("eventstore_entry", "eventstore_position", "eventstore_event_key")


def full_scan(sql: str) -> str | None:
    """The plan, when it reads one of the big tables from end to end; else None."""
    reader = {"postgresql": _postgresql, "mysql": _mariadb, "sqlite": _sqlite}[connection.vendor]
    return reader(sql)


def _rows(sql: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _postgresql(sql: str) -> str | None:
    plan = "\n".join(str(row[0]) for row in _rows(f"EXPLAIN {sql}"))
    return plan if re.search(rf"Seq Scan on ({'|'.join(OURS)})", plan) else None


def _mariadb(sql: str) -> str | None:
    for _, _, table, access, _, key, _, _, rows, extra in _rows(f"EXPLAIN {sql}"):
        # "index" is a walk along an index, which ends with the LIMIT unless it has to filter or to sort on its way.
        walks = access == "index" and (int(str(rows)) > 1_000 or "filesort" in str(extra))
        if table in OURS and (access == "ALL" or walks):
            return f"{table} {access} {key} {rows} {extra}"
    return None


def _sqlite(sql: str) -> str | None:
    plan = "\n".join(str(row[3]) for row in _rows(f"EXPLAIN QUERY PLAN {sql}"))
    scans = re.search(rf"SCAN ({'|'.join(OURS)})", plan)
    # Without a condition and a sort, a scan is a walk along the primary key that ends with the LIMIT.
    ends = "LIMIT" in sql and "WHERE" not in sql and "TEMP B-TREE" not in plan
    return plan if scans and not ends else None
