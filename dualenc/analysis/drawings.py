"""The figures of the studies: bars with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dualenc.report.figures import PALETTE, Drawing, as_drawing, new_figure

READINGS = {
    "r2": ("R\u00b2", "#009E73"),
    "retrieval": ("retrieval", "#CC79A7"),
    "probe_concepts": ("concepts read", PALETTE["concept"]),
    "probe_objects": ("objects read", PALETTE["object"]),
}
"""Column -> what it is called and its colour, the same in every picture."""


def decomposition(result: Mapping[str, Any]) -> list[Drawing]:
    """One picture for each object count: the estimators at both levels, embeddings of length one, held-out scenes."""
    rows = [
        {**row, "name": "true\nembeddings" if row["estimator"] == "true embeddings" else f"{row['estimator']}\n{title}"}
        for title in ("Level I", "Level II")
        for row in result["tables"][title]
        if row["embeddings"] == "length one" and row["scenes"] == "held out" and row["status"] == "all"
    ]
    title = "scenes as sums of object (I) and concept (II) vectors, averages from other scenes"
    return _by_count(rows, "levels", title)


def interventions(result: Mapping[str, Any]) -> list[Drawing]:
    """Two pictures for each object count: edited scenes, averages from other scenes; and what is left after removal."""
    edited = [
        {**row, "name": row["estimator"]}
        for row in result["tables"]["Object editing"]
        if row["scenes"] == "held out" and row["status"] == "all"
    ]
    removals = result["tables"]["Targeted removal"]
    several = len({row["tables"] for row in removals if row["tables"]}) > 1
    removed = [
        {**row, "name": "\n".join([*row["removed"].split(), *([row["tables"]] if several else [])])} for row in removals
    ]
    return [
        *_by_count(edited, "editing", "one object exchanged for another, averages from other scenes"),
        *_by_count(removed, "removal", "probes fitted anew after a removal"),
    ]


def _by_count(rows: Sequence[Mapping[str, Any]], name: str, title: str) -> list[Drawing]:
    counts = sorted({row["objects"] for row in rows})
    return [bars([row for row in rows if row["objects"] == m], f"{name}_m{m}", f"{m} objects: {title}") for m in counts]


def bars(rows: Sequence[Mapping[str, Any]], name: str, caption: str) -> Drawing:
    """A group of bars for each row, named by its `name`: those of READINGS that some row has, with intervals."""
    series = [key for key in READINGS if any(row.get(key) is not None for row in rows)]
    width = 0.8 / max(len(series), 1)
    with new_figure(width=max(5.6, 1.15 * len(rows)), height=3.9) as (figure, axes):
        for i, key in enumerate(series):
            label, color = READINGS[key]
            at = np.array([j for j, row in enumerate(rows) if row.get(key) is not None])
            values = np.array([rows[j][key] for j in at])
            bounds = np.array([rows[j].get(f"{key}_interval") or [rows[j][key]] * 2 for j in at]).T
            errors = np.abs(bounds - values)
            axes.bar(at + (i - (len(series) - 1) / 2) * width, values, width, color=color, label=label)
            axes.errorbar(
                at + (i - (len(series) - 1) / 2) * width, values, errors, fmt="none", ecolor="#333333", elinewidth=1
            )
        axes.set_xticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
        lowest = min((row[key] for row in rows for key in series if row.get(key) is not None), default=0.0)
        axes.set_ylim(max(min(0.0, 1.05 * lowest), -1.0), 1.05)
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower center", ncols=len(series) or 1, fontsize=9)
    return as_drawing(name, caption, figure)
