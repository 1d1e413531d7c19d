"""Names that are made of an entry: a routing key, a subject, the URI of a schema."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field

from .entry import DeliveredEntry

__all__ = ["EntryTemplate"]

FIELDS = ("type", "stream", "version")


def _as_it_is(value: str) -> str:
    return value


@dataclass(frozen=True, slots=True)
class EntryTemplate:
    """A text with the fields ``{type}``, ``{stream}`` and ``{version}`` of an entry.

    ``option`` names it in errors; ``fields`` are those that are allowed; ``escape`` is applied to each value that is put in.
    Anything else in braces raises ValueError.
    """

    text: str
    option: str = field(kw_only=True)
    fields: tuple[str, ...] = field(default=FIELDS, kw_only=True)
    escape: Callable[[str], str] = field(default=_as_it_is, kw_only=True)
    constant: bool = field(init=False)
    """Whether it is the same for every entry."""

    def __post_init__(self) -> None:
        allowed = ", ".join(f"{{{name}}}" for name in self.fields)
        problem = f"{self.option} takes the fields {allowed} and no others, got {self.text!r}."
        if not isinstance(self.text, str):
            raise ValueError(f"{self.option} must be a text, got {self.text!r}.")
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(problem) from error
        used = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
        if any(name not in self.fields or spec or conversion for name, spec, conversion in used):
            raise ValueError(problem)
        object.__setattr__(self, "constant", not used)

    def fill(self, entry: DeliveredEntry) -> str:
        """The text with the values of this entry."""
        escape = self.escape
        return self.text.format(
            type=escape(entry.type), stream=escape(entry.stream), version=escape(str(entry.version))
        )
