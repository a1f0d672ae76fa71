"""A sweep whose runs have never been trained: folders with invented numbers, each its own."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from dualenc.sweep import Plan, PlannedRun, make_plan, read_sweep
from dualenc.sweep.state import ended, log_path

ROOT = Path(__file__).resolve().parents[2]
AXES = "zip: {run.seed: [0, 1, 2], data.seed: [0, 1, 2]}\ngrid: {data.coverage: [0.3, 0.6, 0.9]}\n"
BASE = f"base: {ROOT}/configs/symbolic.yaml\noverrides: {{run.name: simulated, trainer.max_samples: 6400}}\n"
METRICS = (
    "ood/object_recognition",
    "ood/object_recognition_same_status",
    "ood/bag_level",
    "ood/binding_gain",
    "val/object_recognition",
    "val/binding_gain",
    "train/loss",
    "spectrum/effective_rank",
    "spectrum/scene_effective_rank",
    "coverage/objects_seen",
    "coverage/pairs_seen",
    "throughput/samples_per_second",
)
SCENE = {
    "split": "ood",
    "index": 7,
    "image": None,
    "bound": False,
    "caption_true": "a <red> circle",
    "caption_preferred": "a red & blue circle",
    "score_true": 0.5,
    "score_preferred": 0.75,
}


def make_sweep(folder: Path, axes: str = AXES, *, name: str = "simulated") -> Plan:
    """The plan of a sweep file `NAME.yaml` in `folder`, which has to be the working directory."""
    (folder / f"{name}.yaml").write_text(BASE + axes)
    return make_plan(read_sweep(Path(f"{name}.yaml")))


def write_run(run: PlannedRun, *, lines: int = 4, of: int = 4, probes: bool = False) -> list[dict[str, Any]]:
    """Writes the folder of a run that has logged `lines` of `of` lines, and finished where these are all; the lines."""
    assert run.folder is not None
    noise = np.random.default_rng(run.index)
    folder = run.folder.path
    folder.mkdir(parents=True)
    rows = [
        {
            "step": i,
            "samples": i * run.max_samples // of,
            **{key: float(noise.random()) for key in METRICS},
            "ood/caption_vs_swap": None,
        }
        for i in range(1, lines + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    point = "".join(f"  {key.partition('.')[2]}: {value}\n" for key, value in run.point.items() if key[:4] == "run.")
    trainer = f"trainer:\n  max_samples: {run.max_samples}\n"
    (folder / "config.yaml").write_text(f"# hash: {run.folder.hash}\nrun:\n  name: simulated\n{point}{trainer}")
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - 1800))
    segment = {"start_samples": 0, "time": began, "threads": 2, "accelerator": "cpu", "devices": 1, "nodes": 1}
    (folder / "segments.jsonl").write_text(json.dumps(segment) + "\n")
    (folder / "examples").mkdir()
    (folder / "examples" / "ood.json").write_text(json.dumps([{**SCENE, "index": run.index}]))
    if lines == of:
        metrics = {key: value for key, value in rows[-1].items() if "/" in key}
        (folder / "summary.json").write_text(json.dumps({"metrics": metrics, "samples": run.max_samples}))
    if probes:
        (folder / "analysis").mkdir()
        table = [
            {"probe": probe, "rank": rank, "r2_validation": score, "r2_heldout": score / 2}
            for probe, rank, score in (("additive", None, 0.5), ("global", 2, 0.75), ("global", 4, 0.625))
        ]
        found = {
            "study": "multiplicative",
            "target": {"samples": run.max_samples},
            "options": {"coverage": None, "data": {"path": None}},
            "result": {"tables": {"Probes": table}},
        }
        (folder / "analysis" / "multiplicative.json").write_text(json.dumps(found))
    return rows


def fail(plan: Plan, run: PlannedRun, *said: str) -> None:
    """Writes the log of a run that has failed with these last words."""
    log = log_path(plan, run)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"{line}\n" for line in ("== then there: python -m dualenc.fit", *said, ended(1, 3))))


def browse(chromium: str, page: Path, screenshot: Path) -> tuple[str, list[str]]:
    """What headless Chromium makes of a page: its document, and what its console says; keeps a picture of it."""
    done = subprocess.run(
        [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *(f"--screenshot={screenshot}", "--window-size=1200,2400", "--dump-dom", page.resolve().as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
