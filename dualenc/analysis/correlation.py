"""Do runs whose embeddings are products also bind? The fit of a probe against recognition of held-out objects.

    python -m dualenc.analysis.correlation RUN RUN ... OUT

reads what `python -m dualenc.analyze multiplicative RUN` and training left in each run folder, and writes
OUT/correlation.json and the figure. Source: "How can embedding models bind concepts?" (arXiv 2605.31503), Figure 9.
Exit code 0: done; 2: bad input.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dualenc.errors import EXIT_OK, InputError, one_line, run_cli
from dualenc.files import read_json, write_json

RECOGNITION = "ood/object_recognition"
LEAST_RUNS = 8
"""With fewer, resamples of the runs scatter too little: of four or six, what they call a 95% interval
holds in 83 or 89 of 100 simulated cases."""
_MOST_DROPPED = 0.05
"""Share of the resamples in which one side may be constant; beyond it those that are left are a choice."""


@dataclass(frozen=True)
class Point:
    """A run: held-out R^2 of a probe at a rank (None for the additive one), and OOD object recognition."""

    run: str
    probe: str
    rank: int | None
    r2: float
    recognition: float


def points_of(folder: Path) -> list[Point]:
    """Each probe of a run's `multiplicative` study, at the rank that validation prefers.

    InputError where the run has no such study or has not been evaluated on held-out objects, and where the study saw
    another model than the evaluation, or not the objects of training as known ones.
    """
    study, summary = folder / "analysis" / "multiplicative.json", folder / "summary.json"
    for path, fix in ((study, f"run python -m dualenc.analyze multiplicative {folder}"), (summary, "finish the run")):
        if not path.exists():
            raise InputError(f"RUN: {path} does not exist; {fix}")
    try:
        return _points(folder, study, summary)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"RUN: {study} or {summary} is damaged or of another version ({one_line(error)}); run python -m "
            f"dualenc.analyze multiplicative {folder} again"
        ) from None


def _points(folder: Path, study: Path, summary: Path) -> list[Point]:
    studied, evaluated = read_json(study), read_json(summary)
    rows = studied["result"]["tables"]["Probes"]
    recognition = evaluated["metrics"].get(RECOGNITION)
    again = f"run python -m dualenc.analyze multiplicative {folder} again without weights, coverage and data.path"
    if (seen := studied["target"]["samples"]) != evaluated["samples"]:
        raise InputError(f"RUN: {study} is of a model of {seen} samples, {summary} of {evaluated['samples']}; {again}")
    if studied["options"]["coverage"] is not None or studied["options"]["data"]["path"] is not None:
        raise InputError(f"RUN: {study} is of another split or other data than {summary}; {again}")
    if recognition is None:
        raise InputError(f"RUN: {summary} has no {RECOGNITION}; use a run with held-out objects")
    best = [
        max((row for row in rows if row["probe"] == probe), key=lambda row: row["r2_validation"])
        for probe in dict.fromkeys(row["probe"] for row in rows)
    ]
    return [Point(folder.name, row["probe"], row["rank"], row["r2_heldout"], recognition) for row in best]


def correlate(
    x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], *, num_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Pearson's and Spearman's correlation over runs, with 95% percentile intervals that resample runs.

    Ties share their mean rank. None where one side is constant, as an interval is where many resamples are.
    """
    pick = np.random.default_rng(seed).integers(len(x), size=(num_resamples, len(x)))
    found: dict[str, Any] = {"runs": len(x)}
    for name, transform in (("pearson", np.asarray), ("spearman", _ranks)):
        resampled = [_pearson(transform(x[rows]), transform(y[rows])) for rows in pick]
        kept = [value for value in resampled if value is not None]
        found[name] = _pearson(transform(x), transform(y))
        enough = len(kept) >= (1 - _MOST_DROPPED) * num_resamples
        found[f"{name}_interval"] = np.quantile(kept, [0.025, 0.975]).tolist() if enough else None
    return found


def _pearson(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def correlation(points: Sequence[Point], *, seed: int = 0) -> dict[str, Any]:
    """Table `Correlations`: one row for each probe; table `Runs`: the points. InputError for too few runs."""
    number = len({point.run for point in points})
    if number < LEAST_RUNS:
        raise InputError(f"RUN: {number} runs are too few for a correlation; give at least {LEAST_RUNS}")
    rows = []
    for probe in dict.fromkeys(point.probe for point in points):
        own = [point for point in points if point.probe == probe]
        x, y = (np.array([getattr(point, key) for point in own]) for key in ("r2", "recognition"))
        rows.append({"probe": probe, **correlate(x, y, seed=seed)})
    note = "Each probe at the rank that validation scenes prefer; intervals resample runs."
    return {"notes": [note], "tables": {"Correlations": rows, "Runs": [asdict(point) for point in points]}}


def main(argv: list[str]) -> int:
    """Reads the runs, writes the result and prints its path."""
    if argv[:1] in (["-h"], ["--help"]):
        print((__doc__ or "").strip())
        return EXIT_OK
    if len(argv) < 2:
        raise InputError("RUN: give run folders and a folder for the result, in this order")
    *runs, out = map(Path, argv)
    runs = list({run.resolve(): run for run in runs}.values())
    found = correlation([point for run in runs for point in points_of(run)])

    from dualenc.analysis.curves import probe_fits

    out.mkdir(parents=True, exist_ok=True)
    for drawing in probe_fits(found):
        drawing.save(out)
    write_json(out / "correlation.json", found)
    print(out / "correlation.json")
    return EXIT_OK


if __name__ == "__main__":
    run_cli(main)
