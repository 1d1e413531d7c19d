"""Whether the database answers a statement through the index that is meant for it."""

from __future__ import annotations

import re

from django.db import connection

BIG = ("eventstore_entry", "eventstore_position", "eventstore_event_key")
# A condition on the column is answered by this index. Walking along the primary key instead, until enough rows match,
# is quick for what is frequent and reads the whole table for what is rare.
INDEX_OF = {
    "stream": "eventstore_entry_stream",
    "correlation_id": "eventstore_entry_correlation",
    "type_id": "eventstore_position_type",
}


def poor_plan(sql: str, *, of_most_rows: bool = False) -> str | None:
    """The plan, when it reads a big table from end to end, or does not use the index; else None.

    ``of_most_rows``: the condition is met by nearly every row, so that walking along the primary key is a good plan too.
    """
    reader = {"postgresql": _postgresql, "mysql": _mariadb, "sqlite": _sqlite}[connection.vendor]
    plan, scans = reader(sql)
    conditions = re.findall(r"\b(stream|correlation_id|type_id)\b[\"`]? = ", sql)
    unused = [column for column in conditions if INDEX_OF[column] not in plan and not of_most_rows]
    return plan if scans or unused else None


def _rows(sql: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _postgresql(sql: str) -> tuple[str, bool]:
    plan = "\n".join(str(row[0]) for row in _rows(f"EXPLAIN {sql}"))
    return plan, re.search(rf"Seq Scan on ({'|'.join(BIG)})", plan) is not None


def _mariadb(sql: str) -> tuple[str, bool]:
    scans, plan = False, []
    for _, _, table, access, _, key, _, _, rows, extra in _rows(f"EXPLAIN {sql}"):
        plan.append(f"{table} {access} {key} {rows} {extra}")
        # "index" is a walk along an index, which ends with the LIMIT unless it has to filter or to sort on its way.
        walks = access == "index" and re.search("Using where|filesort", str(extra)) is not None
        scans = scans or (table in BIG and (access == "ALL" or walks))
    return "\n".join(plan), scans


def _sqlite(sql: str) -> tuple[str, bool]:
    plan = "\n".join(str(row[3]) for row in _rows(f"EXPLAIN QUERY PLAN {sql}"))
    # Without a condition and a sort, a scan is a walk along the primary key that ends with the LIMIT.
    ends = "LIMIT" in sql and "WHERE" not in sql and "TEMP B-TREE" not in plan
    return plan, re.search(rf"SCAN ({'|'.join(BIG)})", plan) is not None and not ends
