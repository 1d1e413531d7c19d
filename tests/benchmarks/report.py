"""The table of docs/performance.md, from the measurements of all rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.definition import Comparison, Measurement

__all__ = ["BEGIN", "END", "Row", "row_of", "table", "write"]

BEGIN = "<!-- figures: begin, written by python -m tests.benchmarks -->"
END = "<!-- figures: end -->"
HEADER = ("figure", "database", "measured", "its limit", "ratio", "spread", "target", "met")
DATABASES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "sqlite": "SQLite"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table, in words."""

    figure: str
    """The name of the figure that it belongs to."""
    title: str
    database: str
    measured: str
    limit: str
    ratio: str
    spread: str
    target: str
    met: str

    @property
    def cells(self) -> tuple[str, ...]:
        title = f"{self.title} ({self.figure})"
        return title, self.database, self.measured, self.limit, self.ratio, self.spread, self.target, self.met


def row_of(comparison: Comparison, by_variant: Mapping[str, Sequence[Measurement]], *, figure: str, vendor: str) -> Row:
    """The medians. The ratio is the median of the ratios of each round, whose two halves met the same circumstances."""
    reading, limit = comparison.measured, comparison.limit
    measured = [reading.quantity.of(measurement) for measurement in by_variant[reading.variant]]
    limits = [limit.quantity.of(measurement) for measurement in by_variant[limit.variant]] if limit else []
    ratios = [ours / theirs for ours, theirs in zip(measured, limits, strict=True)] if limit else []
    ratio = statistics.median(ratios) if ratios else None
    target = (comparison.targets or {}).get(vendor)
    # What varies is shown for what is judged.
    spread = ratios if ratios and not (target and target.of == "measured") else measured
    met = target.is_met(measured=statistics.median(measured), ratio=ratio) if target else None
    return Row(
        figure=figure,
        title=comparison.title,
        database=DATABASES[vendor],
        measured=f"{_number(statistics.median(measured))} {reading.quantity.unit}",
        limit=(
            f"{_number(statistics.median(limits))} {limit.quantity.unit}, {comparison.limit_name}" if limit else "–"
        ),
        ratio=f"{ratio:.2f}" if ratio is not None else "–",
        spread=f"{_number(min(spread))} to {_number(max(spread))}",
        target=_target(comparison, vendor),
        met={True: "yes", False: "**no**", None: "–"}[met],
    )


def _target(comparison: Comparison, vendor: str) -> str:
    target = (comparison.targets or {}).get(vendor)
    if target is None:
        return "–"
    what = "ratio " if target.of == "ratio" else ""
    unit = "" if target.of == "ratio" else f" {comparison.measured.quantity.unit}"
    return f"{what}{target.bound} {target.number:,g}{unit}"


def _number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:#.3g}".rstrip(".")


def table(facts: Sequence[str], rows: Sequence[Row]) -> str:
    """Markdown: the facts as a list, then the rows."""
    lines = [f"- {fact}" for fact in facts]
    lines += ["", _line(HEADER), _line(["---"] * len(HEADER))]
    lines += [_line(row.cells) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def write(path: Path, text: str) -> None:
    """Put the text between the two marks of the page. Raises ValueError when the page has not both, once."""
    page = path.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"{path} needs the lines {BEGIN} and {END}, once and in this order")
    before, _, rest = page.partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
