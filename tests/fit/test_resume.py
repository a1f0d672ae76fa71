"""Law 1 and law 7 on whole trainings: killed, interrupted or damaged, a run ends as one that was left alone."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from faults import break_batches, signal_at
from fit_commands import SYMBOLIC, Command
from kill_twenty import TRAINING, differences, only_run, position, train_with_kills
from warm import WarmFit, wait_until

from dualenc.weights import newest_checkpoint

SAMPLES = 960
RUN = [*TRAINING, f"trainer.max_samples={SAMPLES}", "eval.every=480", "eval.num_scenes=20"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    process = WarmFit(RUN, folder)
    assert process.wait() == 0, process.stderr
    return only_run(folder / "runs")


def interrupted(arguments: list[str], folder: Path, *, after: int, number: int = signal.SIGKILL) -> WarmFit:
    """A training that got the signal `number` once it had come to `after` samples."""
    process = WarmFit(arguments, folder)
    wait_until(lambda: position(folder) >= after or process.poll() is not None)
    assert process.poll() is None, process.stderr
    process.send_signal(number)
    process.wait()
    return process


def test_killed_at_random_moments_it_is_bitwise_the_same_run(tmp_path: Path, undisturbed: Path) -> None:
    """Two chunks, dropout, two workers; `python tests/fit/kill_twenty.py` does it twenty times, with two processes."""
    story = train_with_kills(lambda: [WarmFit(RUN, tmp_path)], tmp_path, samples=SAMPLES, kills=5, seed=1)
    run = only_run(tmp_path / "runs")
    assert run.name == undisturbed.name
    assert differences(run, undisturbed) == []
    assert all(start > 0 for start in story.restarts)
    assert len(story.restarts) >= 4


def test_each_signal_saves_and_leaves_with_130(tmp_path: Path, undisturbed: Path) -> None:
    arguments = [*RUN, "trainer.checkpoint_seconds=1000"]
    found = None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        before = found[1]["samples"] if found else 0
        process = interrupted(arguments, tmp_path, after=before + 200, number=number)
        assert process.poll() == 130, process.stderr
        assert process.stderr.splitlines()[-1] == "interrupted, with a checkpoint saved; the same command continues"
        assert "Traceback" not in process.stderr
        found = newest_checkpoint(only_run(tmp_path / "runs") / "checkpoints")
        assert found is not None
        assert before + 200 <= found[1]["samples"] < SAMPLES
    assert WarmFit(arguments, tmp_path).wait() == 0
    assert differences(only_run(tmp_path / "runs"), undisturbed) == []


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        ("configure_optimizers", "SIGTERM"),
        ("train_dataloader", "SIGINT"),
        ("on_train_start", "SIGTERM"),
        ("_save", "SIGINT"),
        ("on_train_end", "SIGTERM"),
    ],
)
def test_a_signal_at_any_point_of_the_training_ends_in_130(hook: str, name: str, tmp_path: Path) -> None:
    arguments = [*SYMBOLIC, "trainer.max_samples=96", "data.num_workers=0"]
    process = WarmFit(arguments, tmp_path, prepare=partial(signal_at, hook, name))
    assert process.wait() == 130, process.stderr
    assert "Traceback" not in process.stderr
    found = newest_checkpoint(only_run(tmp_path / "runs") / "checkpoints")
    assert found is not None
    assert found[1]["samples"] > 0


def test_a_finished_run_is_left_alone_and_prints_its_results(undisturbed: Path, fit: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    again = fit(*RUN, f"run.dir={undisturbed.parent}")
    assert again.returncode == 0, again.stderr
    assert "object recognition" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


def test_a_torn_checkpoint_is_skipped_for_the_one_before(tmp_path: Path, undisturbed: Path, fit: Command) -> None:
    interrupted(RUN, tmp_path, after=300)
    folder = only_run(tmp_path / "runs") / "checkpoints"
    last = folder / "last.ckpt"
    shutil.copy(last, folder / "previous.ckpt")
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    assert newest_checkpoint(folder)[0].name == "previous.ckpt"
    done = fit(*RUN)
    assert done.returncode == 0, done.stderr
    assert "last.ckpt cannot be read" in done.stderr
    assert differences(only_run(tmp_path / "runs"), undisturbed) == []


@pytest.mark.parametrize("key", ["run", "state_dict"])
def test_a_checkpoint_of_another_config_is_refused(key: str, tmp_path: Path, undisturbed: Path, fit: Command) -> None:
    run = shutil.copytree(undisturbed, tmp_path / "runs" / undisturbed.name)
    (run / "summary.json").unlink()
    last, log = run / "checkpoints" / "last.ckpt", (run / "metrics.jsonl").read_bytes()
    content = torch.load(last, weights_only=True)
    torch.save({**content, "run": "0123456789"} if key == "run" else content[key], last)
    refused = fit(*RUN)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("error: runs/")
    assert "last.ckpt: is no checkpoint of the run" in refused.stderr
    assert (run / "metrics.jsonl").read_bytes() == log


def test_a_killed_loader_worker_ends_the_run_with_one_line_and_75(tmp_path: Path) -> None:
    process = WarmFit(RUN, tmp_path)
    wait_until(lambda: position(tmp_path) >= 64)
    worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    assert process.wait() == 75, process.stderr
    assert "Traceback" not in process.stderr
    last = process.stderr.splitlines()[-1]
    assert last.startswith("error: DataLoader worker")
    assert str(worker) in last
    assert "lower data.num_workers; run the same command again" in last


def test_a_run_killed_before_its_summary_needs_no_further_step(tmp_path: Path, undisturbed: Path, fit: Command) -> None:
    run = shutil.copytree(undisturbed, tmp_path / "runs" / undisturbed.name)
    for name in ("summary.json", "weights.safetensors"):
        (run / name).unlink()
    done = fit(*RUN)
    assert done.returncode == 0, done.stderr
    assert f"starts at {SAMPLES} of {SAMPLES} samples" in done.stderr
    assert differences(run, undisturbed) == []


def test_a_defect_in_a_loader_worker_ends_the_run_with_its_traceback(tmp_path: Path) -> None:
    """Workers are deaf to SIGTERM, by which Python would end them at exit: the run must not wait for them."""
    process = WarmFit([*SYMBOLIC, "data.num_workers=2"], tmp_path, prepare=break_batches)
    assert process.wait(120) == 1
    assert "broken on purpose" in process.stderr
