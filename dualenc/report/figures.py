"""The pictures of the report, one matplotlib figure each; one palette for the quantities, safe for the colour-blind."""

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualenc.files import atomic_path, atomic_write
from dualenc.report.folder import Run
from dualenc.report.results import edit_names, format_count, format_number
from dualenc.report.wording import SPLIT_MEANING, gain_ceiling_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours; line styles differ too, so that the curves survive a grey print.
PALETTE = {
    "concept": "#0072B2",
    "object": "#D55E00",
    "bag_level": "#009E73",
    "bag_ceiling": "#AA4499",
    "chance": "#777777",
}
EDIT_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
EDIT_LINES = ("-", "--", "-.")
RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
SPLIT_MARKERS = {"val": "o", "val_ood": "v", "ood": "s", "mixed": "D"}
SPLIT_COLORS = {"val": "#0072B2", "val_ood": "#E69F00", "ood": "#D55E00", "mixed": "#009E73"}
MAX_NUMBERED = 10  # confusion matrices with at most this many values show their numbers

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,  # TrueType: conferences refuse Type 3
}


@dataclass(frozen=True)
class Drawing:
    """One finished picture: file name without ending, words below it, PNG and PDF bytes."""

    name: str
    caption: str
    png: bytes
    pdf: bytes

    def save(self, folder: Path) -> None:
        """Writes `folder/NAME.png` and `folder/NAME.pdf`."""
        atomic_write(folder / f"{self.name}.png", self.png)
        atomic_write(folder / f"{self.name}.pdf", self.pdf)


def learning_curves(run: Run) -> list[Drawing]:
    """Concept and object recognition over training, one picture a split, with chance and what a bag reaches."""
    drawings = []
    for split in run.splits:
        if run.metrics.get(f"{split}/object_recognition") is None:
            continue
        with new_figure() as (figure, axes):
            for kind in ("concept", "object"):
                _line(axes, run.curve(f"{split}/{kind}_recognition"), color=PALETTE[kind], label=f"{kind} recognition")
            for key, name, label, style in (
                (f"{split}/bag_level", "bag_level", "bag level", "--"),
                (gain_ceiling_key(split), "bag_ceiling", "bag ceiling", "-."),
                (f"{split}/object_chance", "chance", "chance (objects)", ":"),
            ):
                if run.metrics.get(key) is not None:
                    axes.axhline(run.metrics[key], color=PALETTE[name], linestyle=style, label=label, linewidth=1.4)
            axes.set(ylim=(-0.02, 1.02), ylabel="share of scenes")
            _finish(figure, axes, f"{split}: {SPLIT_MEANING[split]}")
        chance = ", ".join(
            f"{kind}s {format_number(run.metrics.get(f'{split}/{kind}_chance'))}" for kind in ("concept", "object")
        )
        ceiling = " The ceiling is of a bag that remembers the training objects." if split == "val" else ""
        drawings.append(
            as_drawing(f"learning_{split}", f"{split}, {SPLIT_MEANING[split]}. Chance: {chance}.{ceiling}", figure)
        )
    return drawings


def training_curves(run: Run) -> list[Drawing]:
    """Loss, temperature and learning rate over training."""
    drawings = []
    for name, label in (("loss", "training loss"), ("temperature", "temperature"), ("lr", "learning rate")):
        samples, values = run.curve(f"train/{name}")
        if not values:
            continue
        with new_figure(height=2.7) as (figure, axes):
            _line(axes, (samples, values), color="#333333", label=None)
            axes.set(ylabel=label)
            if name == "lr":
                axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
            _finish(figure, axes, label)
        drawings.append(as_drawing(f"training_{name}", label, figure))
    return drawings


