"""The page of one run: its numbers and their meaning first, then curves, confusion, coverage, examples, origins."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dualenc.report import figures as draw
from dualenc.report import html
from dualenc.report.folder import SPLITS, Run, measured_splits
from dualenc.report.html import text
from dualenc.report.results import DASH, EDITS, format_count, format_number
from dualenc.report.wording import SPLIT_MEANING, verdict

EXAMPLES_SHOWN = 12
HEADLINE_NOTE = (
    "Shares of scenes, ties counted as misses. Same status: seen objects against seen, held-out against held-out. "
    "Bag level: what a bag of concepts reaches in practice; bag ceiling: the most that knowing only the values present "
    "can reach, with memory when it also remembers which objects training contained. Binding gain is the part above "
    "the ceiling, (object recognition \u2212 ceiling) / (1 \u2212 ceiling); on <em>val</em> the ceiling with memory. "
    "Chance and candidates stand for objects here; those for concepts are in small print."
)


def run_page(run: Run) -> tuple[str, list[draw.Drawing]]:
    """The HTML of one run's report and the pictures in it."""
    learning, training = draw.learning_curves(run), draw.training_curves(run)
    captions, counts = draw.caption_curves(run), draw.by_number_of_objects(run)
    confusion, coverage = draw.confusions(run), draw.coverage_curves(run)
    sections = {
        "Results": _results(run),
        "Learning curves": html.figures(learning, large=True),
        "Captions against edits": html.figures(captions, large=True) + _edits(run.metrics),
        "By number of objects and by concept": _breakdown(run, counts),
        "Confusion of bound attributes": html.figures(confusion, large=True),
        "Retrieval": _retrieval(run.metrics),
        "Coverage": _coverage(run.metrics) + html.figures(coverage),
        "Worst-bound scenes": _examples(run),
        "Training": html.figures(training),
        "Reproduce": _origins(run),
        "All numbers": _all_numbers(run),
    }
    notes = {
        "Results": HEADLINE_NOTE,
        "Confusion of bound attributes": "For every object in a scene, the value named by the object query the model "
        "prefers (columns) against the value it has (rows), in per cent of the row where numbers are shown.",
        "Coverage": "What training has met, against what the split allows.",
        "Worst-bound scenes": "Scenes of each split where the true caption loses by most; right ones appear where a "
        "split has too few mistakes.",
    }
    parts = [html.section(heading, content, note=notes.get(heading, "")) for heading, content in sections.items()]
    body = _head(run) + html.contents(parts, list(sections)) + _meaning(run.metrics) + "".join(parts)
    drawings = [*learning, *training, *captions, *counts, *confusion, *coverage]
    return html.page(f"{run.name} \u00b7 dualenc report", body), drawings


def _head(run: Run) -> str:
    facts = [f"run {run.hash}", f"{run.samples:,} training samples"]
    if not run.summary:
        facts.append("not finished: newest numbers so far")
    dataset = run.summary.get("dataset") or {}
    if dataset:
        facts.append(f"dataset {dataset.get('name', '')} {dataset.get('hash', '')}".rstrip())
    if dataset.get("coverage") is not None:
        facts.append(
            f"coverage {format_number(dataset['coverage'])} of {format_count(dataset.get('num_objects'))} objects"
        )
    parameters = run.summary.get("num_parameters") or {}
    facts += [f"{tower} tower {format_count(count)} parameters" for tower, count in parameters.items()]
    line = " \u00b7 ".join(facts)
    return f'<h1>{text(run.name)}</h1><p class="soft">{text(line)}</p>'


def _meaning(metrics: Mapping[str, Any]) -> str:
    sentences = "".join(f"<p>{text(sentence)}</p>" for sentence in verdict(metrics))
    caution = (
        '<p class="soft">One run, so one object split and one seed; repeat over both before drawing conclusions.</p>'
    )
    return f'<div class="verdict">{sentences}{caution}</div>' if sentences else ""


def number(value: Any) -> str:
    """A rate as HTML: rounded for the eye, exact in the element's value and on hover."""
    if value is None:
        return DASH
    return f'<data value="{value!r}" title="{value!r}">{text(format_number(value))}</data>'


