"""Makes one folder of a finished run to give away: weights, config, vocabulary and a card.

    python -m dualenc.export RUN OUT [weights=best]

OUT holds model.safetensors, model.json (structure, concepts, vocabulary), config.yaml and README.md, and no code;
`dualenc.load(OUT)` reads it. OUT appears whole or not at all. Exit code 0: done; 2: bad input.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualenc.command import ModelOptions, read_command
from dualenc.errors import EXIT_OK, InputError, check_output, run_cli
from dualenc.files import TEMPORARY, atomic_write, fsync_folder, write_json
from dualenc.report.folder import read_summary
from dualenc.report.results import EDITS, format_count, format_number, measured_splits
from dualenc.report.wording import SPLIT_MEANING
from dualenc.run import SPEC, check_run

if TYPE_CHECKING:
    from dualenc.loading import LoadedModel

SUMMARY_KEYS = ("name", "hash", "samples", "best", "dataset", "num_parameters", "command")
CARD = "README.md"

ROWS = (
    ("concept recognition", "concept_recognition", format_number),
    ("- chance", "concept_chance", format_number),
    ("- candidates", "concept_candidates", format_count),
    ("object recognition", "object_recognition", format_number),
    ("- among objects of the same status", "object_recognition_same_status", format_number),
    ("- chance", "object_chance", format_number),
    ("- candidates", "object_candidates", format_count),
    ("- bag level", "bag_level", format_number),
    ("- bag ceiling", "bag_ceiling", format_number),
    ("- bag ceiling, training objects known", "bag_ceiling_split", format_number),
    ("binding gain", "binding_gain", format_number),
    *((f"caption above {edit} (chance 0.5)", f"caption_vs_{edit}", format_number) for edit in EDITS),
    ("scenes", "num_scenes", format_count),
)

TEMPLATE = """\
# {title}

A dual encoder trained with dualenc on generated scenes; scenes and queries are compared by cosine similarity.

- scene tower: {scene}
- query tower: {query}
- embeddings: {dimension} numbers
- weights: {weights}, after {samples} training samples

## Data

{data}

## Metrics

{metrics}

Recognition: every true query scores strictly above every false one, over the whole vocabulary. The bag level is what
a model reaches in practice that knows which values a scene shows but not which belong together, the bag ceiling the
most it can reach. Binding gain is how far object recognition has come from the ceiling (0) to perfect (1).

## Intended use

Research on how concepts are bound, on scenes like those above. The model knows these concepts and these words and
nothing else: it is of no use for photographs or free text, and its numbers say nothing about other data.

## Loading

```python
import dualenc

model = dualenc.load("FOLDER")  # this folder
scenes = model.encode_scenes({scenes}
queries = model.encode_queries(["{text}"])
scores = model.logit_scale * scenes @ queries.T
```

Made by

```bash
{command}
```
"""


def export(loaded: "LoadedModel", out: Path) -> None:
    """Writes the folder `out`. InputError where it exists, or where the run is not finished."""
    from dualenc.loading import EXPORTED
    from dualenc.weights import save_weights

    summary = check_export(loaded.folder, out)
    with atomic_folder(out) as folder:
        save_weights(folder / EXPORTED, loaded.model, samples=loaded.samples)
        write_json(folder / SPEC, {**loaded.spec.to_dict(), "weights": loaded.weights})
        atomic_write(folder / "config.yaml", (loaded.folder / "config.yaml").read_bytes())
        atomic_write(folder / CARD, card(loaded, summary))


def check_export(run: Path, out: Path) -> dict[str, Any]:
    """The summary of a finished run. InputError where the folder `out` cannot be made from it; needs no torch."""
    if out.exists():
        raise InputError(f"OUT: {out} exists; choose another name")
    check_output(out, key="OUT")
    summary = read_summary(run, SUMMARY_KEYS)
    if not summary:
        raise InputError(
            f"RUN: {run} holds no summary.json, so there is no finished run to export; "
            "run its python -m dualenc.fit to the end"
        )
    return summary


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside `path`, which is renamed to `path` on success and removed otherwise."""
    temporary = path.with_name(f"{path.name}{TEMPORARY}{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_folder(path.parent)


def card(loaded: "LoadedModel", summary: dict[str, Any]) -> str:
    """The model card as Markdown: what it is, what it saw, how well it does, what it is for, how to load it."""
    model, sizes = loaded.spec.model, summary["num_parameters"]
    is_best = loaded.weights == "best"
    pictures = f"pictures)  # uint8 [n, {loaded.spec.image_size}, {loaded.spec.image_size}, 3], or a list of PIL images"
    return TEMPLATE.format(
        title=f"{summary['name']}-{summary['hash']}",
        scene=f"{model.scene.kind}, {sizes['scene']:,} parameters",
        query=f"{model.query.kind}, {sizes['query']:,} parameters",
        dimension=model.output_dim,
        weights="the best on val_ood" if is_best else "the last",
        samples=f"{loaded.samples:,}",
        data=_data(loaded, summary["dataset"]),
        metrics=_metrics(summary["best"]["metrics"] if is_best else summary["metrics"]),
        scenes=pictures if model.scene.kind == "vision" else "scenes)  # dualenc.scenes.Scenes",
        text=loaded.grammar.object_query(0),
        command=summary["command"],
    )


def _data(loaded: "LoadedModel", dataset: dict[str, Any]) -> str:
    name = f"{dataset['name']}-{dataset['hash']}" if dataset["hash"] else dataset["name"]
    size = loaded.spec.image_size
    lines = [
        f"- dataset: {name}",
        *(f"- {concept}: {', '.join(values)}" for concept, values in loaded.spec.concepts.items()),
        f"- objects: {dataset['num_objects']:,}, of which {dataset['num_train_objects']:,} occur in training "
        f"(coverage {dataset['coverage']:.3f}, {dataset['split']} split)",
        f"- scenes: at most {loaded.spec.max_objects} objects"
        + (f", pictures of {size} x {size} pixels" if loaded.spec.model.scene.kind == "vision" else ""),
    ]
    return "\n".join(lines)


def _metrics(metrics: dict[str, Any]) -> str:
    """A table with a row for each measure and a column for each split, and what the splits are."""
    splits = measured_splits(metrics)
    lines = [f"| | {' | '.join(splits)} |", f"|---|{'---:|' * len(splits)}"]
    for label, key, shown in ROWS:
        cells = [shown(metrics.get(f"{split}/{key}")) for split in splits]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {split}: {SPLIT_MEANING[split]}" for split in splits)])


def main(argv: list[str]) -> int:
    """Exports a run and prints the folder's path."""
    (run, out), options = read_command(argv, ModelOptions, names=["RUN", "OUT"], about=__doc__ or "")
    check_run(Path(run), weights=options.weights)
    check_export(Path(run), Path(out))

    from dualenc import load

    export(load(run, options.weights), Path(out))
    print(out)
    return EXIT_OK


if __name__ == "__main__":
    run_cli(main)
