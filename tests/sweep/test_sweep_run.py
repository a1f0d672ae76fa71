"""Sweeps with real trainings, and with thousands of folders that look like finished ones."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import pytest
from fit_commands import PYTHONPATH

from dualenc.files import Claim, write_json
from dualenc.report import write_sweep_report
from dualenc.sweep import State, look, make_plan, read_sweep
from dualenc.sweep.__main__ import main
from dualenc.sweep.launch import Launcher, Watcher
from dualenc.sweep.results import groups, means, series, write_results, x_axis
from dualenc.sweep.state import KILLED, ended, last_failure, log_path, look_at_all, remaining
from dualenc.sweep.table import table

ROOT = Path(__file__).resolve().parents[2]
TINY = f"""
base: {ROOT}/configs/symbolic.yaml
overrides:
  run.name: tiny
  run.report: false
  data.num_workers: 0
  data.symbolic.num_samples: 40
  trainer.max_samples: 4800
  trainer.batch_size: 32
  trainer.checkpoint_seconds: 1
  logging.every: 5
  eval.every: 4800
  eval.num_scenes: 40
  logging.wandb: disabled
"""


def sweep_process(*arguments: str, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dualenc.sweep", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.fixture
def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The plan of a sweep file over TINY, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def plan(text: str):
        Path("s.yaml").write_text(TINY + text)
        return make_plan(read_sweep(Path("s.yaml")))

    return plan


BEGAN = 1_760_000_000


def finished(run, **metrics: float) -> None:
    """Writes the folder of a finished run, whose second half took 100 s."""
    folder = run.folder.path
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", {"metrics": {f"ood/{key}": value for key, value in metrics.items()}})
    os.utime(folder / "summary.json", (BEGAN + 100, BEGAN + 100))
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(BEGAN))
    (folder / "segments.jsonl").write_text(json.dumps({"start_samples": run.max_samples // 2, "time": began}) + "\n")


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.timeout(900)  # five processes that import torch, one after the other
def test_a_sweep_survives_failures_signals_and_kills(plan_of, tmp_path: Path) -> None:
    """One run fails and is named, the other goes on. A signal goes on to it and it saves. The same command continues;
    when it is killed the training stays, and the next command waits for that one and trains nothing twice."""
    bad, good = "{data.symbolic.num_values: 2, data.coverage: 0.9}", "{data.coverage: 0.7}"
    plan = plan_of(f"list: [{bad}, {good}]")
    run, log = plan.runs[1], log_path(plan, plan.runs[1])
    process = sweep_process("run", "s.yaml", "all", "jobs=2", folder=tmp_path)
    wait_for(lambda: last_failure(log_path(plan, plan.runs[0])) and look(plan, run).progress, process)
    assert [str(state.state) for state in look_at_all(plan)] == ["failed", "running"]
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert code == 130
    assert "run 0: failed after" in err
    assert "run 1: interrupted after" in err
    assert "2 runs: 1 failed, 1 waiting" in out
    assert "interrupted, with a checkpoint saved" in log.read_text()
    assert "trainer.threads=1\n" in log.read_text()
    assert look(plan, run).progress > 0

    process = sweep_process("run", "s.yaml", "1", folder=tmp_path)
    wait_for(lambda: look(plan, run).state is State.RUNNING, process)
    process.kill()
    finish(process)
    assert look(plan, run).state is State.RUNNING
    code, out, err = finish(sweep_process("run", "s.yaml", "all", folder=tmp_path))
    assert code == 2, err
    assert "run 1: starts" not in err
    assert re.search(r"^ *0  failed .*\n *1  done ", out, re.MULTILINE)
    assert re.search(r"^run 0 failed: error: data\.\S+: ", out, re.MULTILINE)
    starts = re.findall(r"starts at ([\d,]+) of 4,800 samples", log.read_text())
    assert len(starts) == 2
    assert starts[0] == "0" != starts[1]

    listed = json.loads((tmp_path / "runs/sweeps/s/sweep.json").read_text())["runs"][1]
    summary = json.loads((tmp_path / listed["folder"] / "summary.json").read_text())
    assert (
        listed["metrics"] == look(plan, run).metrics == {key: summary["metrics"].get(key) for key in listed["metrics"]}
    )
    before = log.read_bytes()
    assert main(["run", "s.yaml", "1:"]) == 0
    assert before == log.read_bytes()


def test_a_training_that_the_kernel_kills_has_failed_and_memory_is_named(plan_of, tmp_path: Path) -> None:
    """SIGKILL is all that a process sees of the OOM killer; it cannot say a word itself."""
    plan = plan_of("list: [{data.coverage: 0.7}]")
    process = sweep_process("run", "s.yaml", "all", folder=tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(children.read_text, process)
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    code, out, err = finish(process)
    assert code == 137, err  # which slurm/common.sh answers with another attempt
    assert f"run 0: {KILLED}" in err
    assert "1 runs: 1 failed" in out
    last = out.splitlines()[-1]
    assert last == f"run 0 failed: {KILLED}"
    assert {"memory", "--mem", "trainer.chunks"} <= {*re.findall(r"[\w.-]+", last)}
    page = write_sweep_report(plan, look_at_all(plan)).read_text()
    assert unescape(page).count(KILLED) == 1


def test_states_come_from_what_lies_on_the_disk(plan_of) -> None:
    plan = plan_of("grid: {run.seed: [0, 1, 2, 3, 4, 5]}")
    finished(plan.runs[0], object_recognition=0.25)
    logs = [log_path(plan, run) for run in plan.runs]
    logs[0].parent.mkdir(parents=True)
    began = "== 2026-11-22T12:00:00+0000 there: python -m dualenc.fit\n"
    logs[1].write_text(f"{began}first\nsecond\n{ended(-9, 3)}\n")
    logs[2].write_text(f"{began}x\n{ended(2, 3)}\n{began}interrupted, with a checkpoint saved\n{ended(130, 3)}\n")
    logs[3].write_text(f"{began}no end\n")
    claimed = plan.runs[4].folder.path
    claimed.mkdir()
    other = plan.runs[5].folder.path.with_name(f"elsewhere-{plan.runs[5].folder.hash}")
    other.mkdir()
    write_json(other / "summary.json", {"metrics": {}})
    with Claim(claimed / "claim"), open(logs[3], "ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        states = look_at_all(plan)
    assert [str(state.state) for state in states] == ["done", "failed", "waiting", "running", "running", "done"]
    assert states[0].metrics["ood/object_recognition"] == 0.25
    assert states[1].error == ["first", "second", KILLED]
    assert states[5].folder == other
    assert [str(state.state) for state in look_at_all(plan)][3:5] == ["waiting", "waiting"]
    logs[3].write_text(f"{began}{ended(-9, 3)}\n")
    assert last_failure(logs[3]) == ["exit -9 after 3 s", KILLED]
    for code, said in (
        (137, [KILLED]),
        (-11, ["killed by SIGSEGV"]),
        (143, ["killed by SIGTERM"]),
        (75, []),
        (255, []),
    ):
        logs[3].write_text(f"{began}last words\n{ended(code, 3)}\n")
        assert last_failure(logs[3]) == ["last words", *said]


def test_what_is_left_is_estimated_from_what_is_done_or_else_from_what_runs(plan_of) -> None:
    plan = plan_of("grid: {trainer.max_samples: [9600, 19200], run.seed: [0, 1]}")
    assert remaining(look_at_all(plan)) == {}
    finished(plan.runs[0])
    states = look_at_all(plan)
    assert states[0].seconds == pytest.approx(200)
    assert remaining(states) == pytest.approx({1: 200, 2: 400, 3: 400})
    assert "about 17 min of one process left" in table(plan, states)
    folder = plan.runs[0].folder
    folder.summary.unlink()
    folder.metrics.append(step=1, samples=7200, values={})  # of 9,600; the second part began at 4,800
    os.utime(folder.metrics.path, (BEGAN + 100, BEGAN + 100))
    with Claim(folder.path / "claim"):
        states = look_at_all(plan)
    assert states[0].projected == pytest.approx(400)
    assert remaining(states) == pytest.approx({0: 100, 1: 400, 2: 800, 3: 800})


def test_results_stand_over_an_axis_with_seeds_as_repetitions(plan_of) -> None:
    plan = plan_of("grid: {optim.lr: [1.0e-3, 2.0e-3], data.coverage: [0.8, 0.5], run.seed: [0, 1]}")
    assert x_axis(plan.sweep.points) == "data.coverage"
    assert x_axis([{"run.seed": 0}, {"run.seed": 1}]) is None
    for number, run in enumerate(plan.runs[:7]):
        finished(run, object_recognition=number / 10)
    done = [state for state in look_at_all(plan) if state.state is State.DONE]
    first, second = groups(done, "data.coverage").values()
    points = series(first, "data.coverage", "ood/object_recognition")
    assert points == [(0.5, 0.2), (0.5, 0.3), (0.8, 0.0), (0.8, 0.1)]
    assert dict(means(points)) == pytest.approx({0.5: 0.25, 0.8: 0.05})
    assert [state.run.index for state in second] == [4, 5, 6]
    written = write_results(plan, look_at_all(plan))
    assert [path.name for path in written] == ["sweep.json", "figure.png", "figure.pdf"]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    assert written[2].read_bytes().startswith(b"%PDF")


def test_every_job_has_a_gpu_which_its_packed_models_share(plan_of, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("grid: {run.seed: [0]}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    launcher = Launcher(plan, Watcher(), jobs=3, packed=2)
    assert [launcher.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in launcher.free] == list("335533")
    assert Launcher(plan, Watcher(), packed=2).environment(1)["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_a_thousand_finished_runs_are_shown_in_seconds_with_flat_memory(plan_of, tmp_path: Path) -> None:
    plan = plan_of(f"grid: {{run.seed: {list(range(1000))}}}")
    metrics = {f"some/metric_{number}": number / 7 for number in range(400)}
    for run in plan.runs:
        finished(run, object_recognition=0.5, **metrics)
    code = (
        "import resource, sys\nfrom dualenc.sweep.__main__ import main\nmain(['show', 's.yaml'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_maxrss, used.ru_utime + used.ru_stime, 'torch' in sys.modules, file=sys.stderr)"
    )
    used = []
    for number in (10, 1000):
        Path("s.yaml").write_text(f"{TINY}grid: {{run.seed: {list(range(number))}}}")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert f"{number} runs: {number} done" in shown.stdout
        memory, seconds, torch = shown.stderr.split()
        assert torch == "False"
        used.append((int(memory), float(seconds)))
    assert used[1][1] < 8
    assert used[1][0] < used[0][0] + 40_000  # KiB for 990 further runs
