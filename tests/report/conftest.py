"""A synthetic run folder with everything a real one holds. Its numbers are invented and mean nothing."""

import io
import json
from collections.abc import Callable, Sequence
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dualenc.report.folder import data_uri

COLORS = ["red", "blue", "green", "yellow", "purple", "cyan", "orange", "gray"]
SHAPES = ["circle", "square", "triangle", "star", "cross", "ring", "heart", "hexagon"]
FINAL = {  # split: concept, object, bag level, bag ceiling, ceiling with memory, swap
    "val": (1.0, 0.9612, 0.3812, 0.5312, 0.6612, 0.9991),
    "val_ood": (0.51, 0.48, 0.40, 0.52, 0.58, 0.97),
    "ood": (0.9713, 0.4931, 0.4105, 0.5404, 0.5801, 0.9753),
    "mixed": (0.93, 0.71, 0.39, 0.53, 0.54, None),
}


def metrics_at(progress: float, splits: Sequence[str]) -> dict[str, float | None]:
    """Every evaluation metric of `splits` at `progress` in [0, 1]."""
    metrics: dict[str, float | None] = {}
    for split in splits:
        concept, obj, level, ceiling, memory, swap = FINAL[split]
        learnt, bound = 1 - exp(-9 * progress), 1 / (1 + exp(-14 * (progress - 0.45)))
        recognised = obj * learnt * (0.45 + 0.55 * bound) if progress < 1 else obj
        against = memory if split == "val" else ceiling
        values = {
            "concept_recognition": concept * learnt if progress < 1 else concept,
            "object_recognition": recognised,
            "object_recognition_same_status": min(1.0, recognised + 0.02),
            "concept_chance": 1 / 1820,
            "object_chance": 1 / 2016,
            "concept_candidates": 16.0,
            "object_candidates": 64.0,
            "bag_level": level,
            "bag_ceiling": ceiling,
            "bag_ceiling_split": memory,
            "binding_gain": (recognised - against) / (1 - against),
            "caption_vs_swap": None if swap is None else 0.5 + (swap - 0.5) * learnt,
            "caption_vs_swap_seen": None if swap is None else 0.5 + (swap - 0.5) * learnt,
            "caption_vs_swap_heldout": None,
            "caption_vs_swap_count": 0.0 if swap is None else 1741.0,
            "caption_vs_replace": 0.5 + 0.49 * learnt,
            "caption_vs_replace_count": 2000.0,
            "caption_vs_add": 0.5 + 0.44 * learnt,
            "caption_vs_add_count": 2000.0,
            "caption_vs_spatial": 0.5 + 0.31 * learnt,
            "caption_vs_spatial_count": 812.0,
            "opposite_binding_text": 0.25 + 0.61 * learnt,
            "opposite_binding_text_chance": 0.25,
            "opposite_binding_picture": 0.25 + 0.53 * learnt,
            "opposite_binding_picture_chance": 0.25,
            "opposite_binding_group": 1 / 6 + 0.57 * learnt,
            "opposite_binding_group_chance": 1 / 6,
            "opposite_binding_count": 499.0,
            "concept_recognition_color": concept * learnt,
            "concept_recognition_shape": concept * learnt,
            "concept_chance_color": 1 / 28,
            "concept_chance_shape": 1 / 28,
            "concept_recognition_m2": concept * learnt,
            "num_scenes": 2000.0,
            "num_texts": 1210.0,
        }
        for count, level_at in ((1, 1.0), (2, 0.29), (3, 0.11)):
            by_count = {"num_scenes": 600.0, "bag_level": level_at, "object_chance": 64.0**-count}
            by_count["object_recognition"] = recognised * (1.03 - 0.06 * count)
            values |= {f"{key}_m{count}": value for key, value in by_count.items()}
        for k in (1, 5, 10):
            for direction in ("scene_to_query", "query_to_scene"):
                values[f"recall_at_{k}_{direction}"] = recognised ** (1 / k)
                values[f"recall_at_{k}_{direction}_chance"] = k / 1210
                values[f"recall_{direction}_candidates"] = 1210.0
        metrics |= {f"{split}/{key}": value for key, value in values.items()}
    return metrics


EMBEDDINGS = {
    **{
        f"spectrum/{tower}{name}": value
        for tower in ("", "scene_", "query_")
        for name, value in {"effective_rank": 21.5, "stable_rank": 6.25, "top_energy": 0.375, "gap": 0.0625}.items()
    },
    **{f"spectrum/{tower}_variance": 0.96875 for tower in ("scene", "query")},
    **{f"spectrum/{tower}_collapsed": 0.0 for tower in ("scene", "query")},
    "geometry/modality_gap": 0.28125,
    "geometry/alignment": 0.4375,
    "geometry/scene_uniformity": -3.1875,
    "geometry/query_uniformity": -3.3125,
}
"""Spectrum and geometry of the last weights."""


def coverage_at(progress: float) -> dict[str, float]:
    """Coverage met so far at `progress` in [0, 1]."""
    seen = 1 - exp(-30 * progress)
    return {
        "coverage/objects_seen": round(51 * seen),
        "coverage/objects_allowed": 51.0,
        "coverage/pairs_seen": round(1275 * (1 - exp(-6 * progress))),
        "coverage/pairs_allowed": 1275.0,
        "coverage/values_seen": round(16 * seen),
        "coverage/values_allowed": 16.0,
        "coverage/collisions_per_batch": 12.4,
        "coverage/edits_per_batch": 88.0,
    }