def headline_headings() -> list[str]:
    """Headings of the headline table; the coloured ones have that colour in the pictures."""
    return [
        html.swatch("concept", "concept recognition"),
        html.swatch("object", "object recognition"),
        html.swatch("bag_level", "bag level"),
        html.swatch("bag_ceiling", "bag ceiling"),
        "binding gain",
        html.swatch("chance", "chance") + " (objects)",
        "candidates",
        *(f"caption vs {edit}" for edit in EDITS),
    ]


def headline_cells(metrics: Mapping[str, Any], split: str) -> list[str]:
    """The cells of one split, beginning with its name; in small print what each number has to be read with."""
    value = {key.removeprefix(f"{split}/"): found for key, found in metrics.items() if key.startswith(f"{split}/")}
    scenes = f"<small>{format_count(value['num_scenes'])} scenes</small>" if value.get("num_scenes") else ""
    cells = [
        f'<td class="wide"><b>{text(split)}</b><small>{text(SPLIT_MEANING[split])}</small>{scenes}</td>',
        number(value.get("concept_recognition"))
        + f"<small>chance {number(value.get('concept_chance'))}</small>"
        + f"<small>of {format_count(value.get('concept_candidates'))}</small>",
        number(value.get("object_recognition"))
        + f"<small>same status<br>{number(value.get('object_recognition_same_status'))}</small>",
        number(value.get("bag_level")),
        number(value.get("bag_ceiling")) + f"<small>with memory<br>{number(value.get('bag_ceiling_split'))}</small>",
        number(value.get("binding_gain")),
        number(value.get("object_chance")),
        format_count(value.get("object_candidates")),
    ]
    for edit in EDITS:
        key = f"caption_vs_{edit}"
        cells.append(f"{number(value.get(key))}<small>{format_count(value.get(f'{key}_count'))} scenes</small>")
    return cells


def _results(run: Run) -> str:
    headings = ["split", *headline_headings()]
    last = html.table(headings, [headline_cells(run.metrics, split) for split in run.splits])
    best = run.summary.get("best") or {}
    chosen = best.get("metrics") or {}
    if not chosen:
        return last
    rows = [headline_cells(chosen, split) for split in measured_splits(chosen)]
    title = f"Weights chosen by val_ood/object_recognition, after {format_count(best.get('samples'))} samples"
    return f'<p class="soft">Last weights, after {run.samples:,} samples.</p>{last}' + html.details(
        title, html.table(headings, rows)
    )


def _edits(metrics: Mapping[str, Any]) -> str:
    rows = []
    for split in measured_splits(metrics):
        for edit in EDITS:
            key = f"{split}/caption_vs_{edit}"
            if metrics.get(key) is not None:
                shown = [number(metrics.get(key + suffix)) for suffix in ("", "_seen", "_heldout")]
                rows.append([text(split), text(edit), *shown, format_count(metrics.get(f"{key}_count"))])
    headings = ["split", "edit", "all", "edited objects seen", "edited objects held out", "scenes"]
    return html.table(headings, rows)


def _breakdown(run: Run, drawings: Sequence[draw.Drawing]) -> str:
    by_count = {split: draw.by_count(run, split) for split in run.splits}
    by_concept = {split: _by_concept(run.metrics, split) for split in run.splits}
    counts = sorted({count for found in by_count.values() for count in found})
    concepts = list(dict.fromkeys(concept for found in by_concept.values() for concept in found))
    tables = [
        html.table(
            [text(f"{measure} recognition"), *(text(name) for name in names)],
            [[text(split), *(number(values.get(key)) for key in keys)] for split, values in found.items() if values],
        )
        for measure, names, keys, found in (
            ("object", [f"{count} objects" if count > 1 else "1 object" for count in counts], counts, by_count),
            ("concept", concepts, concepts, by_concept),
        )
    ]
    return html.figures(drawings) + "".join(tables)


def _by_concept(metrics: Mapping[str, Any], split: str) -> dict[Any, Any]:
    prefix = f"{split}/concept_recognition_"
    return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}


