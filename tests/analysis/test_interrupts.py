"""Ctrl-C in a study of several processes: it ends at once, in one line, and nothing of it runs on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 200
SOON = 10  # a fit would go on for an hour; this leaves room for a machine with much else to do

PROGRAM = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {planted!r})
from planted import scenes_of
from dualenc.analysis import capacity, layers
from dualenc.analysis.probes import scene_split
from dualenc.analysis.studies import CapacityOptions, LayersOptions

def endless(*_, **__):
    Path(str(os.getpid()) + ".pid").touch()
    time.sleep(3600)

capacity.CapacityStudy.outcomes = layers.readings = endless  # in the workers too, which import this file

def study(argv):
    scenes = scenes_of("additive", sizes=(4, 4))
    if argv == ["capacity"]:
        options = CapacityOptions(coverages=[0.5], draws=4, widths=[8], forest=False, object_probe=False, workers=2)
        capacity.capacity([scenes], options)
    else:
        states = layers.States(scenes, scenes.embeddings[:, None, None], scenes.objects[:, 0] * 0 + 1)
        asked = [(0, "mean"), (0, "end")]
        list(layers._run(states, scene_split(scenes, 0), LayersOptions(workers=2, object_probe=False), asked))

if __name__ == "__main__":
    from dualenc.errors import run_cli
    run_cli(study, continues=False)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
@pytest.mark.parametrize("study", ["capacity", "probes"])
def test_an_interrupt_ends_a_study_and_its_workers_at_once(study: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(planted=str(ROOT / "benchmarks")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, str(program), study],
        **{"cwd": tmp_path, "env": environment, "start_new_session": True, "stderr": subprocess.PIPE, "text": True},
    )
    try:
        limit = time.monotonic() + DEADLINE
        while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < limit and process.poll() is None:
            time.sleep(0.05)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
        assert len(workers) == 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        _, errors = process.communicate(timeout=SOON)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130
    assert errors == "interrupted; the same command starts again\n"
    assert not any(map(alive, workers))
