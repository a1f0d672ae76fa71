"""Measures a trained model on its own data or on another dataset with the same concepts.

    python -m dualenc.evaluate RUN [data.path=OTHER] [weights=best] [out=FILE]

Computes every metric on all scenes of every evaluation split, prints the table and the path of the JSON file. The
run's own results in summary.json stay as they are. Exit code 0: done; 2: bad input.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualenc.command import DataOptions, read_command
from dualenc.configs import field, short_hash
from dualenc.errors import EXIT_OK, check_output, run_cli
from dualenc.report import read_summary, results_text
from dualenc.run import check_run

if TYPE_CHECKING:
    from dualenc.loading import LoadedModel


@dataclass
class EvaluateOptions(DataOptions):
    """Options of `python -m dualenc.evaluate`."""

    out: str | None = field(None, "result file; null: RUN/evaluations/NAME-HASH.json", identity=False)


def evaluate(loaded: "LoadedModel", *, path: str | None = None) -> dict[str, Any]:
    """All metrics of a loaded model on its own data, or on the dataset in the folder `path`, and what was measured.

    Sets torch's threads and precision as the training did, so that the same weights give the same numbers.
    """
    from dualenc.build import describe_data
    from dualenc.evaluation import all_metrics, make_evaluator
    from dualenc.hardware import device_for_use, set_up_torch
    from dualenc.reopen import reopen

    config = loaded.config
    set_up_torch(config)
    source = reopen(loaded, path)
    loaded.to(device_for_use(config))
    evaluator = make_evaluator(config, loaded.model, source)
    return {
        "run": loaded.folder.resolve().name,
        "weights": loaded.weights,
        "samples": loaded.samples,
        "dataset": describe_data(source),
        "metrics": all_metrics(evaluator, evaluator.all_splits()),
    }


def main(argv: list[str]) -> int:
    """Evaluates, writes the result and prints it."""
    about = __doc__ or ""
    (run,), options = read_command(argv, EvaluateOptions, names=["RUN"], about=about)
    check_run(Path(run), weights=options.weights)
    read_summary(Path(run), ["dataset"])
    folder = Path(run) / "evaluations"
    default = folder / "NAME-HASH.json" if folder.exists() else folder
    check_output(Path(options.out) if options.out else default, key="out")

    from dualenc import load
    from dualenc.files import write_json

    result = evaluate(load(run, options.weights), path=options.data.path)
    if not options.out:
        folder.mkdir(exist_ok=True)
    measured = {name: result[name] for name in ("weights", "samples", "dataset")}
    file = Path(options.out) if options.out else folder / f"{result['dataset']['name']}-{short_hash(measured)}.json"
    write_json(file, result)
    print(results_text(result))
    print(file)
    return EXIT_OK


if __name__ == "__main__":
    run_cli(main)