def caption_curves(run: Run) -> list[Drawing]:
    """Share of scenes whose true caption beats its edit, per operator, over training; chance is one half."""
    drawings = []
    for split in run.splits:
        curves = {edit: run.curve(f"{split}/caption_vs_{edit}") for edit in edit_names(run.metrics)}
        if not any(values for _, values in curves.values()):
            continue
        with new_figure() as (figure, axes):
            for (edit, curve), color, style in zip(curves.items(), cycle(EDIT_COLORS), cycle(EDIT_LINES)):
                if curve[1]:
                    _line(axes, curve, color=color, label=f"against {edit}", linestyle=style)
            axes.axhline(0.5, color=PALETTE["chance"], linestyle=":", linewidth=1.4, label="chance")
            lowest = min(min(values) for _, values in curves.values() if values)
            axes.set(ylim=(min(0.45, lowest - 0.03), 1.01), ylabel="true caption preferred")
            _finish(figure, axes, f"{split}: caption against its edits")
        drawings.append(as_drawing(f"captions_{split}", f"{split}, {SPLIT_MEANING[split]}", figure))
    return drawings


def by_number_of_objects(run: Run) -> list[Drawing]:
    """Object recognition, and the bag level dashed, against the number of objects in the scene; last weights."""
    points = {split: by_count(run.metrics, split, "object_recognition") for split in run.splits}
    counts = sorted({count for found in points.values() for count in found})
    if not counts:
        return []
    with new_figure() as (figure, axes):
        for split, found in points.items():
            marker, color = SPLIT_MARKERS[split], SPLIT_COLORS[split]
            level = by_count(run.metrics, split, "bag_level")
            axes.plot(list(found), list(found.values()), marker=marker, color=color, label=split)
            axes.plot(list(level), list(level.values()), marker="_", color=color, linestyle="--", linewidth=1)
        axes.set(ylim=(-0.02, 1.02), ylabel="object recognition", xticks=counts)
        axes.set_xlim(counts[0] - 0.4, counts[-1] + 0.4)
        _finish(figure, axes, "by number of objects", xlabel="objects in the scene")
    caption = "object recognition by number of objects, last weights; dashed: bag level of the split in that colour"
    return [as_drawing("by_number_of_objects", caption, figure)]


def by_count(metrics: Mapping[str, Any], split: str, figure: str) -> dict[int, float]:
    """Number of objects in the scene -> the metric `figure` of `split` on such scenes, in ascending order."""
    keys = {key: re.fullmatch(rf"{split}/{figure}_m(\d+)", key) for key in metrics}
    found = {int(match[1]): metrics[key] for key, match in keys.items() if match and metrics[key] is not None}
    return dict(sorted(found.items()))


def confusions(run: Run) -> list[Drawing]:
    """One heat map per split and concept: which value the preferred object query names, by the value in the scene."""
    return [
        _confusion(split, concept, entry["names"], np.asarray(entry["matrix"], dtype=np.float64))
        for split in run.splits
        if split != "val_ood"  # it only chooses weights
        for concept, entry in run.confusion.get(split, {}).items()
    ]


def _confusion(split: str, concept: str, names: Sequence[str], counts: np.ndarray) -> Drawing:
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(6.0, 2.6 + 0.24 * len(names))
    with new_figure(width=side + 0.8, height=side) as (figure, axes):
        image = axes.imshow(np.ma.masked_invalid(shares), cmap=_blues(), vmin=0, vmax=1)
        axes.grid(False)
        small = 9 if len(names) <= 16 else 6
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 5 else 45, fontsize=small)
        axes.set_yticks(range(len(names)), names, fontsize=small)
        if len(names) <= MAX_NUMBERED:
            for i, j in zip(*np.nonzero(np.nan_to_num(shares) >= 0.015)):
                color = "white" if shares[i, j] > 0.55 else "#222222"
                axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7.5, color=color)
        axes.set(ylabel="in the scene")
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the row")
        _finish(figure, axes, f"{split}: {concept}", xlabel="in the preferred object query")
    return as_drawing(f"confusion_{split}_{concept}", f"{split}, {concept}. {_worst_confusion(names, counts)}", figure)


