"""The query string of a page, read strictly.

A misspelt filter that is passed over, or a number that is cut to fit, gives a reader events it did not ask for, or an
offset it did not mean. Whatever is not understood is an answer 400 that names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import urlencode

from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from ..conf import get_settings
from ..events import validate_pattern
from ..models.entries import MAX_STREAM
from ..store.event_store import LARGEST, MOST_ENTRIES

__all__ = ["PageParameters", "page_parameters", "refuse_parameters"]

DEFAULT_LIMIT = 100
MOST_TYPES = 200
KNOWN = ("offset", "limit", "types", "stream", "epoch")
# ASCII digits alone: int() also takes signs, spaces, underscores and the digits of every script.
DIGITS = re.compile(r"[0-9]{1,19}")
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PageParameters:
    """What a reader asked for. ``limit`` is capped by the setting PAGE_LIMIT; ``epoch`` None: the reader named none."""

    offset: int = 0
    limit: int = DEFAULT_LIMIT
    types: tuple[str, ...] = ()
    stream: str | None = None
    epoch: int | None = None

    def next_query(self, *, offset: int, epoch: int) -> str:
        """The query string that goes on at ``offset`` of ``epoch`` with the same filters."""
        query: dict[str, object] = {"offset": offset, "limit": self.limit}
        if self.types:
            query["types"] = ",".join(self.types)
        if self.stream is not None:
            query["stream"] = self.stream
        return urlencode({**query, "epoch": epoch})


def page_parameters(query: QueryDict) -> PageParameters:
    """Read ``offset``, ``limit``, ``types``, ``stream`` and ``epoch``.

    ``types`` may be repeated, or hold several names and prefixes joined by commas. An empty ``types`` or ``stream`` does not
    filter: no type and no stream is named by the empty text.

    Raises ValidationError with every parameter that is unknown, repeated or wrong.
    """
    problems = _unknown(query, KNOWN) | {
        name: f"Given {len(query.getlist(name))} times; once is meant."
        for name in KNOWN
        if name != "types" and len(query.getlist(name)) > 1
    }
    values: dict[str, object] = {}
    readers = {"offset": _offset, "limit": _limit, "types": _types, "stream": _stream, "epoch": _epoch}
    for name, read in readers.items():
        if name in query and name not in problems:
            try:
                values[name] = read(",".join(query.getlist(name)))
            except ValueError as error:
                problems[name] = str(error)
    if problems:
        raise ValidationError({name: [problem] for name, problem in problems.items()})
    limit = min(get_settings().PAGE_LIMIT, MOST_ENTRIES)
    parameters = PageParameters(**values)  # type: ignore[arg-type]
    return parameters if parameters.limit <= limit else PageParameters(**{**values, "limit": limit})  # type: ignore[arg-type]


def refuse_parameters(query: QueryDict) -> None:
    """Raise ValidationError when there is any parameter."""
    if problems := _unknown(query, ()):
        raise ValidationError({name: [problem] for name, problem in problems.items()})


def _unknown(query: Mapping[str, object], known: tuple[str, ...]) -> dict[str, str]:
    problems: dict[str, str] = {}
    for name in query:
        if name not in known:
            close = get_close_matches(name[:LONGEST_NAME].lower(), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known) or 'none'}."
            problems[name[:LONGEST_NAME]] = f"Unknown parameter.{hint}"
    return problems


def _integer(text: str, *, least: int) -> int:
    if DIGITS.fullmatch(text) is None or not least <= int(text) <= LARGEST:
        raise ValueError(f"Must be decimal digits, from {least} to {LARGEST}.")
    return int(text)


def _offset(text: str) -> int:
    return _integer(text, least=0)


def _limit(text: str) -> int:
    return _integer(text, least=1)


def _epoch(text: str) -> int:
    return _integer(text, least=1)


def _types(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    patterns = tuple(dict.fromkeys(text.split(",")))
    if len(patterns) > MOST_TYPES:
        raise ValueError(f"{len(patterns)} type names and prefixes are more than {MOST_TYPES}.")
    for pattern in patterns:
        validate_pattern(pattern)
    return patterns


def _stream(text: str) -> str | None:
    if len(text) > MAX_STREAM:
        raise ValueError(f"No stream has more than {MAX_STREAM} characters.")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("No stream holds NUL characters or lone surrogates.")
    return text or None
