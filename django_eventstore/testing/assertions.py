"""assert_recorded() and its opposite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asgiref.sync import sync_to_async
from django.db import models

from ..models import EventEntry
from .entry_lists import CapturedEvents, EntryList, log_alias
from .matching import Expectation, expectation

__all__ = ["aassert_not_recorded", "aassert_recorded", "assert_not_recorded", "assert_recorded"]

# unittest ends the traceback of an AssertionError above the frames of such a module. Where handlers run it would hide them.
__unittest = True

MOST_SHOWN = 10


def assert_recorded(
    event: object,
    /,
    *,
    stream: models.Model | str | None = None,
    times: int | None = None,
    metadata: Mapping[str, object] | None = None,
    fields: Mapping[str, object] | None = None,
    within: Sequence[EventEntry] | None = None,
    using: str | None = None,
    **more: object,
) -> EntryList:
    """Fail unless such an event is in the log, and return the entries that match.

    ``event``: an event class, a type name or a prefix such as ``orders.*``, or an event, which says all of its fields.
    ``times``: exactly so often; by default at least once. ``stream``: a model instance or a text, ``""`` for an event about
    nothing in particular. Every other keyword is a field of the event, compared with the value as a handler gets it: a
    Decimal, an aware datetime, a UUID where a class is declared, a plain JSON value where none is. ``fields``: a mapping of
    fields, also of those whose names are taken here. ``metadata``: what must be in the metadata, among other things.

    ``within``: where to look, such as what captured_events() has captured; by default in the whole log of ``using``.
    Needs no worker and no commit; what was rolled back does not count. Raises AssertionError, which lists what was recorded
    in its place, the nearest first; TypeError for a field that the event's class does not have.
    """
    __tracebackhide__ = True
    if isinstance(times, bool) or (times is not None and times < 0):
        raise ValueError(f"times must be a number from 0 up, got {times!r}.")
    expected = expectation(event, stream=stream, metadata=metadata, fields={**(fields or {}), **more})
    entries = _entries(within, using)
    found = EntryList(entry for entry in entries if not expected.differences(entry))
    if len(found) == times or (times is None and found):
        return found
    raise AssertionError(_message(expected, entries, found=len(found), times=times))


def assert_not_recorded(
    event: object,
    /,
    *,
    stream: models.Model | str | None = None,
    metadata: Mapping[str, object] | None = None,
    fields: Mapping[str, object] | None = None,
    within: Sequence[EventEntry] | None = None,
    using: str | None = None,
    **more: object,
) -> None:
    """Fail if such an event is in the log. The arguments are those of assert_recorded().

    Name the event by its class where there is one: a type name that is misspelt is never recorded.
    """
    __tracebackhide__ = True
    assert_recorded(event, stream=stream, times=0, metadata=metadata, fields=fields, within=within, using=using, **more)


async def aassert_recorded(event: object, /, **arguments: object) -> EntryList:
    """See assert_recorded()."""
    return await sync_to_async(assert_recorded)(event, **arguments)  # type: ignore[arg-type]


async def aassert_not_recorded(event: object, /, **arguments: object) -> None:
    """See assert_not_recorded()."""
    await sync_to_async(assert_not_recorded)(event, **arguments)  # type: ignore[arg-type]


def _entries(within: Sequence[EventEntry] | None, using: str | None) -> list[EventEntry]:
    if within is None:
        return CapturedEvents(using=log_alias(using), after=0).entries
    if using is not None:
        raise TypeError("within says where to look; leave out using.")
    return list(within)


def _message(expected: Expectation, entries: list[EventEntry], *, found: int, times: int | None) -> str:
    wanted = "at least once" if times is None else _times(times)
    lines = [f"Expected {expected} {wanted}, found {found}."]
    if not entries:
        return f"{lines[0]} Nothing was recorded."
    lines.append("Recorded, the nearest first:")
    nearest = sorted(entries, key=expected.distance)
    for entry in nearest[:MOST_SHOWN]:
        differences = "; ".join(expected.differences(entry)) or "as described"
        about = f" of {entry.stream}" if entry.stream else ""
        lines.append(f"  {entry.type}{about}: {differences}")
    if len(nearest) > MOST_SHOWN:
        lines.append(f"  … and {len(nearest) - MOST_SHOWN} more")
    return "\n".join(lines)


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
