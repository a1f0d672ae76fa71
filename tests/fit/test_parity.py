"""The same training in one process and in two, in one chunk and in several: the same samples, losses and weights."""

import json
from pathlib import Path

import pytest
import torch
from fit_commands import SYMBOLIC
from warm import WarmFit, warm_processes

STEPS = 6
ARGUMENTS = [
    *(argument for argument in SYMBOLIC if "dropout" not in argument),
    "data.num_workers=0",
    "data.queries={captions: 0.4, objects: 0.4, concepts: 0.2}",
    "data.edits=[swap]",
    "model.query.kind=text",
    f"trainer.max_samples={32 * STEPS}",
    "trainer.precision=64-true",
    "logging.every=1",
    "eval.num_scenes=20",
    "data.symbolic.num_samples=20",
]


def only(paths: list[Path]) -> Path:
    (path,) = paths
    return path


def lines(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in only(list(folder.glob("*/metrics.jsonl"))).read_text().splitlines()]
    return [row for row in rows if "train/loss" in row]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = only(list(folder.glob("*/checkpoints/last.ckpt")))
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder's parent of one process in one chunk."""
    folder = tmp_path_factory.mktemp("one")
    process = WarmFit([*ARGUMENTS, "trainer.accelerator=cpu"], folder)
    assert process.wait() == 0, process.stderr
    return folder / "runs"


@pytest.mark.parametrize("chunks", [1, 3])
def test_two_processes_take_the_steps_of_one(one: Path, tmp_path: Path, chunks: int) -> None:
    """Over several steps, so that a step whose gradients are averaged wrongly, or twice, shows in the weights."""
    processes = warm_processes([*ARGUMENTS, f"trainer.chunks={chunks}"], tmp_path)
    for process in processes:
        assert process.wait() == 0, process.stderr
    ours, theirs = lines(tmp_path / "runs"), lines(one)
    assert len(ours) == len(theirs) == STEPS
    for row, expected in zip(ours, theirs):
        for name in ("samples", "train/samples_crc32", "coverage/objects_seen", "coverage/pairs_seen"):
            assert row[name] == expected[name]
        for name in ("train/loss", "train/grad_norm", "train/temperature"):
            assert row[name] == pytest.approx(expected[name], rel=1e-9)
    assert len({row["train/samples_crc32"] for row in ours}) == STEPS
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(tmp_path / "runs")[name], weight, rtol=1e-9, atol=1e-9, msg=name)
