"""The page of one run: its numbers and their meaning first, then curves, confusion, coverage, examples, origins."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dualenc.report import figures as draw
from dualenc.report import html
from dualenc.report.folder import Run, data_uri, measured_splits
from dualenc.report.html import text
from dualenc.report.results import DASH, EDITS, edit_names, format_count, format_number, opposite_kinds, tabulated
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
    embeddings = [*draw.cosines(run), *draw.spectra(run)]
    sections = {
        "Results": _results(run),
        "Learning curves": html.figures(learning, large=True),
        "Captions against edits": html.figures(captions, large=True) + _edits(run.metrics),
        **({"Minimal pairs": _minimal_pairs(run.metrics)} if opposite_kinds(run.metrics) else {}),
        "By number of objects and by concept": _breakdown(run, counts),
        "Confusion of bound attributes": html.figures(confusion, large=True),
        "Retrieval": _retrieval(run.metrics),
        "Embeddings": _embeddings(run.metrics) + html.figures(embeddings),
        "Coverage": _coverage(run.metrics) + html.figures(coverage),
        "Analysis": _analyses(run),
        "Worst-bound scenes": examples_of(run.examples, shown=EXAMPLES_SHOWN),
        "Training": html.figures(training),
        "Reproduce": _origins(run),
        "All numbers": _all_numbers(run),
    }
    notes = {
        "Results": HEADLINE_NOTE,
        "Confusion of bound attributes": "For every object in a scene, the value named by the object query the model "
        "prefers (columns) against the value it has (rows), in per cent of the row where numbers are shown; grey: no "
        "object of the split has the value.",
        "Minimal pairs": "Two pictures that differ in nothing but the two objects, and a caption of each. Text score: "
        "for both pictures the true caption scores higher; picture score: for both captions the picture they are true "
        "of does; group score: both.",
        "Embeddings": "Of val scenes and one true query each, unit vectors. Modality gap: distance of the two means. "
        "Alignment: mean squared distance of true pairs. Uniformity: log of the mean of exp(\u22122 d\u00b2) over "
        "pairs of one tower, lower is more even. Effective rank: exponential of the entropy of the singular values, "
        "after subtracting the mean. Variance: 1 minus the squared length of the mean; a tower with (almost) none has "
        "collapsed to one point.",
        "Coverage": "What training has met, against what the split allows.",
        "Worst-bound scenes": "The scenes of each split that lose by most: the best false description against what is "
        "true of the scene, with their scores. Won scenes appear where a split has too few mistakes.",
    }
    parts = [html.section(heading, content, note=notes.get(heading, "")) for heading, content in sections.items()]
    body = _head(run) + html.contents(parts, list(sections)) + _meaning(run.metrics) + "".join(parts)
    drawings = [*learning, *training, *captions, *counts, *confusion, *embeddings, *coverage]
    return html.page(f"{run.name} \u00b7 dualenc report", body), drawings


def _head(run: Run) -> str:
    facts = [f"run {run.hash}", f"{run.samples:,} training samples"]
    if not run.summary:
        facts.append("not finished: newest numbers so far")
    dataset = run.summary.get("dataset") or {}
    if dataset:
        facts.append(f"dataset {dataset.get('name')} {dataset.get('hash') or ''}".rstrip())
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
        *(f"caption vs\u00a0{edit}" for edit in EDITS),
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
    return cells + [_counted(value, f"caption_vs_{edit}") for edit in EDITS]


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
        for edit in edit_names(metrics):
            key = f"{split}/caption_vs_{edit}"
            if metrics.get(key) is not None:
                groups = (f"{key}{suffix}" for suffix in ("", "_seen", "_heldout"))
                rows.append([text(split), text(edit), *(_counted(metrics, group) for group in groups)])
    return html.table(["split", "edit", "all", "edited objects seen", "edited objects held out"], rows)


def _minimal_pairs(metrics: Mapping[str, Any]) -> str:
    rows = []
    for split in measured_splits(metrics):
        for kind in opposite_kinds(metrics):
            key = f"{split}/opposite_{kind}"
            if metrics.get(f"{key}_count"):
                scores = (_with_chance(metrics[f"{key}_{w}"], metrics[f"{key}_{w}_chance"]) for w in _PAIR_SCORES)
                rows.append([text(split), text(kind), *scores, format_count(metrics[f"{key}_count"])])
    return html.table(["split", "what differs", *(f"{w} score" for w in _PAIR_SCORES), "pairs"], rows)


_PAIR_SCORES = ("text", "picture", "group")


def _counted(metrics: Mapping[str, Any], key: str) -> str:
    count = metrics.get(f"{key}_count")
    return number(metrics.get(key)) + ("" if count is None else f"<small>{format_count(count)} scenes</small>")


def _with_chance(value: Any, chance: Any) -> str:
    return f"{number(value)}<small>chance {number(chance)}</small>"


def _breakdown(run: Run, drawings: Sequence[draw.Drawing]) -> str:
    counts = sorted({m for split in run.splits for m in draw.by_count(run.metrics, split, "num_scenes")})
    concepts = list(dict.fromkeys(name for split in run.splits for name in _concepts(run.metrics, split)))
    by_count = {f"m{m}": f"{m} object{'s' if m > 1 else ''}" for m in counts}
    by_concept = {concept: concept for concept in concepts}
    tables = (_suffixed(run, kind, names) for kind, names in (("object", by_count), ("concept", by_concept)))
    return html.figures(drawings) + "".join(tables)


def _suffixed(run: Run, kind: str, names: Mapping[str, str]) -> str:
    """Recognition of `kind` per split (rows) and per suffix of its key (columns, headed by the suffix's name)."""
    if not names:
        return ""
    rows = []
    for split in run.splits:
        pairs = [[run.metrics.get(f"{split}/{kind}_{f}_{s}") for f in ("recognition", "chance")] for s in names]
        rows.append([text(split), *(_with_chance(*pair) for pair in pairs)])
    return html.table([f"{kind} recognition", *(text(name) for name in names.values())], rows)


def _concepts(metrics: Mapping[str, Any], split: str) -> list[str]:
    prefix = f"{split}/concept_recognition_"
    names = [key.removeprefix(prefix) for key in metrics if key.startswith(prefix)]
    return [name for name in names if not re.fullmatch(r"m\d+", name)]


def _retrieval(metrics: Mapping[str, Any]) -> str:
    rows = []
    for split in measured_splits(metrics):
        for direction in ("scene_to_query", "query_to_scene"):
            keys = [f"{split}/recall_at_{k}_{direction}" for k in (1, 5, 10)]
            if any(metrics.get(key) is not None for key in keys):
                cells = [_with_chance(metrics.get(key), metrics.get(f"{key}_chance")) for key in keys]
                gallery = format_count(metrics.get(f"{split}/recall_{direction}_candidates"))
                rows.append([text(split), direction.replace("_", " "), *cells, gallery])
    return html.table(["split", "direction", "recall at 1", "at 5", "at 10", "candidates"], rows)


def _embeddings(metrics: Mapping[str, Any]) -> str:
    names = ("effective_rank", "stable_rank", "top_energy", "gap", "variance")
    rows = []
    for name, words in draw.SPECTRUM_NAMES.items():
        prefix = "" if name == "cross" else f"{name}_"
        keys = [f"spectrum/{prefix}{key}" for key in names]
        if metrics.get(keys[0]) is not None:
            flag = " <b>collapsed</b>" if metrics.get(f"spectrum/{prefix}collapsed") else ""
            rows.append([text(words) + flag, *(number(metrics.get(key)) for key in keys)])
    headings = ["", "effective rank", "stable rank", "energy of the first 3", "gap after the 3rd", "variance"]
    geometry = [
        f"{text(key.removeprefix('geometry/').replace('_', ' '))}: {number(value)}"
        for key, value in metrics.items()
        if key.startswith("geometry/")
    ]
    line = f'<p class="soft">{"; ".join(geometry)}</p>' if geometry else ""
    return html.table(headings, rows) + line


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


def _analyses(run: Run) -> str:
    """What every study has found: its figures, and its tables folded away."""
    parts = []
    for study, found in run.analyses.items():
        result = found.get("result", {})
        notes = "".join(f'<p class="note">{text(note)}</p>' for note in result.get("notes", []))
        drawings = [
            draw.Drawing(name, caption, file.read_bytes(), b"")
            for name, caption in found.get("figures", {}).items()
            if (file := run.path / "analysis" / "figures" / f"{Path(name).name}.png").is_file()
        ]
        tables = "".join(
            html.details(title, html.table([text(h) for h in headings], [[text(c) for c in row] for row in rows]))
            for title, listed in result.get("tables", {}).items()
            for headings, rows in [tabulated(listed)]
        )
        command = f"<pre>{text(found['command'])}</pre>" if "command" in found else ""
        parts.append(f"<h3>{text(study)}</h3>{notes}{html.figures(drawings, large=True)}{tables}{command}")
    return "".join(parts)


def examples_of(examples: Mapping[str, Sequence[Mapping[str, Any]]], *, shown: int) -> str:
    """Cards of the first scenes of each split."""
    groups = []
    for split, scenes in examples.items():
        cards = "".join(_card(scene) for scene in scenes[:shown])
        groups.append(f"<h3>{text(split)}</h3><div class='cards'>{cards}</div>")
    return "".join(groups)


def _card(scene: Mapping[str, Any]) -> str:
    image = ""
    if scene["image"]:
        alt = f"scene {scene['index']}: {scene['caption_true']}"
        image = f'<img src="{data_uri(scene["image"])}" alt="{text(alt)}">'
    mark, words = ("soft", "best false, but lower") if scene["bound"] else ("wrong", "preferred, but false")
    return (
        f'<div class="card">{image}<dl><dt>{words} ({number(scene["score_preferred"])})</dt>'
        f'<dd class="{mark}">{text(scene["caption_preferred"])}</dd>'
        f'<dt>true ({number(scene["score_true"])})</dt><dd class="right">{text(scene["caption_true"])}</dd></dl>'
        f'<span class="soft">{text(scene["split"])} scene {text(scene["index"])}</span></div>'
    )


def _origins(run: Run) -> str:
    command = run.summary.get("command")
    shown = f"<pre>{text(command)}</pre>" if command else ""
    config = f"<pre>{text(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))}</pre>" if run.config else ""
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
