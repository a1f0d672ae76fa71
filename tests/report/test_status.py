"""The table of runs: of a sweep and of folders, once in a pipe, live on a terminal, of a thousand in seconds."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from simulated import ROOT, fail, make_sweep, write_run

from dualenc.errors import InputError
from dualenc.files import Claim
from dualenc.status import RECOGNITION, SPEED, main, rows, watched

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "160"}


def cells_of(given: list[str]) -> dict[int, list[str]]:
    return {int(row[0]): row[1:] for row in rows(watched(given)())}


def test_every_state_has_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_sweep(tmp_path, "grid: {run.seed: [0, 1, 2, 3]}")
    done, running, failed, waiting = plan.runs
    last = {run.index: write_run(run, lines=lines)[-1] for run, lines in ((done, 4), (running, 1), (failed, 2))}
    fail(plan, failed, "ValueError: [red]x")
    segments = failed.folder.path / "segments.jsonl" if failed.folder else Path()
    segments.write_text(segments.read_text() * 3)
    assert running.folder is not None
    with Claim(running.folder.path / "claim"):
        found = cells_of(["simulated.yaml"])
        folders = {row[-1].partition(":")[0]: row for row in cells_of(["runs"]).values()}
    assert list(found) == [running.index, failed.index, waiting.index, done.index]
    speed = {index: f"{line[SPEED]:,.0f}" for index, line in last.items()}
    known = {index: f"{line[RECOGNITION]:.3f}" for index, line in last.items()}
    assert found[0] == ["done", speed[0], known[0], "", "0", "run.seed=0"]
    assert found[1] == ["running 25%", speed[1], known[1], "~90 min", "0", "run.seed=1"]  # half an hour for a quarter
    assert found[2] == ["failed 50%", speed[2], known[2], "~15 min", "2", "run.seed=2: ValueError: [red]x"]
    assert found[3] == ["waiting", "", "", "~30 min", "", "run.seed=3"]
    for run in (done, running, failed):
        assert run.folder is not None
        assert folders[run.folder.path.name][:5] == found[run.index][:5]
    assert len(folders) == 3


def test_on_a_terminal_it_stays_until_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_sweep(tmp_path, "grid: {run.seed: [0]}")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dualenc.status", "simulated.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"1 waiting" not in seen:
        seen += os.read(ours, 4096)
    write_run(plan.runs[0])
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    assert process.wait(60) == 0
    assert b"1 runs: 1 done" in seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN: it is missing; usage"),
        (["nowhere"], "nowhere: no such run folder"),
        (["."], ".: holds no run"),
        (["a.yaml", "runs"], "SWEEP: a.yaml has to stand alone"),
    ],
)
def test_a_wrong_command_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^{message}"):
        main(arguments)


COVERAGES = [0.2, 0.4, 0.6, 0.8, 0.9]
MEASURED = """
import resource, sys, time
from dualenc.report.__main__ import main as report
from dualenc.status import main as status
for name in ("few", "many"):
    for command in (lambda: status([f"{name}.yaml"]), lambda: report(["--sweep", f"{name}.yaml"])):
        began = time.process_time()
        command()
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_maxrss, time.process_time() - began, "torch" in sys.modules, file=sys.stderr)
"""


def test_a_thousand_runs_take_seconds_and_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` and the report, of 10 and then of 1,000 finished runs, in one process."""
    monkeypatch.chdir(tmp_path)
    for name, number in (("few", 2), ("many", 200)):
        plan = make_sweep(tmp_path, f"grid: {{data.coverage: {COVERAGES}, run.seed: {list(range(number))}}}", name=name)
        for run in plan.runs:
            if run.folder and not run.folder.path.exists():
                write_run(run)
    call = [sys.executable, "-c", MEASURED]
    done = subprocess.run(call, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "10 runs: 10 done" in done.stdout
    assert "1000 runs: 1000 done" in done.stdout
    lines = [line.split() for line in done.stderr.splitlines()[-4:]]
    assert {torch for _, _, torch in lines} == {"False"}
    memory, seconds = [int(line[0]) for line in lines], [float(line[1]) for line in lines]
    assert max(seconds) < 12
    assert memory[-1] < memory[1] + 60_000  # KiB for 990 further runs