def metric_lines(num_samples: int, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Training lines and evaluation lines as a training writes them."""
    noise = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    for i in range(1, 121):
        progress, samples = i / 120, num_samples * i // 120
        place = {"step": samples // 192, "samples": samples}
        loss = 0.4 + 4.8 * exp(-7 * progress) + float(noise.normal(0, 0.06))
        speed = {"train/grad_norm": 1.2, "throughput/samples_per_second": 2310.0}
        lr = 3e-3 * min(progress / 0.05, 0.5 * (1 + np.cos(np.pi * progress)))
        temperature = {"train/temperature": 1 / (14.3 + 30 * progress), "train/lr": float(lr)}
        lines.append({**place, "train/loss": loss, **temperature, **speed})
        if i % 6 == 0:
            lines.append({**place, **metrics_at(progress, splits), **coverage_at(progress)})
    return lines


def confusion_of(names: list[str], mistakes: float) -> dict[str, Any]:
    """A confusion matrix whose mistakes lie beside the diagonal."""
    size = len(names)
    matrix = np.full((size, size), 2) + np.diag([int(400 * (1 - mistakes))] * size)
    matrix[0, 1] += int(300 * mistakes)
    return {"names": names, "matrix": matrix.tolist()}


def write_examples(folder: Path, *, pictures: bool) -> None:
    """Worst-bound scenes of two splits, with pictures of two shapes each."""
    folder.mkdir()
    for split in ("val", "ood"):
        scenes = []
        for i in range(5):
            picture = None
            if pictures:
                image = Image.new("RGB", (64, 64), "#d9d9d9")
                pen = ImageDraw.Draw(image)
                pen.ellipse((6, 10 + 3 * i, 26, 30 + 3 * i), fill=COLORS[i])
                pen.rectangle((36, 30, 56, 50), fill=COLORS[(i + 1) % 8])
                image.save(file := io.BytesIO(), format="PNG")
                picture = data_uri(file.getvalue())
            left, right = f"a {COLORS[i]} circle", f"a {COLORS[(i + 1) % 8]} square"
            swapped = f"a {COLORS[(i + 1) % 8]} circle and a {COLORS[i]} square"
            captions = {"caption_true": f"{left} and {right}", "caption_preferred": swapped}
            scores = {"score_true": 0.61 + 0.01 * i, "score_preferred": 0.64}
            place = {"split": split, "index": 100 + i, "image": picture}
            scenes.append({**place, **captions, **scores, "bound": i == 4})
        (folder / f"{split}.json").write_text(json.dumps(scenes))


MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """`make_run(parent, ...)` -> the synthetic run folder it has written there (see `build_run`)."""
    return build_run


def build_run(
    parent: Path,
    *,
    name: str = "quickstart",
    run_hash: str = "4f1c09ab",
    seed: int = 0,
    coverage: float = 0.8,
    finished: bool = True,
    pictures: bool = True,
    splits: Sequence[str] = tuple(FINAL),
) -> Path:
    """Writes a synthetic run folder below `parent` and returns it."""
    run = parent / f"{name}-{run_hash}"
    run.mkdir(parents=True)
    config = f"run:\n  name: {name}\n  seed: {seed}\ndata:\n  coverage: {coverage}\nlogging:\n  project: binding\n"
    (run / "config.yaml").write_text(config)
    lines = metric_lines(240_000, splits)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    versions = {"python": "3.11.9", "torch": "2.13.0", "dualenc": "0.1.0"}
    segments = [
        {
            "start": "2026-03-02T09:14:03",
            "samples": start,
            "host": "node7",
            "versions": versions,
            "git_commit": "1a2b3c4",
        }
        for start in (0, 96_000)
    ]
    (run / "segments.jsonl").write_text("".join(json.dumps(segment) + "\n" for segment in segments))
    if not finished:
        return run
    metrics = {**metrics_at(1.0, splits), **coverage_at(1.0), **EMBEDDINGS}
    values = {name: [2.0**-i for i in range(12)] for name in ("cross", "scene", "query")}
    edges = [-1 + i / 20 for i in range(41)]
    shares = {kind: [0.05 if i % 2 else 0.0 for i in range(40)] for kind in ("true", "false", "scenes", "queries")}
    embeddings = {"num_scenes": 2000, "singular_values": values, "bin_edges": edges, "cosines": shares}
    (run / "embeddings.json").write_text(json.dumps(embeddings))
    summary = {
        "name": name,
        "hash": run_hash,
        "config_hash": "99aa",
        "samples": 240_000,
        "steps": 1250,
        "metrics": metrics,
        "best": {"samples": 216_000, "metrics": metrics_at(0.9, splits)},
        "dataset": {"name": "flat", "hash": "c0ffee12", "coverage": 0.796875, "num_objects": 64},
        "command": f"python -m dualenc.fit configs/quickstart.yaml run.seed={seed}",
        "num_parameters": {"scene": 251_904, "query": 240_128},
    }
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "confusion").mkdir()
    confusion = {
        split: {"color": confusion_of(COLORS, mistakes), "shape": confusion_of(SHAPES, mistakes / 2)}
        for split, mistakes in (("val", 0.04), ("ood", 0.3))
    }
    (run / "confusion" / "confusion.json").write_text(json.dumps(confusion))
    write_examples(run / "examples", pictures=pictures)
    return run
