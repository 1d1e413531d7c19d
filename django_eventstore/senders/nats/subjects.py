"""Subjects of NATS: what an entry's values become in them, and which of them a stream takes."""

from __future__ import annotations

import re
from urllib.parse import quote

from ...exceptions import PermanentError

__all__ = ["escape", "require_subject", "takes"]

LONGEST = 3_000
"""Characters. A server takes 4,096 bytes by default for the line that a subject stands in, and ends the connection beyond."""
# Whitespace ends a subject, `*` and `>` are wildcards; the dot stays, since it divides a subject into tokens.
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "*>%")
_UNSAFE = re.compile(r"[^\x21-\x24\x26-\x29\x2b-\x3d\x3f-\x7e]")
_SUBJECT = re.compile(r"[\x21-\x29\x2b-\x2d\x2f-\x3d\x3f-\x7e]+(\.[\x21-\x29\x2b-\x2d\x2f-\x3d\x3f-\x7e]+)*")


def escape(value: str) -> str:
    """The value as it stands in a subject: what is no visible character of ASCII, and ``*``, ``>`` and ``%``, as %XX."""
    return quote(value, safe=_SAFE) if _UNSAFE.search(value) else value


def require_subject(subject: str) -> None:
    """Raise PermanentError unless this is a subject of the user's, to publish to."""
    if len(subject) > LONGEST:
        raise PermanentError(
            f"The subject {subject[:80]!r}… has {len(subject)} characters, and {LONGEST} are possible."
        )
    if not _SUBJECT.fullmatch(subject):
        raise PermanentError(
            f"{subject!r} is no subject to publish to: parts of visible ASCII, divided by single dots."
        )
    if subject.startswith(("$", "_INBOX.")):
        raise PermanentError(f"The subject {subject!r} belongs to NATS itself.")


def takes(pattern: str, subject: str) -> bool:
    """Whether a stream with this subject, which may have wildcards, takes what is published to the other."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(each in ("*", token) for each, token in zip(wanted, given, strict=True))