def _worst_confusion(names: Sequence[str], counts: np.ndarray) -> str:
    total = counts.sum()
    if total == 0:
        return "No objects."
    off = counts - np.diag(np.diag(counts))
    right = f"Right value: {format_number(float(np.trace(counts) / total))} of {int(total):,} objects."
    if off.max() == 0:
        return right
    i, j = np.unravel_index(off.argmax(), off.shape)
    return f"{right} Most frequent mistake: {names[i]} taken for {names[j]} ({int(off[i, j]):,} times)."


def coverage_curves(run: Run) -> list[Drawing]:
    """Share of the allowed objects, object pairs and values that training has met, over training."""
    with new_figure(height=2.9) as (figure, axes):
        drawn = False
        for name, color, style in (
            ("objects", "#D55E00", "-"),
            ("pairs", "#009E73", "--"),
            ("values", "#0072B2", "-."),
        ):
            samples, seen = run.curve(f"coverage/{name}_seen")
            allowed = run.metrics.get(f"coverage/{name}_allowed")
            if seen and allowed:
                shares = [value / allowed for value in seen]
                _line(axes, (samples, shares), color=color, linestyle=style, label=name)
                drawn = True
        axes.set(ylim=(-0.02, 1.04), ylabel="seen / allowed")
        _finish(figure, axes, "coverage met so far")
    return [as_drawing("coverage", "share of what the split allows that training has met", figure)] if drawn else []


def spectra(run: Run) -> list[Drawing]:
    """Singular values of the cross-covariance and of each tower, of the last weights, and their ranks over training."""
    drawings = []
    values = run.embeddings.get("singular_values", {})
    if values:
        with new_figure(height=3.2) as (figure, axes):
            for (name, found), color, style in zip(values.items(), cycle(EDIT_COLORS), cycle(EDIT_LINES)):
                shares = [max(value / max(found[0], 1e-12), 1e-6) for value in found]
                ranks = list(range(1, len(shares) + 1))
                axes.plot(ranks, shares, color=color, linestyle=style, label=SPECTRUM_NAMES[name])
            axes.set(yscale="log", ylabel="share of the first")
            _finish(figure, axes, "singular values, last weights", xlabel="rank")
        drawings.append(
            as_drawing("spectrum", "singular values as shares of the first; lowest value shown 1e-6", figure)
        )
    curves = {name: run.curve(f"spectrum/{_prefix(name)}effective_rank") for name in SPECTRUM_NAMES}
    if any(found for _, found in curves.values()):
        with new_figure(height=3.2) as (figure, axes):
            for (name, curve), color, style in zip(curves.items(), cycle(EDIT_COLORS), cycle(EDIT_LINES)):
                if curve[1]:
                    _line(axes, curve, color=color, linestyle=style, label=SPECTRUM_NAMES[name])
            axes.set(ylabel="effective rank", ylim=(0, None))
            _finish(figure, axes, "effective rank over training")
        drawings.append(as_drawing("effective_rank", "exponential of the entropy of the singular values", figure))
    return drawings


SPECTRUM_NAMES = {"cross": "cross-covariance", "scene": "scene tower", "query": "query tower"}


def _prefix(name: str) -> str:
    return "" if name == "cross" else f"{name}_"


def cosines(run: Run) -> list[Drawing]:
    """Histograms of the cosines of true and false pairs, of two scenes, of two queries; last weights."""
    shares = {kind: found for kind, found in run.embeddings.get("cosines", {}).items() if any(found)}
    if not shares:
        return []
    edges = run.embeddings["bin_edges"]
    with new_figure(height=3.2) as (figure, axes):
        for (kind, found), color, style in zip(shares.items(), cycle(EDIT_COLORS), cycle(EDIT_LINES)):
            axes.stairs(found, edges, color=color, linestyle=style, label=COSINE_NAMES[kind], linewidth=1.8)
        axes.set(ylabel="share of pairs", xlim=(-1, 1))
        _finish(figure, axes, "cosines, last weights", xlabel="cosine", legend_columns=2)
    number = format_count(run.embeddings.get("num_scenes"))
    return [as_drawing("cosines", f"all pairs of {number} val scenes and one true query of each", figure)]


