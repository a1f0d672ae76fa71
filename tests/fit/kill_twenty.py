"""Kills one training at random moments, again and again, and compares its end with that of an undisturbed one.

    python tests/fit/kill_twenty.py [--processes 2] [--kills 20] [--seed 0] [--samples 19200]

The training has dropout 0.1, two loader workers and two chunks. The moments: positions spread evenly at random over the
training, each with a delay of up to a fifth of a second; where a position was reached before, a moment of the start.
With several processes one of them, drawn at random, is killed; the others have to end by themselves. Processes are
forked from one that has done the imports (see `warm`).
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fit_commands import SYMBOLIC
from warm import WarmFit, warm_processes

BATCH_SIZE = 32
TRAINING = [*SYMBOLIC, f"trainer.batch_size={BATCH_SIZE}", "trainer.chunks=2", "logging.every=1"]

Start = Callable[[], Sequence[WarmFit]]


@dataclass
class Story:
    """What came of a training that was killed again and again.

    restarts: the position at which each life but the first began (a life that ended before has none); steps: at most so
    many were taken, all lives together; codes, seconds: how the other processes ended, and how long after the kill.
    """

    restarts: list[int] = field(default_factory=list)
    steps: int = 0
    codes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def train_with_kills(start: Start, folder: Path, *, samples: int, kills: int, seed: int) -> Story:
    """Runs the training in `folder` to its end, with `kills` SIGKILLs on the way. AssertionError where it fails."""
    chance, story = random.Random(seed), Story()
    for aim in sorted(chance.randrange(2 * BATCH_SIZE, samples - 2 * BATCH_SIZE) for _ in range(kills)):
        before = len(segment_starts(folder))
        _live(start, folder, chance, story, aim)
        if (starts := segment_starts(folder))[before:]:
            story.steps += max(position(folder) - starts[-1], 0) // BATCH_SIZE + 1  # the last may not have been noted
    for process in (processes := start()):
        assert process.wait(1800) == 0, processes[0].stderr
    story.restarts = segment_starts(folder)[1:]
    story.steps += (samples - story.restarts[-1]) // BATCH_SIZE
    return story


def _live(start: Start, folder: Path, chance: random.Random, story: Story, aim: int) -> None:
    """One life: from a start to a kill at the position `aim`, or soon after the start where that was reached before."""
    reached, processes = position(folder), start()
    while reached < aim and position(folder) < aim:
        assert not any(codes := [process.poll() for process in processes]), (codes, processes[0].stderr)
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.2 if reached < aim else 3))
    victim, began = chance.randrange(len(processes)), time.monotonic()
    processes[victim].kill()
    others = [process for process in processes if process is not processes[victim]]
    story.codes += [process.wait(60) for process in others]
    story.seconds += [time.monotonic() - began] * bool(others)


def position(folder: Path) -> int:
    """Samples of the newest whole line of metrics.jsonl of the only run under `folder`; 0 where there is none."""
    for path in folder.glob("runs/*/metrics.jsonl"):
        whole = path.read_bytes().rpartition(b"\n")[0]
        return json.loads(whole.rpartition(b"\n")[2])["samples"] if whole else 0
    return 0


def segment_starts(folder: Path) -> list[int]:
    """The positions at which the lives of the only run under `folder` began."""
    lines = [line for path in folder.glob("runs/*/segments.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line)["start_samples"] for line in lines]


def only_run(folder: Path) -> Path:
    """The only run in `folder`."""
    (run,) = folder.iterdir()
    return run


def rows(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without the speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("throughput/")} for line in lines]


def differences(run: Path, other: Path) -> list[str]:
    """What differs, by a single bit, between the ends of two runs: weights, optimiser, lines of metrics, results."""
    ours, theirs = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (run, other))
    found = [name for name, value in theirs["state_dict"].items() if not torch.equal(ours["state_dict"][name], value)]
    states = [content["optimizer_states"][0]["state"] for content in (ours, theirs)]
    for index, state in states[1].items():
        found += [f"optimiser {index} {name}" for name in state if not torch.equal(states[0][index][name], state[name])]
    found += [f"line {i}" for i, (a, b) in enumerate(zip(rows(run), rows(other))) if a != b]
    found += ["the number of lines"] * (len(rows(run)) != len(rows(other)))
    results = [json.loads((path / "summary.json").read_text()) for path in (run, other)]
    return found + [name for name in ("metrics", "best", "samples") if results[0][name] != results[1][name]]


def main() -> int:
    """Prints what came of it; exit code 1 where it is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("processes", 1), ("kills", 20), ("seed", 0), ("samples", 19200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    training = [*TRAINING, f"trainer.max_samples={asked.samples}", "eval.every=6400", "logging.progress=false"]
    folders = [Path(tempfile.mkdtemp(prefix=name)) for name in ("undisturbed-", "killed-")]

    def start_in(folder: Path) -> list[WarmFit]:
        return warm_processes(training, folder, world=asked.processes)

    began = time.monotonic()
    for process in start_in(folders[0]):
        assert process.wait(1800) == 0, process.stderr
    undisturbed = time.monotonic() - began
    story = train_with_kills(
        lambda: start_in(folders[1]), folders[1], samples=asked.samples, kills=asked.kills, seed=asked.seed
    )
    steps, later = asked.samples // BATCH_SIZE, sum(start > 0 for start in story.restarts)
    found = differences(only_run(folders[1] / "runs"), only_run(folders[0] / "runs"))
    print(f"processes {asked.processes}, kills {asked.kills}, seed {asked.seed}, steps of the training {steps}")
    print(f"undisturbed {undisturbed:.0f} s, with kills {time.monotonic() - began - undisturbed:.0f} s")
    print(f"restarts at {story.restarts} samples: {later} of {asked.kills} at a position > 0")
    print(f"steps taken in all lives: at most {story.steps}, {story.steps / steps:.3f} times those of the training")
    if story.codes:
        print(f"the others ended with {sorted(set(story.codes))} after at most {max(story.seconds):.1f} s")
    print(
        f"weights, optimiser, metrics and results {'differ: ' + ', '.join(found) if found else 'are equal bit for bit'}"
    )
    good = not found and later >= 0.75 * asked.kills and story.steps < 1.5 * steps and set(story.codes) <= {75}
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
