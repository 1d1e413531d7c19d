"""Inspection along the streams: versions rise with the positions, and no stream mixes versioned and plain events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import connections

from .findings import Finding, Tally

__all__ = ["disordered_streams"]

# Streams are taken whole, in ranges of about so many entries; a longer stream is sorted by the database, not here.
CHUNK = 50_000
# Streams compare byte by byte, so the empty text is the lowest: entries that belong to no stream.
LOWEST = ""

UPPER = "SELECT stream FROM eventstore_entry WHERE stream > %s ORDER BY stream LIMIT 1 OFFSET %s"
HIGHEST = "SELECT MAX(stream) FROM eventstore_entry WHERE stream > %s"
FALLING = """
    SELECT stream, position, previous, stream_version FROM (
        SELECT e.stream, p.position, e.stream_version,
               LAG(e.stream_version) OVER (PARTITION BY e.stream ORDER BY p.position) AS previous
        FROM eventstore_entry e JOIN eventstore_position p ON p.entry_id = e.id
        WHERE e.stream > %s AND e.stream <= %s AND e.stream_version IS NOT NULL
    ) q WHERE stream_version <= previous ORDER BY stream, position LIMIT %s
"""
MIXED = """
    SELECT stream FROM eventstore_entry WHERE stream > %s AND stream <= %s
    GROUP BY stream HAVING COUNT(stream_version) <> 0 AND COUNT(stream_version) <> COUNT(*) ORDER BY stream
"""


def disordered_streams(*, using: str) -> list[Finding]:
    """Streams whose versions do not rise with the positions, or that hold both versioned and plain events."""
    falling = Tally(kind="stream_version", message="Versions do not rise with the positions of their stream.")
    mixed = Tally(kind="mixed_stream", message="Streams hold both versioned and plain events.")
    for low, high in _stream_ranges(using=using):
        for stream, position, previous, version in _rows(FALLING, [low, high, CHUNK], using=using):
            falling.add(f"stream {stream!r}: version {version} at position {position} follows version {previous}")
        for (stream,) in _rows(MIXED, [low, high], using=using):
            mixed.add(f"stream {stream!r}")
    return [*falling.findings(), *mixed.findings()]


def _stream_ranges(*, using: str) -> Iterator[tuple[str, str]]:
    low = LOWEST
    while True:
        row = next(_rows(UPPER, [low, CHUNK], using=using), None) or next(_rows(HIGHEST, [low], using=using))
        if row[0] is None:
            return
        high = str(row[0])
        yield low, high
        low = high


def _rows(sql: str, parameters: list[object], *, using: str) -> Iterator[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        yield from cursor.fetchall()
