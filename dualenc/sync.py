"""Brings a run folder to Weights & Biases: an offline run made from it, the upload of that, and live logging.

    python -m dualenc.sync RUN|FOLDER [...] [project=NAME]
    python -m dualenc.sync SWEEP [project=NAME]

Needs network and `wandb login`. SWEEP is the YAML file of a sweep, FOLDER one that holds run folders. RUN/wandb/
uploaded.json notes the last sample that has been uploaded: the same command sends what has come since, and nothing
twice. A failed upload is tried again a few times. A run of a sweep has the sweep's name as its group and its axis
values as tags.

The run folder is the only truth. With `logging.wandb: offline` no wandb process runs while training; `export_offline`
writes one offline run at the end from `config.yaml`, `metrics.jsonl`, `summary.json` and `examples/`. Its id is the
run's hash, its x-axis `samples`, its step the training step: an interrupted and resumed training gives one gapless run.
Pictures are in what is uploaded, not in the offline run of the folder: to wandb each is a file, and files may be short.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dualenc.configs import WANDB_PROJECT
from dualenc.errors import InputError, one_line, run_cli
from dualenc.files import Claim, fsync_folder, write_json
from dualenc.report.folder import Run, read_optional, read_run, run_folders

if TYPE_CHECKING:
    import wandb

PROJECT = "dualenc"
USAGE = "python -m dualenc.sync SWEEP, or RUN|FOLDER [...], and [project=NAME]"
UPLOADED = "wandb/uploaded.json"
RETRY_SECONDS = (5.0, 20.0, 60.0)  # between attempts to upload
_LONGEST_TAG = 64  # that wandb takes
EXAMPLE_COLUMNS = ("split", "index", "caption_preferred", "caption_true", "score_preferred", "score_true")
# The child starts with this: a process of its own keeps wandb's service, hooks and environment out of the training.
_CHILD = """
from pathlib import Path
from dualenc.errors import run_cli
from dualenc.sync import write_run
import json
run_cli(lambda given: write_run(Path(given[0]), Path(given[1]), **json.loads(given[2])))
"""


@dataclass(frozen=True)
class Membership:
    """The sweep a run belongs to, and the values of its axes there."""

    sweep: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def tags(self) -> list[str]:
        """`key=value` for each axis, as wandb takes them."""
        from dualenc.sweep.spec import as_text

        return [f"{key}={as_text(value)}"[:_LONGEST_TAG] for key, value in self.values.items()]


def membership(run_dir: Path) -> Membership | None:
    """The sweep that lists the run, of those whose results lie beside it; the first by name where several do."""
    identity = run_dir.resolve().name.rpartition("-")[2]
    for path in sorted(run_dir.resolve().parent.glob("sweeps/*/sweep.json")):
        listed = read_optional(path, {})
        for run in listed.get("runs", []):
            if run.get("hash") == identity:
                return Membership(listed["name"], run["values"])
    return None


def export_offline(run_dir: Path, sweep: Membership | None = None) -> Path:
    """Writes `RUN/wandb/offline-run-DATE-HASH` from the run folder and returns it; an earlier export is replaced.

    The new run is written aside and renamed, after the old one is gone: whatever kills this, never do two offline runs
    with one id lie there, nor a half-written one under the final name. Nothing outside the run folder is written,
    nothing is sent. The table of worst-bound scenes is without pictures; it lies in `RUN/wandb/artifacts-*`, to which
    the run refers by absolute path: after moving the run folder, export again. `InputError` where the folder holds no
    metrics or wandb fails.

    sweep: None = looked up beside the run.
    """
    run_dir = Path(run_dir).resolve()
    folder = run_dir / "wandb"
    read_run(run_dir)  # refused before anything is written
    folder.mkdir(exist_ok=True)
    with Claim(folder / "export.claim"):
        _remove(folder.glob(".export-*"))
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
        artifacts = Path(tempfile.mkdtemp(prefix="artifacts-", dir=folder))
        try:
            written = _write(run_dir, staging, artifacts, sweep)
            _remove(path for path in (written / "logs", written / "tmp") if path.exists())  # of wandb's own work
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


def upload(run_dir: Path, *, project: str | None = None, sweep: Membership | None = None) -> bool:
    """Sends what the run has logged since the last upload with `wandb sync`; False where there is nothing new.

    project: None = the configuration's `logging.project`; sweep: None = looked up beside the run. `InputError` where it
    fails again and again (not logged in, no network).

    Needs network and the credentials of `wandb login`; everything wandb reads from the environment applies.
    """
    run = read_run(run_dir)
    target = project or run.config.get("logging", {}).get("project", PROJECT)
    now = {"project": target, "samples": run.samples, "finished": bool(run.summary)}
    before = read_optional(run_dir / UPLOADED, {})
    if before == now:
        return False
    after = before["samples"] if before.get("project") == target else -1
    with tempfile.TemporaryDirectory(prefix="dualenc-sync-") as name:
        staging = Path(name)
        offline = _write(Path(run_dir).resolve(), staging, staging / "artifacts", sweep, after=after, pictures=True)
        command = [sys.executable, "-m", "wandb", "sync", "--yes", str(offline)]
        _send(command + (["--project", project] if project else []), run_dir, cwd=staging)
    (run_dir / UPLOADED).parent.mkdir(exist_ok=True)
    write_json(run_dir / UPLOADED, now)
    return True


def _send(command: Sequence[str], run_dir: Path, *, cwd: Path) -> None:
    for seconds in (*RETRY_SECONDS, None):
        if subprocess.run(command, cwd=cwd, check=False).returncode == 0:  # which writes a log of its own there
            return
        if seconds is not None:
            print(f"{run_dir}: wandb sync failed; trying again in {seconds:.0f} s", file=sys.stderr)
            time.sleep(seconds)
    raise InputError(f"{run_dir}: wandb sync failed; log in with wandb login and see that its server is reachable")


class LiveWandb:
    """Logging to wandb while training, for `logging.wandb: online` only; the run folder is written all the same.

    A resumed training continues the run of the same id. Lines that were logged after the last checkpoint come again
    with a step that wandb has seen, so it leaves them out. What wandb keeps beside, a file for each picture, goes to a
    temporary folder until the end.
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
        self._beside = tempfile.TemporaryDirectory(prefix="dualenc-wandb-")
        for kind in ("DATA", "CACHE"):
            os.environ.setdefault(f"WANDB_{kind}_DIR", self._beside.name)
        # Group and tags come from the environment, where whoever runs a sweep sets them. They are read here because
        # wandb reads its environment only once a process, which may have been before.
        tags = os.environ.get("WANDB_TAGS")
        self._run = _start(
            self.run_dir,
            config,
            run_id=run_id,
            name=self.run_dir.name,
            project=project,
            mode=mode,
            group=os.environ.get("WANDB_RUN_GROUP"),
            tags=tags.split(",") if tags else None,
        )

    def log(self, metrics: Mapping[str, Any]) -> None:
        """One line as it stands in `metrics.jsonl`, with its `samples`; nulls are left out."""
        self._run.log(_without_nulls(metrics), step=metrics.get("step"))

    def log_examples(self) -> None:
        """The table of the worst-bound scenes, as it stands in the run folder."""
        run = read_run(self.run_dir)
        if run.examples:
            self._run.log({"samples": run.samples, "examples": _examples_table(run, pictures=True)})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Sets the final metrics and ends the run."""
        _finish(self._run, summary)
        self._beside.cleanup()


def write_run(run_dir: Path, folder: Path, *, sweep: Mapping[str, Any] | None, after: int, pictures: bool) -> None:
    """Writes the offline run of `run_dir` into `folder/wandb`. Called in a process of its own by `_write`."""
    run = read_run(run_dir)
    member = Membership(**sweep) if sweep else None
    facts: dict[str, Any] = {
        key: run.summary[key] for key in ("dataset", "num_parameters", "command") if key in run.summary
    }
    if run.segments:
        facts["segment"] = run.segments[-1]
    live = _start(
        folder,
        {**run.config, "run_folder": {"hash": run.hash, **facts}, **({"sweep": sweep} if sweep else {})},
        run_id=run.hash,
        name=run_dir.name,
        project=run.config.get("logging", {}).get("project", PROJECT),
        mode="offline",
        group=member.sweep if member else None,
        tags=member.tags if member else None,
    )
    for row in run.rows:
        if row["samples"] > after:
            live.log(_without_nulls(row), step=row["step"])
    if run.examples:
        newest = max((row["step"] for row in run.rows), default=0)
        live.log({"samples": run.samples, "examples": _examples_table(run, pictures=pictures)}, step=newest + 1)
    _finish(live, run.metrics)


def _start(
    folder: Path,
    config: Mapping[str, Any],
    *,
    run_id: str,
    name: str,
    project: str,
    mode: Literal["online", "offline"],
    group: str | None = None,
    tags: Sequence[str] | None = None,
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
            group=group,
            tags=tags,
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


def _examples_table(run: Run, *, pictures: bool) -> "wandb.Table":
    import wandb
    from PIL import Image

    scenes = [scene for listed in run.examples.values() for scene in listed]
    table = wandb.Table(
        columns=list(EXAMPLE_COLUMNS), data=[[scene[key] for key in EXAMPLE_COLUMNS] for scene in scenes]
    )
    if pictures and any(scene["image"] for scene in scenes):
        shown = (Image.open(io.BytesIO(scene["image"])) if scene["image"] else None for scene in scenes)
        table.add_column("picture", [wandb.Image(image) if image else None for image in shown])
    return table


def _without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def _write(
    run_dir: Path,
    staging: Path,
    artifacts: Path,
    sweep: Membership | None,
    *,
    after: int = -1,
    pictures: bool = False,
) -> Path:
    """The offline run that `write_run` makes in `staging`, with none of the user's wandb variables, and with wandb's
    folders there and in `artifacts`. sweep: None = looked up beside the run; after: only what was logged after so many
    samples."""
    sweep = sweep or membership(run_dir)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    folders = {"DATA": artifacts, "CACHE": staging / "cache", "CONFIG": staging / "config"}
    environment |= {f"WANDB_{kind}_DIR": str(folder) for kind, folder in folders.items()}
    told = json.dumps({"sweep": asdict(sweep) if sweep else None, "after": after, "pictures": pictures})
    command = [sys.executable, "-c", _CHILD, str(run_dir), str(staging), told]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1].removeprefix("error: ")
        raise InputError(f"{run_dir}: wandb could not write the offline run: {reason}")
    [written] = (staging / "wandb").glob("offline-run-*")
    return written


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
        print((__doc__ or "").strip())
        return
    projects = [argument.removeprefix("project=") for argument in argv if argument.startswith("project=")]
    names = [argument for argument in argv if not argument.startswith("project=")]
    if not names or len(projects) > 1:
        raise InputError(f"{'project: is given twice' if names else 'RUN: it is missing'}; usage: {USAGE}")
    for project in projects:
        if not re.fullmatch(WANDB_PROJECT, project):
            raise InputError(
                f"project: {project!r} is no project name; wandb takes at most 128 characters, no / \\ # ? % :"
            )
    runs = _named(names)
    live = {run for run in runs if read_run(run).config.get("logging", {}).get("wandb") == "online"}
    for run_dir, sweep in runs.items():
        if run_dir in live:  # sent again, its lines would stand there twice
            print(f"{run_dir}: has been logged live")
            continue
        sent = upload(run_dir, project=projects[0] if projects else None, sweep=sweep)
        print(f"{run_dir}: {'uploaded' if sent else 'nothing new since the last upload'}")


def _named(names: Sequence[str]) -> dict[Path, Membership | None]:
    """The run folders, each with its sweep where one was named."""
    sweeps = [name for name in names if Path(name).suffix in (".yaml", ".yml")]
    if not sweeps:
        return dict.fromkeys(run_folders([Path(name) for name in names]))
    if len(names) > 1:
        raise InputError(f"SWEEP: {sweeps[0]} has to stand alone; usage: {USAGE}")
    from dualenc.sweep import make_plan, read_sweep
    from dualenc.sweep.state import look_at_all

    plan = make_plan(read_sweep(sweeps[0]))
    states = [state for state in look_at_all(plan) if state.folder and state.progress]
    if not states:
        raise InputError(f"{sweeps[0]}: no run has logged anything yet")
    return {state.folder: Membership(plan.sweep.name, state.run.point) for state in states if state.folder}


if __name__ == "__main__":
    run_cli(main)
