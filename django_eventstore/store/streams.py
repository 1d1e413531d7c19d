"""What an event is about: the name of a stream, and the versions of one that is written with optimistic concurrency."""

from __future__ import annotations

from django.db import OperationalError, connections, models
from django.db.models import Max

from ..exceptions import ConcurrencyError, MixedStreamError
from ..models import EventEntry, StreamVersion

__all__ = ["claim_versions", "is_versioned", "stream_name"]

SERIALIZATION_FAILURE = "40001"


def stream_name(about: models.Model | str | None) -> str:
    """``"order-42"`` for a saved ``Order``, a text as it is, ``""`` for None.

    Raises ValueError for an instance that has no primary key yet.
    """
    if about is None:
        return ""
    if isinstance(about, str):
        return about
    if about.pk is None:
        raise ValueError(
            f"{about!r} has no primary key yet, so it names no stream: save it before recording events about it."
        )
    concrete = about._meta.concrete_model or type(about)
    return f"{concrete._meta.model_name}-{about.pk}"


def is_versioned(streams: set[str], using: str) -> str | None:
    """One of the streams that holds versioned events, or None."""
    names = sorted(streams)
    for chunk in (names[start : start + 500] for start in range(0, len(names), 500)):
        marks = ", ".join(["%s"] * len(chunk))
        with connections[using].cursor() as cursor:
            cursor.execute(
                f"SELECT stream FROM eventstore_stream_version WHERE stream IN ({marks}) LIMIT 1",
                chunk,
            )
            found = cursor.fetchone()
        if found is not None:
            return str(found[0])
    return None


def claim_versions(*, stream: str, expected: int, count: int, using: str) -> None:
    """Take the versions ``expected + 1 …`` of a stream for this transaction.

    The primary key decides between two writers: the second waits for the first and then finds its first version taken.
    Whoever has that one has the rest, so a refused claim leaves nothing behind.

    Raises ConcurrencyError, and MixedStreamError when the stream holds plain events.
    """
    versions = StreamVersion.objects.using(using)
    actual = versions.filter(stream=stream).aggregate(newest=Max("version"))["newest"]
    if actual is None and EventEntry.objects.using(using).filter(stream=stream, stream_version=None).exists():
        raise MixedStreamError(stream=stream, versioned=False)
    if (actual or 0) != expected:
        raise ConcurrencyError(stream=stream, expected=expected, actual=actual or 0)
    if not _insert_version(stream, expected + 1, using):
        newest = versions.filter(stream=stream).aggregate(newest=Max("version"))["newest"]
        # At REPEATABLE READ the winner stays invisible to this transaction.
        raise ConcurrencyError(stream=stream, expected=expected, actual=newest if newest != actual else None)
    versions.bulk_create(StreamVersion(stream=stream, version=expected + 1 + n) for n in range(1, count))


def _insert_version(stream: str, version: int, using: str) -> bool:
    """Insert unless it is there, without an error that would end the caller's transaction."""
    connection = connections[using]
    insert, suffix = ("INSERT IGNORE", "") if connection.vendor == "mysql" else ("INSERT", "ON CONFLICT DO NOTHING")
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                f"{insert} INTO eventstore_stream_version (stream, version) VALUES (%s, %s) {suffix}",
                [stream, version],
            )
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) == SERIALIZATION_FAILURE:
                raise ConcurrencyError(stream=stream, expected=version - 1, actual=None) from error
            raise
        return bool(cursor.rowcount == 1)
