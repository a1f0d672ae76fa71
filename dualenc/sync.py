"""Brings a run folder to Weights & Biases: an offline run made from it, the upload of that, and live logging.

    python -m dualenc.sync RUN [RUN...] [project=NAME]      # needs network and `wandb login`

The run folder is the only truth. With `logging.wandb: offline` no wandb process runs while training; `export_offline`
writes one offline run at the end from `config.yaml`, `metrics.jsonl`, `summary.json` and `examples/`. Its id is the
run's hash, its x-axis `samples`. An interrupted and resumed training thus gives one gapless run, where two offline
segments with one id would restart their steps at 0.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dualenc.configs import WANDB_PROJECT
from dualenc.errors import InputError, one_line, run_cli
from dualenc.files import Claim, fsync_folder
from dualenc.report.folder import Run, read_run

if TYPE_CHECKING:
    import wandb

PROJECT = "dualenc"
USAGE = "python -m dualenc.sync RUN [RUN...] [project=NAME]"
EXAMPLE_COLUMNS = ("split", "index", "picture", "caption_preferred", "caption_true", "score_preferred", "score_true")
# The child starts with this: a process of its own keeps wandb's service, hooks and environment out of the training.
_CHILD = """
from pathlib import Path
from dualenc.errors import run_cli
from dualenc.sync import write_run
run_cli(lambda folders: write_run(*map(Path, folders)))
"""


def export_offline(run_dir: Path) -> Path:
    """Writes `RUN/wandb/offline-run-DATE-HASH` from the run folder and returns it; an earlier export is replaced.

    The new run is written aside and renamed, after the old one is gone: whatever kills this, never do two offline runs
    with one id lie there, nor a half-written one under the final name. Nothing outside the run folder is written,
    nothing is sent. Pictures lie in `RUN/wandb/artifacts-*`, to which the run refers by absolute path; after moving
    the run folder, export again (the upload always does). `InputError` where the folder holds no metrics or
    wandb fails.
    """
    run_dir = Path(run_dir).resolve()
    run = read_run(run_dir)
    folder = run_dir / "wandb"
    folder.mkdir(exist_ok=True)
    with Claim(folder / "export.claim"):
        _remove(folder.glob(".export-*"))
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
        artifacts = Path(tempfile.mkdtemp(prefix="artifacts-", dir=folder))
        try:
            _run_child(run_dir, staging, artifacts)
            [written] = (staging / "wandb").glob(f"offline-run-*-{run.hash}")
            for file in written.rglob("*"):
                _fsync(file)
            _remove(folder.glob("offline-run-*"))
            final = written.rename(folder / written.name)
            fsync_folder(folder)
            _remove(old for old in folder.glob("artifacts-*") if old != artifacts)
        except BaseException:
            _remove([artifacts])
            raise
        finally:
            _remove([staging])
    return final


def upload(run_dir: Path, *, project: str | None = None) -> None:
    """Exports the run afresh and sends it with `wandb sync`. `InputError` where that fails (not logged in, no network).

    project: None = the configuration's `logging.project`.

    Needs network and the credentials of `wandb login`; everything wandb reads from the environment applies.
    """
    offline = export_offline(run_dir)
    command = [sys.executable, "-m", "wandb", "sync", "--yes", str(offline)]
    command += ["--project", project] if project else []
    if subprocess.run(command, cwd=run_dir, check=False).returncode != 0:  # its own log goes to RUN/wandb
        raise InputError(f"{offline}: wandb sync failed; log in with wandb login and see that its server is reachable")


class LiveWandb:
    """Logging to wandb while training, for `logging.wandb: online` only; the run folder is written all the same.

    A resumed training continues the run of the same id. Lines that were logged after the last checkpoint are logged
    again with the same `samples`, so they lie on top of each other. Media are kept in the run folder.
    """

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        *,
        run_id: str,
        project: str = PROJECT,
        mode: Literal["online", "offline"] = "online",
    ) -> None:
        self.run_dir = Path(run_dir).resolve()
        for kind in ("DATA", "CACHE"):
            os.environ.setdefault(f"WANDB_{kind}_DIR", str(self.run_dir / "wandb"))
        self._run = _start(self.run_dir, config, run_id=run_id, name=self.run_dir.name, project=project, mode=mode)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """One line as it stands in `metrics.jsonl`, with its `samples`; nulls are left out."""
        self._run.log(_without_nulls(metrics))

    def log_examples(self) -> None:
        """The table of the worst-bound scenes, as it stands in the run folder."""
        run = read_run(self.run_dir)
        if run.examples:
            self._run.log({"samples": run.samples, "examples": _examples_table(run)})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Sets the final metrics and ends the run."""
        _finish(self._run, summary)


