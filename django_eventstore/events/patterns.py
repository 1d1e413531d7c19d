"""Type names of events (``orders.OrderCancelled``) and the patterns that select them (``orders.*``)."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["MAX_TYPE_LENGTH", "TYPE_NAME_RULE", "is_type_name", "matches", "validate_pattern"]

MAX_TYPE_LENGTH = 150
"""The longest type name, in characters."""

TYPE_NAME_RULE = (
    "a type name is two or more words joined by dots, like 'orders.OrderCancelled': ASCII letters, digits, '_' and "
    f"'-', {MAX_TYPE_LENGTH} characters at most"
)

_WORD = r"[A-Za-z0-9_-]+"
_TYPE_NAME = re.compile(rf"{_WORD}(?:\.{_WORD})+")
_PREFIX_PATTERN = re.compile(rf"(?:{_WORD}\.)+\*")


def is_type_name(type: object) -> bool:
    """Whether an event may have this type name."""
    return isinstance(type, str) and _is_type_name(type)


@lru_cache(maxsize=4096)
def _is_type_name(type: str) -> bool:
    return len(type) <= MAX_TYPE_LENGTH and _TYPE_NAME.fullmatch(type) is not None


def matches(pattern: str, type: str) -> bool:
    """Whether a valid pattern selects the type: by its whole name, by a prefix of whole words at any depth, or ``*``.

    ``orders.*`` selects ``orders.OrderCancelled`` and ``orders.lines.LineAdded``, not ``orders2.OrderCancelled``.
    """
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return type.startswith(pattern[:-1])
    return pattern == type


def validate_pattern(pattern: str) -> None:
    """Raise ValueError, saying what is allowed, unless this is ``*``, a type name, or a prefix like ``orders.*``."""
    if pattern == "*" or is_type_name(pattern):
        return
    if len(pattern) <= MAX_TYPE_LENGTH and _PREFIX_PATTERN.fullmatch(pattern):
        return
    raise ValueError(
        f"{pattern!r} selects no events: write a type name ('orders.OrderCancelled'), all types under a prefix "
        f"('orders.*'), or '*' for every type. {TYPE_NAME_RULE[0].upper()}{TYPE_NAME_RULE[1:]}; '*' stands alone or at "
        "the end, after a dot."
    )
