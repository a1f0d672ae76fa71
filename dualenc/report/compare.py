"""The page of several runs: one table row per run and split, curves on top of each other, what differs between them."""

from collections.abc import Sequence
from statistics import mean, stdev

from dualenc.report import figures as draw
from dualenc.report import html
from dualenc.report.folder import SPLITS, Run, flatten
from dualenc.report.html import text
from dualenc.report.page import headline_cells, headline_headings
from dualenc.report.results import DASH, format_number

# Runs that differ in nothing else are repetitions, whose mean and spread may be taken.
REPETITION_KEYS = frozenset({"run.seed", "data.seed", "run.name", "run.dir"})
MEAN_KEYS = ("concept_recognition", "object_recognition", "bag_level", "bag_ceiling", "binding_gain")


def compare_page(runs: Sequence[Run]) -> tuple[str, list[draw.Drawing]]:
    """The HTML of several runs side by side and the pictures in it."""
    differences = config_differences(runs)
    labels = run_labels(runs, differences)
    drawings = draw.overlays(runs, labels)
    sections = {
        "Results": _results(runs, labels),
        "Spread": _spread(runs, differences),
        "Learning curves": html.figures(drawings, large=True),
        "Differences of configuration": _differences(labels, differences),
        "Commands": _commands(runs, labels),
    }
    notes = {"Spread": f"These runs differ only in their seeds: mean and standard deviation over {len(runs)} runs."}
    parts = [html.section(heading, content, note=notes.get(heading, "")) for heading, content in sections.items()]
    title = f"{len(runs)} runs side by side"
    body = f"<h1>{title}</h1>" + html.contents(parts, list(sections)) + "".join(parts)
    return html.page(f"{title} \u00b7 dualenc report", body), drawings


def config_differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The keys on which the configurations differ -> their value in each run, a dash where a run lacks the key."""
    flat = [flatten(run.config) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    values = {key: [str(config[key]) if key in config else DASH for config in flat] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def run_labels(runs: Sequence[Run], differences: dict[str, list[str]]) -> list[str]:
    """A short distinct name for each run: its name, where that is shared one or two differing keys, else the hash."""
    names = [run.name for run in runs]
    keys = [key for key in differences if key not in {"run.name", "run.dir"}]
    told = [" ".join([name, *(f"{key}={differences[key][i]}" for key in keys[:2])]) for i, name in enumerate(names)]
    hashed = [f"{run.name}-{run.hash}" for run in runs]
    return next((labels for labels in (names, told) if len(set(labels)) == len(runs)), hashed)


def _results(runs: Sequence[Run], labels: Sequence[str]) -> str:
    rows = [
        [f'<td class="wide"><b>{text(label)}</b></td>', text(split), *headline_cells(run.metrics, split)[1:]]
        for split in SPLITS
        for run, label in zip(runs, labels)
        if split in run.splits
    ]
    return html.table(["run", "split", *headline_headings()], rows)


def _spread(runs: Sequence[Run], differences: dict[str, list[str]]) -> str:
    if not differences or not REPETITION_KEYS.issuperset(differences):
        return ""
    rows = []
    for split in SPLITS:
        cells = []
        for key in MEAN_KEYS:
            values = [run.metrics[f"{split}/{key}"] for run in runs if run.metrics.get(f"{split}/{key}") is not None]
            enough = len(values) > 1
            cells.append(f"{format_number(mean(values))} \u00b1 {format_number(stdev(values))}" if enough else DASH)
        if any(split in run.splits for run in runs):
            rows.append([text(split), *cells])
    return html.table(["split", *(key.replace("_", " ") for key in MEAN_KEYS)], rows)


def _differences(labels: Sequence[str], differences: dict[str, list[str]]) -> str:
    rows = [[text(key), *(text(value) for value in values)] for key, values in differences.items()]
    return html.table(["key", *(text(label) for label in labels)], rows, kind="left")


def _commands(runs: Sequence[Run], labels: Sequence[str]) -> str:
    shown = [(label, run.summary["command"]) for run, label in zip(runs, labels) if run.summary.get("command")]
    return "".join(f"<p><b>{text(label)}</b></p><pre>{text(command)}</pre>" for label, command in shown)
