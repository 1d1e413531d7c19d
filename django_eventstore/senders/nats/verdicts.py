"""What it means that a stream did not take a message: is the event to blame, or is the stream not available?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from nats import errors

from ...exceptions import EventStoreError, PermanentError, Unavailable
from ..base import Receipts
from .flight import Complaint, Flight
from .link import Link
from .subjects import takes

__all__ = ["settle"]

TOO_LARGE = 10054
OTHER_STREAM = 10060


class _Config(msgspec.Struct):
    subjects: list[str] = []


class _StreamInfo(msgspec.Struct):
    config: _Config | None = None
    error: Complaint | None = None


_read = msgspec.json.Decoder(_StreamInfo).decode


def settle(flight: Flight, receipts: Receipts, subjects: Sequence[str], link: Link, *, longest: timedelta) -> None:
    """Refuse the events that are to blame for what was not taken. Raises Unavailable when anything else was the reason.

    ``subjects``: by number in the batch.
    """
    trouble: list[str] = []
    for number, complaint in flight.complaints.items():
        about = f"NATS: stream {flight.stream!r}: {complaint.description} ({complaint.err_code})"
        if complaint.err_code == TOO_LARGE:
            receipts.refuse(number, PermanentError(about))
        elif complaint.err_code == OTHER_STREAM:
            reason = (
                f"NATS: what goes to the subject {subjects[number]!r} is kept by another stream than {flight.stream!r}."
            )
            receipts.refuse(number, EventStoreError(reason))
        else:
            trouble.append(about)
    if flight.unheard and not trouble:
        taken = _subjects_of(flight.stream, link, longest)
        for number in flight.unheard:
            subject = subjects[number]
            if any(takes(pattern, subject) for pattern in taken):
                trouble.append(f"NATS: stream {flight.stream!r} cannot take anything now: it has no leader.")
            else:
                reason = (
                    f"NATS: stream {flight.stream!r} does not take the subject {subject!r}, but {', '.join(taken)}."
                )
                receipts.refuse(number, EventStoreError(reason))
    if trouble:
        raise Unavailable(trouble[0])


def _subjects_of(stream: str, link: Link, longest: timedelta) -> list[str]:
    """What the stream takes, with wildcards. Raises Unavailable when there is no such stream, or nobody who would know."""
    try:
        info = _read(link.ask(f"$JS.API.STREAM.INFO.{stream}", longest=longest))
    except errors.NoRespondersError as error:
        raise Unavailable("NATS: JetStream is not there: it is not enabled, or has no leader.") from error
    except errors.TimeoutError as error:
        raise Unavailable(
            f"NATS: nobody listens to the subject, and whether there is a stream {stream!r} was not answered."
        ) from error
    if info.error is not None or info.config is None:
        description = info.error.description if info.error else "no answer"
        raise Unavailable(
            f"NATS: stream {stream!r}: {description}. Create the stream, with the subjects that it is to take."
        )
    return info.config.subjects