COSINE_NAMES = {
    "true": "scene, true query",
    "false": "scene, false query",
    "scenes": "two scenes",
    "queries": "two queries",
}


def overlays(runs: Sequence[Run], labels: Sequence[str]) -> list[Drawing]:
    """Several runs in one picture, per split: object recognition (bag levels dashed) and concept recognition."""
    drawings = []
    for split in dict.fromkeys(split for run in runs for split in run.splits):
        for kind in ("object", "concept"):
            key = f"{split}/{kind}_recognition"
            if not any(run.curve(key)[1] for run in runs):
                continue
            with new_figure(height=3.4 + 0.2 * len(runs)) as (figure, axes):
                for i, (run, label) in enumerate(zip(runs, labels)):
                    color = RUN_COLORS[i % len(RUN_COLORS)]
                    _line(axes, run.curve(key), color=color, label=label)
                    level = run.metrics.get(f"{split}/bag_level")
                    if kind == "object" and level is not None:
                        axes.axhline(level, color=color, linestyle="--", linewidth=1)
                axes.set(ylim=(-0.02, 1.02), ylabel=f"{kind} recognition")
                _finish(figure, axes, f"{split}: {kind} recognition", legend_columns=1)
            dashed = "; dashed: bag level of the run in that colour" if kind == "object" else ""
            drawings.append(as_drawing(f"compare_{split}_{kind}", f"{split}, {SPLIT_MEANING[split]}{dashed}", figure))
    return drawings


def save_zip(drawings: Iterable[Drawing], path: Path) -> None:
    """Writes every drawing as PNG and PDF into one zip file, the same bytes on every call."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for drawing in drawings:
            for suffix, content in (("png", drawing.png), ("pdf", drawing.pdf)):
                entry = zipfile.ZipInfo(f"{drawing.name}.{suffix}")
                entry.external_attr = 0o644 << 16  # or nobody could read it, once unpacked
                archive.writestr(entry, content)


def save_all(drawings: Iterable[Drawing], folder: Path) -> None:
    """Writes every drawing as PNG and PDF into `folder`, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        drawing.save(folder)


@contextmanager
def new_figure(*, width: float = 5.6, height: float = 3.6) -> Iterator[tuple["Figure", "Axes"]]:
    """A figure in inches with one pair of axes, under the house style; no pyplot, so no display and no global state."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _blues() -> Any:
    import matplotlib

    return matplotlib.colormaps["Blues"].with_extremes(bad="#EEEEEE")


def _line(
    axes: "Axes",
    curve: tuple[Sequence[float], Sequence[float]],
    *,
    color: str,
    label: str | None,
    linestyle: str = "-",
) -> None:
    """Draws a curve; with few points also its points, so that a single evaluation can be seen."""
    samples, values = curve
    marker = "o" if len(samples) <= 12 else ""
    axes.plot(samples, values, color=color, label=label, linestyle=linestyle, marker=marker, markersize=4)


def _finish(
    figure: "Figure", axes: "Axes", title: str, *, xlabel: str = "training samples", legend_columns: int = 3
) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_title(title, loc="left", fontsize=10.5)
    axes.set_xlabel(xlabel)
    if xlabel == "training samples":
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=legend_columns, fontsize=9, columnspacing=1.6)


def as_drawing(name: str, caption: str, figure: "Figure") -> Drawing:
    """A finished figure as PNG and PDF bytes, the same on every call."""
    import matplotlib

    png, pdf = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
        figure.set_layout_engine("none")  # the PDF keeps the PNG's layout; working it out again costs most of the time
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return Drawing(name, caption, png.getvalue(), pdf.getvalue())
