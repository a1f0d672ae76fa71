"""Trains every objective at the same budget over several seeds, and compares binding, spectrum and retrieval.

    python benchmarks/objectives.py [--quick] [--seeds 3] [--jobs 2] [--runs FOLDER] [--json PATH]

A seed is that of the object split and scenes and that of initialisation and order. Each run is
`python -m dualenc.fit configs/...`, with one thread; complete ones are not run again, so that an interrupted
comparison goes on where it was. Prints a Markdown table: mean over seeds, and lowest to highest in brackets.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]

OBJECTIVES: dict[str, list[str]] = {
    "InfoNCE": ["objectives.yaml"],
    "SigLIP": ["siglip.yaml"],
    "recognition": ["objectives.yaml", "loss.infonce.weight=0", "loss.recognition.weight=1"],
    "CKA only": ["cka.yaml"],
    "SVD only": ["sparse-latents.yaml", "loss.infonce.weight=0"],
    "CLIP+SVD as published": ["sparse-latents.yaml", "loss.preset=released-sparse-latents"],
    "InfoNCE + SVD, sparsify": ["sparse-latents.yaml"],
    "InfoNCE + effective rank, densify": [
        *("sparse-latents.yaml", "loss.svd.alpha=0", "loss.svd.beta=0"),
        "loss.svd.effective_rank=-1",
    ],
    "InfoNCE + hard negatives": ["negclip.yaml"],
}
COLUMNS = {
    "val/object_recognition": "val objects",
    "val/binding_gain": "val gain",
    "ood/concept_recognition": "ood concepts",
    "ood/object_recognition": "ood objects",
    "ood/binding_gain": "ood gain",
    "ood/caption_vs_swap": "ood swap",
    "val/recall_at_1_scene_to_query": "val R@1",
    "spectrum/effective_rank": "effective rank",
    "spectrum/scene_variance": "scene variance",
    "spectrum/query_variance": "query variance",
}
QUICK = ["trainer.max_samples=3840", "eval.every=3840", "eval.num_scenes=100"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="twenty steps of each and one seed: shows that it runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, of one thread each")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "objectives", help="folder of the run folders")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every run's numbers to this file too")
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    planned = [(name, seed) for seed in seeds for name in OBJECTIVES]

    def run(one: tuple[str, int]) -> dict[str, float | None]:
        name, seed = one
        return train(name, seed, options.runs.resolve(), QUICK if options.quick else [])

    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(planned, pool.map(run, planned)))
    print(table({name: [found[name, seed] for seed in seeds] for name in OBJECTIVES}))
    if options.json:
        options.json.write_text(
            json.dumps({f"{n}/{s}/{key}": v for (n, s), m in found.items() for key, v in m.items()})
        )


def train(name: str, seed: int, runs: Path, more: Sequence[str]) -> dict[str, float | None]:
    """The metrics of the last weights of one run; its dataset goes to `data` beside this folder."""
    config, *overrides = OBJECTIVES[name]
    overrides += [f"run.seed={seed}", f"data.seed={seed}", f"run.dir={runs}", f"run.name={slug(name)}-{seed}"]
    quiet = ["run.report=false", "logging.wandb=disabled", "logging.progress=false"]
    command = [sys.executable, "-m", "dualenc.fit", str(ROOT / "configs" / config), *overrides, *quiet, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{name}, seed {seed}: {done.stderr[-2000:]}")
    last = Path(done.stdout.splitlines()[-1])  # the run folder, or the report in it
    folder = last if last.suffix != ".html" else last.parent
    print(f"{name}, seed {seed}: done", file=sys.stderr, flush=True)
    return json.loads((ROOT / folder / "summary.json").read_text())["metrics"]


def slug(name: str) -> str:
    """A run's name: letters, digits and - only."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def table(found: Mapping[str, Sequence[Mapping[str, float | None]]]) -> str:
    """Markdown: an objective a row."""
    lines = ["| objective | " + " | ".join(COLUMNS.values()) + " | |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, runs in found.items():
        cells = [cell([run.get(key) for run in runs]) for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {collapse(runs)} |")
    return "\n".join(lines)


def cell(values: Sequence[float | None]) -> str:
    """Mean (lowest to highest); a dash where a run has no number."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return "-"
    return (
        f"{mean(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})" if len(numbers) > 1 else f"{numbers[0]:.3f}"
    )


def collapse(runs: Sequence[Mapping[str, float | None]]) -> str:
    """In how many runs a tower maps everything to one point."""
    flags = [sum(bool(run.get(f"spectrum/{tower}_collapsed")) for run in runs) for tower in ("scene", "query")]
    said = [f"{tower} tower collapsed in {n} of {len(runs)}" for tower, n in zip(("scene", "query"), flags) if n]
    return ", ".join(said)


if __name__ == "__main__":
    main()
