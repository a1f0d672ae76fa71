"""The figures of the fitted studies: curves over coverage and rank, heat maps over layers and positions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dualenc.report.figures import RUN_COLORS, Drawing, as_drawing, new_figure

_MARKERS = "osvD^Px*"
_LABELS = {
    "r2_heldout": "R\u00b2 on scenes of new objects",
    "probe_concepts": "concepts read from predictions",
    "probe_objects": "objects read from predictions",
}


def capacity(result: Mapping[str, Any]) -> list[Drawing]:
    """R^2, concepts and objects read, each against coverage, a curve for each approximator."""
    rows = result["tables"]["Approximators"]
    drawings = []
    for key, label in _LABELS.items():
        shown = [row for row in rows if row.get(key) is not None]
        if not shown:
            continue
        with new_figure() as (figure, axes):
            for name, marker, color in zip(dict.fromkeys(row["approximator"] for row in rows), _MARKERS, RUN_COLORS):
                _curve(axes, [r for r in rows if r["approximator"] == name], "coverage", key, marker, color, name)
            true = key.replace("probe_", "true_")
            if true != key and true in rows[0]:  # an R^2 has no such level
                level = [np.mean([r[true] for r in rows if r["coverage"] == c]) for c in _values(rows, "coverage")]
                axes.plot(_values(rows, "coverage"), level, color="#777777", linestyle="--", label="true embeddings")
            if key == "probe_objects":
                bag = float(np.mean([row["bag_level"] for row in rows]))
                axes.axhline(bag, color="#777777", linestyle=":", label="bag level")
            axes.set(xlabel="coverage of the fitted objects", ylabel=label)
            axes.set_ylim(max(min(0.0, *(row[key] for row in shown)), -1) - 0.02, 1.02)
            axes.legend(fontsize=8)
        drawings.append(as_drawing(key, label, figure))
    return drawings


def multiplicative(result: Mapping[str, Any]) -> list[Drawing]:
    """R^2 on held-out objects against the rank of the products; the additive probe as a line. Nothing where the
    embeddings of held-out objects do not vary, so that no probe has one."""
    rows = [row for row in result["tables"]["Probes"] if row["r2_heldout"] is not None]
    if not rows:
        return []
    with new_figure() as (figure, axes):
        for name, marker, color in zip(("per-object", "global"), _MARKERS, RUN_COLORS):
            _curve(axes, [r for r in rows if r["probe"] == name], "rank", "r2_heldout", marker, color, name)
        additive = next(row["r2_heldout"] for row in rows if row["probe"] == "additive")
        axes.axhline(additive, color="#777777", linestyle="--", label="additive")
        axes.set_xscale("log", base=2)
        axes.set_xticks(_values([row for row in rows if row["rank"]], "rank"), minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
        lowest = min(row["r2_heldout"] for row in rows)
        axes.set(xlabel="rank of the products", ylabel=_LABELS["r2_heldout"])
        axes.set_ylim(max(min(0.0, lowest), -1) - 0.02, 1.02)
        axes.legend(fontsize=8)
    return [as_drawing("by_rank", "additive and multiplicative probes, R\u00b2 on scenes of new objects", figure)]


def layers(result: Mapping[str, Any]) -> list[Drawing]:
    """Heat maps of layer by position: concepts read, and objects read."""
    rows = result["tables"]["Probes"]
    names, positions = _values(rows, "layer"), list(dict.fromkeys(row["position"] for row in rows))
    drawings = []
    for key, label in (("probe_concepts", "concepts read"), ("probe_objects", "objects read")):
        found = {(row["layer"], row["position"]): row.get(key) for row in rows}
        if None in found.values():
            continue
        table = np.array([[found[name, position] for position in positions] for name in names])
        with new_figure(width=2 + 0.42 * len(positions), height=1.6 + 0.42 * len(names)) as (figure, axes):
            image = axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
            if len(positions) <= 20:
                for i, j in np.ndindex(*table.shape):
                    color = "white" if table[i, j] > 0.55 else "#222222"
                    axes.text(j, i, f"{100 * table[i, j]:.0f}", ha="center", va="center", fontsize=7, color=color)
            axes.grid(visible=False)
            axes.set_xticks(range(len(positions)), positions, rotation=90 if len(positions) > 20 else 0, fontsize=8)
            axes.set_yticks(range(len(names)), [str(name) for name in names])
            axes.set(xlabel="position", ylabel="after block")
            figure.colorbar(image, ax=axes)
        drawings.append(as_drawing(f"{key}_by_layer", f"{label} by linear probes, share of test scenes", figure))
    return drawings


def _values(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return sorted({row[key] for row in rows})


def _curve(axes: Any, rows: Sequence[Mapping[str, Any]], x: str, y: str, marker: str, color: str, label: str) -> None:
    """Points with their intervals, joined; those without a value are left out."""
    rows = [row for row in rows if row[y] is not None]
    at = np.array([row[x] for row in rows])
    values = np.array([row[y] for row in rows], dtype=np.float64)
    bounds = np.array([row.get(f"{y}_interval") or [row[y]] * 2 for row in rows]).reshape(-1, 2).T
    axes.errorbar(at, values, np.abs(bounds - values), marker=marker, color=color, label=label, capsize=2)


def probe_fits(result: Mapping[str, Any]) -> list[Drawing]:
    """OOD object recognition against the held-out fit of each probe, a point for each run."""
    points, rows = result["tables"]["Runs"], result["tables"]["Correlations"]
    with new_figure() as (figure, axes):
        for row, marker, color in zip(rows, _MARKERS, RUN_COLORS):
            own = [point for point in points if point["probe"] == row["probe"]]
            spearman = "" if row["spearman"] is None else f", Spearman {row['spearman']:.2f}"
            x, y = [point["r2"] for point in own], [point["recognition"] for point in own]
            axes.plot(x, y, linestyle="none", marker=marker, color=color, label=f"{row['probe']}{spearman}")
        axes.set(xlabel="R\u00b2 of the probe on scenes of new objects", ylabel="ood object recognition")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(fontsize=8)
    return [as_drawing("probe_fit", "recognition of held-out objects against how well a probe explains them", figure)]
