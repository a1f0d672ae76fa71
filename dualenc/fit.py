"""Trains one run: `python -m dualenc.fit CONFIG [key=value ...]`; `--help` prints every key.

The same command continues an interrupted run and leaves a finished one alone. Exit codes:

    0    done
    2    bad input, or no room on the disk: one line says what, where, and what helps
    75   another process of the training, or a loader worker, died: one line names it, the same command continues
    130  stopped by SIGTERM, SIGINT or SIGUSR1 to any of its processes: all have saved together and left
    1    a defect of ours, with a traceback

Under torchrun the exit code is torchrun's own: 0, or 1 for all the others.
"""

from dualenc.signals import StopFlag

STOP = StopFlag()
STOP.install()  # before the slow imports, so that no signal is lost or answered by someone else

import contextlib  # noqa: E402
import gc  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

from dualenc import config as configuration  # noqa: E402
from dualenc import configs  # noqa: E402
from dualenc.config import Config  # noqa: E402
from dualenc.data.open import Data, open_data  # noqa: E402
from dualenc.errors import EXIT_INTERRUPTED, EXIT_OK, InputError, run_cli  # noqa: E402
from dualenc.files import Claim, probe_folder  # noqa: E402
from dualenc.launch import hand_over_to_srun, is_child, launched, launcher_overrides, rank_of  # noqa: E402
from dualenc.run import RunFolder  # noqa: E402
from dualenc.watch import Watch  # noqa: E402

USAGE = "usage: python -m dualenc.fit CONFIG [key=value ...]"


def main(argv: list[str]) -> int:
    """Checks everything, then trains, reports and prints the results."""
    if {"-h", "--help"} & set(argv):
        print(f"{__doc__}\n{USAGE}\n\n{configs.help_text(Config)}")
        return EXIT_OK
    if not argv or "=" in argv[0]:
        raise InputError(f"the config file is missing; {USAGE}")
    config = configuration.load(argv[0], [*argv[1:], *launcher_overrides(argv)])
    hand_over_to_srun(argv)
    rank = rank_of(config.trainer)
    probe_folder(Path(config.run.dir))
    data, dataset_hash = open_data(config.data, config.model, batch_size=config.trainer.batch_size)
    rounded = configuration.round_up(config)
    if rank == 0:
        for note in [*configuration.notes(config), *([rounded] if rounded else [])]:
            print(note, file=sys.stderr)
    run = RunFolder.of(config, dataset_hash)
    if not run.summary.exists() and not is_child():  # which looks at its parent first, and imports torch afterwards
        _check_hardware(config, rank)
    run.path.mkdir(parents=True, exist_ok=True)
    with claimed(run.path / "claim", rank):
        if not run.summary.exists():
            if rank == 0:
                run.open(config)
            with launched(config.trainer, argv, rank) as watch:
                if not _train(config, data, run, rank, watch):
                    STOP.ignore()
                    if rank == 0:
                        print("interrupted, with a checkpoint saved; the same command continues", file=sys.stderr)
                    return EXIT_INTERRUPTED
        if rank == 0:
            conclude(config, run)
    return EXIT_OK


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Leaves garbage alone: among what imports make there is none, and looking for it took a sixth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _check_hardware(config: Config, rank: int) -> None:
    with _importing():
        from dualenc.hardware import accelerator_of, device_of
        from dualenc.models import check_compiler
        from dualenc.precision import slow_precision

    accelerator_of(config)
    if config.trainer.compile:
        check_compiler()
    note = slow_precision(config.trainer.precision, device_of(config))
    if note and rank == 0:
        print(note, file=sys.stderr)


def _train(config: Config, data: Data, run: RunFolder, rank: int, watch: Watch) -> bool:
    with _importing():  # of torch, once the config and the data are known to be good
        from dualenc.training import train

    return train(config, data, run, rank=rank, stop=STOP, watch=watch)


@contextlib.contextmanager
def claimed(path: Path, rank: int) -> Iterator[None]:
    """One run at a time in a folder: process 0 claims it for all."""
    if rank:
        yield
        return
    with Claim(path):
        yield


def conclude(config: Config, run: RunFolder) -> None:
    """The report, the offline wandb run and the printed table of a complete run; what is there is not made again."""
    from dualenc.report import read_summary, results_text, write_report

    report = run.path / "report.html"
    if config.run.report and not report.exists():
        write_report([run.path])
    if config.logging.wandb == "offline" and not any((run.path / "wandb").glob("offline-run-*")):
        from dualenc.sync import export_offline

        export_offline(run.path)
    print(results_text(read_summary(run.path)))
    print(report if report.exists() else run.path)


if __name__ == "__main__":
    run_cli(main)
