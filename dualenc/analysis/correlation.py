"""Do runs whose embeddings are products also bind? The fit of a probe against recognition of held-out objects.

    python -m dualenc.analysis.correlation RUN RUN ... OUT

reads what `python -m dualenc.analyze multiplicative RUN` and training left in each run folder, and writes
OUT/correlation.json and the figure. Source: "How can embedding models bind concepts?" (arXiv 2605.31503), Figure 9.
Exit code 0: done; 2: bad input.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
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
    if any(row["r2_heldout"] is None for row in best):
        raise InputError(f"RUN: in {study} the embeddings of held-out objects do not vary; leave this run out")
    return [Point(folder.name, row["probe"], row["rank"], row["r2_heldout"], recognition) for row in best]


def correlate(
    x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], *, num_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Pearson's and Spearman's correlation over runs, with 95% percentile intervals that resample runs.

    Ties share their mean rank. None where one side is constant, as an interval is where many resamples are.
    """
    found: dict[str, Any] = {"runs": len(x)}
    for name, (value, *resampled) in _resampled(x, y, num_resamples, seed).items():
        found |= {name: value, f"{name}_interval": _interval(resampled)}
    return found


def compare(
    x: Float[np.ndarray, "n"],
    other: Float[np.ndarray, "n"],
    y: Float[np.ndarray, "n"],
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """By how much y correlates more with x than with `other`, over the same runs, as of `correlate`: both are resampled
    together, as what is peculiar to a run moves both."""
    found: dict[str, Any] = {"runs": len(x)}
    ours, theirs = (_resampled(side, y, num_resamples, seed) for side in (x, other))
    for name in ours:
        value, *resampled = (
            None if a is None or b is None else a - b for a, b in zip(ours[name], theirs[name], strict=True)
        )
        found |= {name: value, f"{name}_interval": _interval(resampled)}
    return found


def _resampled(
    x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], number: int, seed: int
) -> dict[str, list[float | None]]:
    """Both correlations: over the runs themselves, and then over each resample of them."""
    picks = np.random.default_rng(seed).integers(len(x), size=(number, len(x)))
    return {
        name: [_pearson(transform(x[rows]), transform(y[rows])) for rows in (np.arange(len(x)), *picks)]
        for name, transform in (("pearson", np.asarray), ("spearman", _ranks))
    }


def _interval(resampled: Sequence[float | None]) -> list[float] | None:
    kept = [value for value in resampled if value is not None]
    enough = len(kept) >= (1 - _MOST_DROPPED) * len(resampled)
    return np.quantile(kept, [0.025, 0.975]).tolist() if enough else None


def _pearson(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def correlation(points: Sequence[Point], *, seed: int = 0) -> dict[str, Any]:
    """Table `Correlations`: one row for each probe; `Differences`: one for each two of them; `Runs`: the points.
    InputError for too few runs."""
    number = len({point.run for point in points})
    if number < LEAST_RUNS:
        raise InputError(f"RUN: {number} runs are too few for a correlation; give at least {LEAST_RUNS}")
    probes = dict.fromkeys(point.probe for point in points)
    fits = {probe: {point.run: point.r2 for point in points if point.probe == probe} for probe in probes}
    recognition = {point.run: point.recognition for point in points}
    rows = [{"probe": probe, **correlate(*_columns(fit, recognition), seed=seed)} for probe, fit in fits.items()]
    differences = []
    for (other, less), (probe, more) in combinations(fits.items(), 2):
        x, base, y = _columns(more, less, recognition)
        differences.append({"probe": probe, "minus": other, **compare(x, base, y, seed=seed)})
    note = "Each probe at the rank that validation scenes prefer; intervals resample runs."
    tables = {"Correlations": rows, "Differences": differences, "Runs": [asdict(point) for point in points]}
    return {"notes": [note], "tables": tables}


def _columns(*values: Mapping[str, float]) -> list[Float[np.ndarray, "n"]]:
    """The values of the runs that all of them have."""
    runs = [run for run in values[0] if all(run in other for other in values)]
    return [np.array([other[run] for run in runs]) for other in values]


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
    run_cli(main, continues=False)
