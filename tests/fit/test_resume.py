"""Law 1 and law 7 on whole trainings: killed, interrupted or damaged, a run ends as one that was left alone."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fit_commands import SYMBOLIC, Command, environment

from dualenc.weights import newest_checkpoint


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def lines(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "train/samples_per_second"} for row in rows]


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "dualenc.fit", *arguments],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(process: subprocess.Popen, folder: Path, *, after: int = 0) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for path in folder.glob("*/metrics.jsonl"):
            rows = path.read_text().splitlines()
            if rows and json.loads(rows[-1])["samples"] > after and list(folder.glob("*/checkpoints/last.ckpt")):
                return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint appeared: {process.stderr and process.stderr.read()}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-m", "dualenc.fit", *SYMBOLIC]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, timeout=240)
    return only_run(folder / "runs")


def assert_same_run(run: Path, undisturbed: Path) -> None:
    ours, theirs = weights(run), weights(undisturbed)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert lines(run) == lines(undisturbed)
    ours, theirs = (json.loads((path / "summary.json").read_text()) for path in (run, undisturbed))
    assert ours["metrics"] == theirs["metrics"]
    assert ours["best"] == theirs["best"]


def test_killed_and_started_again_is_bitwise_the_same_run(tmp_path: Path, undisturbed: Path, fit: Command) -> None:
    for after in (100, 800):
        process = start(SYMBOLIC, tmp_path)
        wait_for_checkpoint(process, tmp_path / "runs", after=after)
        process.kill()
        process.wait()
    done = fit(*SYMBOLIC)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path / "runs")
    assert run.name == undisturbed.name
    segments = [json.loads(line) for line in (run / "segments.jsonl").read_text().splitlines()]
    starts = [segment["start_samples"] for segment in segments]
    assert starts[0] == 0
    assert 0 < starts[1] < starts[2] <= 1600
    assert_same_run(run, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_leaves_with_130(
    tmp_path: Path, undisturbed: Path, fit: Command, number: signal.Signals
) -> None:
    arguments = [*SYMBOLIC, "trainer.checkpoint_seconds=1000"]
    process = start(arguments, tmp_path)
    log = tmp_path / "runs"
    deadline = time.monotonic() + 120
    while not [path for path in log.glob("*/metrics.jsonl") if path.stat().st_size] and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    assert "Traceback" not in process.stderr.read()
    found = newest_checkpoint(only_run(log) / "checkpoints")
    assert found is not None
    assert 0 < found[1]["samples"] < 1600
    assert fit(*arguments).returncode == 0
    assert_same_run(only_run(log), undisturbed)


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
def test_a_signal_at_any_point_of_the_training_ends_in_130(hook: str, name: str, tmp_path: Path, fit: Command) -> None:
    arguments = [*SYMBOLIC, "trainer.max_samples=96", "data.num_workers=0"]
    command = [sys.executable, str(Path(__file__).with_name("signal_at.py")), hook, name, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    found = newest_checkpoint(only_run(tmp_path / "runs") / "checkpoints")
    assert found is not None
    assert found[1]["samples"] > 0


def test_a_finished_run_is_left_alone_and_prints_its_results(tmp_path: Path, undisturbed: Path, fit: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    again = fit(*SYMBOLIC, f"run.dir={undisturbed.parent}")
    assert again.returncode == 0, again.stderr
    assert "object recognition" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


def test_a_torn_checkpoint_is_skipped_for_the_one_before(tmp_path: Path, undisturbed: Path, fit: Command) -> None:
    process = start(SYMBOLIC, tmp_path)
    wait_for_checkpoint(process, tmp_path / "runs", after=300)
    process.kill()
    process.wait()
    folder = only_run(tmp_path / "runs") / "checkpoints"
    last = folder / "last.ckpt"
    shutil.copy(last, folder / "previous.ckpt")
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    assert newest_checkpoint(folder)[0].name == "previous.ckpt"
    done = fit(*SYMBOLIC)
    assert done.returncode == 0, done.stderr
    assert "last.ckpt cannot be read" in done.stderr
    assert_same_run(only_run(tmp_path / "runs"), undisturbed)


def test_two_processes_see_the_same_samples_and_losses(tmp_path: Path, fit: Command) -> None:
    arguments = [*SYMBOLIC, "trainer.max_samples=320", "logging.every=1", "trainer.accelerator=cpu"]
    arguments = [argument.replace("dropout=0.1", "dropout=0.0") for argument in arguments]
    for name, devices in (("one", 1), ("two", 2)):
        done = fit(*arguments, f"run.dir={name}", f"trainer.devices={devices}")
        assert done.returncode == 0, done.stderr
    one, two = (lines(only_run(tmp_path / name)) for name in ("one", "two"))
    assert [row["samples"] for row in one] == [row["samples"] for row in two]
    for ours, theirs in zip(one, two):
        for name in ("coverage/objects_seen", "coverage/pairs_seen"):
            assert ours[name] == theirs[name]
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-4)
        assert ours["train/grad_norm"] == pytest.approx(theirs["train/grad_norm"], rel=1e-3)


def test_a_defect_in_a_loader_worker_ends_the_run_with_its_traceback(tmp_path):
    """Workers are deaf to SIGTERM, by which Python would end them at exit: the run must not wait for them."""
    broken = (
        "import sys; from dualenc.data import SymbolicSource\n"
        "def train_batch(*arguments, **named): raise ZeroDivisionError('broken on purpose')\n"
        "SymbolicSource.train_batch = train_batch\n"
        "from dualenc.fit import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", broken, "configs/symbolic.yaml", f"run.dir={tmp_path}", "data.num_workers=2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    assert result.returncode == 1
    assert "broken on purpose" in result.stderr
