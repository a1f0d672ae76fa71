"""The headline numbers as rows, and as the table printed at the end of a training."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dualenc.report.folder import measured_splits

DASH = "\u2013"
EDITS = ("swap", "replace", "add")
COLUMNS = (
    ("concept recognition", "concept_recognition"),
    ("object recognition", "object_recognition"),
    ("bag level", "bag_level"),
    ("binding gain", "binding_gain"),
)


def edit_names(keys: Iterable[str]) -> list[str]:
    """The edits that captions are compared with in metrics of these names: EDITS first, then others by name."""
    found = {match[1] for key in keys if (match := re.search(r"(?:^|/)caption_vs_(.+)_count$", key))}
    found = {name for name in found if not name.endswith(("_seen", "_heldout"))}
    return [*EDITS, *sorted(found - set(EDITS))]


def opposite_kinds(keys: Iterable[str]) -> list[str]:
    """The kinds of minimal pairs in metrics of these names."""
    return sorted({match[1] for key in keys if (match := re.search(r"(?:^|/)opposite_(.+)_group$", key))})


def format_number(value: Any) -> str:
    """A rate as people read it: three decimals, small ones as `5e-04`, null as a dash.

    A value is never rounded to a perfect 1 or 0 that it is not.
    """
    if value is None:
        return DASH
    if value != 0 and abs(value) < 9.5e-4:
        return f"{value:.0e}"
    if 0.9995 <= value < 1:
        return f"{min(value, 0.9999):.4f}"
    return f"{value:.3f}"


def format_count(value: Any) -> str:
    """A count with thousands separators (metrics hold counts as floats), null as a dash."""
    return DASH if value is None else f"{int(value):,}"


def results_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """One row a split: the cells of the printed table. Chance and candidates are those of concepts / of objects."""
    rows = []
    for split in measured_splits(metrics):
        cells = [format_number(metrics.get(f"{split}/{key}")) for _, key in COLUMNS]
        for suffix, written in (("chance", format_number), ("candidates", format_count)):
            pair = [written(metrics.get(f"{split}/{kind}_{suffix}")) for kind in ("concept", "object")]
            cells.append(" / ".join(pair))
        rows.append([split, *cells])
    return rows


def results_text(summary: Mapping[str, Any]) -> str:
    """The headline table of a `summary.json` as plain aligned text, for logs."""
    headings = ["split", *(name for name, _ in COLUMNS), "chance (concept / object)", "candidates"]
    rows = [headings, *results_rows(summary.get("metrics", {}))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


INTERVAL = "_interval"  # a row's `x_interval` stands beside its `x`


def tabulated(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the rows of an analysis: every column that some row has, in order of appearance."""
    keys = list(dict.fromkeys(key for row in rows for key in row if not key.endswith(INTERVAL)))
    return [key.replace("_", " ").replace("r2", "R\u00b2") for key in keys], [
        [_cell(row.get(key), row.get(f"{key}{INTERVAL}")) for key in keys] for row in rows
    ]


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; a bar inside a cell is escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell(value: Any, interval: Sequence[float] | None) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format_count(value)
    bounds = f" ({format_number(interval[0])} to {format_number(interval[1])})" if interval else ""
    return format_number(value) + bounds