def write_run(run_dir: Path, folder: Path) -> None:
    """Writes the offline run of `run_dir` into `folder/wandb`. Called in a process of its own by `export_offline`."""
    run = read_run(run_dir)
    facts = {key: run.summary[key] for key in ("dataset", "num_parameters", "command") if key in run.summary}
    live = _start(
        folder,
        {**run.config, "run_folder": {"hash": run.hash, **facts}},
        run_id=run.hash,
        name=run_dir.name,
        project=run.config.get("logging", {}).get("project", PROJECT),
        mode="offline",
    )
    for row in run.rows:
        live.log(_without_nulls(row))
    if run.examples:
        live.log({"samples": run.samples, "examples": _examples_table(run)})
    _finish(live, run.metrics)


def _start(
    folder: Path,
    config: Mapping[str, Any],
    *,
    run_id: str,
    name: str,
    project: str,
    mode: Literal["online", "offline"],
) -> "wandb.Run":
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        save_code=False,
        disable_git=True,
        disable_job_creation=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    try:
        run = wandb.init(
            project=project,
            id=run_id,
            name=name,
            dir=folder,
            config=dict(config),
            mode=mode,
            resume="allow",
            reinit="finish_previous",
            settings=settings,
        )
    except (wandb.Error, ValueError) as error:
        raise InputError(
            f"logging.wandb: wandb cannot start a run: {one_line(error)}; see logging.project, wandb login and the "
            "network, or set logging.wandb=disabled"
        ) from None
    run.define_metric("samples")
    run.define_metric("*", step_metric="samples")
    return run


def _finish(run: "wandb.Run", summary: Mapping[str, Any]) -> None:
    """Sets the final metrics and waits for wandb's service: `run.finish()` alone returns before the file is whole."""
    import wandb

    run.summary.update(_without_nulls(summary))
    run.finish()
    wandb.teardown()


def _examples_table(run: Run) -> "wandb.Table":
    import wandb

    rows = []
    for scenes in run.examples.values():
        for scene in scenes:
            picture = wandb.Image(str(run.path / scene["image"])) if scene["image"] else None
            rows.append([picture if column == "picture" else scene[column] for column in EXAMPLE_COLUMNS])
    return wandb.Table(columns=list(EXAMPLE_COLUMNS), data=rows)


def _without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def _run_child(run_dir: Path, staging: Path, artifacts: Path) -> None:
    """Runs `write_run` with none of the user's wandb variables, and with wandb's folders inside the run folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    folders = {"DATA": artifacts, "CACHE": staging / "cache", "CONFIG": staging / "config"}
    environment |= {f"WANDB_{kind}_DIR": str(folder) for kind, folder in folders.items()}
    command = [sys.executable, "-c", _CHILD, str(run_dir), str(staging)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1].removeprefix("error: ")
        raise InputError(f"{run_dir}: wandb could not write the offline run: {reason}")


def _fsync(file: Path) -> None:
    if file.is_file() and not file.is_symlink():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())


def _remove(folders: Any) -> None:
    for folder in folders:
        shutil.rmtree(folder)


def main(argv: list[str]) -> None:
    """Exports and uploads the runs named in `argv`."""
    if set(argv) & {"-h", "--help"}:
        print(f"usage: {USAGE}\nneeds network and the credentials of wandb login")
        return
    projects = [argument.removeprefix("project=") for argument in argv if argument.startswith("project=")]
    runs = [Path(argument) for argument in argv if not argument.startswith("project=")]
    if not runs or len(projects) > 1:
        raise InputError(f"{'project: is given twice' if runs else 'RUN: it is missing'}; usage: {USAGE}")
    for project in projects:
        if not re.fullmatch(WANDB_PROJECT, project):
            raise InputError(
                f"project: {project!r} is no project name; wandb takes at most 128 characters, no / \\ # ? % :"
            )
    for run_dir in runs:
        read_run(run_dir)
    for run_dir in runs:
        upload(run_dir, project=projects[0] if projects else None)


if __name__ == "__main__":
    run_cli(main)