def _retrieval(metrics: Mapping[str, Any]) -> str:
    directions = ("scene_to_query", "query_to_scene")
    rows = []
    for split in measured_splits(metrics):
        for direction in directions:
            keys = [f"{split}/recall_at_{k}_{direction}" for k in (1, 5, 10)]
            if any(metrics.get(key) is not None for key in keys):
                cells = [
                    f"{number(metrics.get(k))}<small>chance {number(metrics.get(f'{k}_chance'))}</small>" for k in keys
                ]
                sizes = [format_count(metrics.get(f"{split}/{name}")) for name in ("num_scenes", "num_texts")]
                rows.append([text(split), direction.replace("_", " "), *cells, *sizes])
    return html.table(["split", "direction", "recall at 1", "at 5", "at 10", "scenes", "texts"], rows)


def _coverage(metrics: Mapping[str, Any]) -> str:
    rows = []
    for name, words in (("objects", "objects"), ("pairs", "pairs of objects"), ("values", "concept values")):
        seen, allowed = metrics.get(f"coverage/{name}_seen"), metrics.get(f"coverage/{name}_allowed")
        if seen is not None and allowed:
            share = seen / allowed
            bar = f'<div class="bar"><span style="width:{100 * min(share, 1):.1f}%"></span></div>'
            rows.append([words, format_count(seen), format_count(allowed), number(share), bar])
    met = [
        f"{words} met per batch: {number(metrics[key])}"
        for key, words in (("coverage/collisions_per_batch", "collisions"), ("coverage/edits_per_batch", "edits"))
        if metrics.get(key) is not None
    ]
    line = f'<p class="soft">{"; ".join(met)}</p>' if met else ""
    return html.table(["", "seen", "allowed", "share", ""], rows) + line


def _examples(run: Run) -> str:
    groups = []
    for split in SPLITS:
        cards = "".join(_card(run.path, scene) for scene in run.examples.get(split, [])[:EXAMPLES_SHOWN])
        if cards:
            groups.append(f"<h3>{text(split)}</h3><div class='cards'>{cards}</div>")
    return "".join(groups)


def _card(folder: Path, scene: Mapping[str, Any]) -> str:
    picture = folder / scene["image"] if scene.get("image") else None
    image = ""
    if picture and picture.is_file() and folder.resolve() in picture.resolve().parents:
        alt = f"scene {scene['index']}: {scene['caption_true']}"
        image = f'<img src="{html.data_uri(picture.read_bytes())}" alt="{text(alt)}">'
    mark = "right" if scene["bound"] else "wrong"
    return (
        f'<div class="card">{image}<dl><dt>caption preferred ({number(scene["score_preferred"])})</dt>'
        f'<dd class="{mark}">{text(scene["caption_preferred"])}</dd>'
        f"<dt>caption true ({number(scene['score_true'])})</dt><dd>{text(scene['caption_true'])}</dd></dl>"
        f'<span class="soft">{text(scene["split"])} scene {text(scene["index"])}</span></div>'
    )


def _origins(run: Run) -> str:
    command = run.summary.get("command")
    shown = f"<pre>{text(command)}</pre>" if command else ""
    config = f"<pre>{text(OmegaConf.to_yaml(OmegaConf.create(run.config)))}</pre>" if run.config else ""
    columns = list(dict.fromkeys(key for segment in run.segments for key in segment))
    rows = [[text(_words(segment.get(key))) for key in columns] for segment in run.segments]
    segments = html.table([text(c.replace("_", " ")) for c in columns], rows, kind="left")
    resumes = max(len(run.segments) - 1, 0)
    title = f"<h3>Segments ({resumes} resume{'' if resumes == 1 else 's'}) and versions</h3>" if segments else ""
    return shown + html.details("Configuration, resolved", config) + title + segments


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return DASH if value is None else str(value)


def _all_numbers(run: Run) -> str:
    rows = [[text(key), number(value)] for key, value in sorted(run.metrics.items())]
    return html.details(f"{len(rows)} metrics of the last weights", html.table(["metric", "value"], rows))
