"""A training that diverges ends with one line that says where, and leaves nothing on disk that is not finite."""

from pathlib import Path

import pytest
import torch
from fit_commands import SYMBOLIC, Command

from dualenc.weights import newest_checkpoint

ARGUMENTS = [*SYMBOLIC, "trainer.max_samples=320", "data.num_workers=0", "data.symbolic.num_samples=20"]


def test_a_validation_that_meets_it_first_says_the_same(fit: Command, tmp_path: Path) -> None:
    done = fit(*ARGUMENTS, "optim.lr=1e30", "optim.clip=0", "eval.every=32")
    assert done.returncode == 2
    assert done.stderr.count("error: the training diverged at step 1 (after 32 samples); not finite: embeddings") == 1
    assert "Traceback" not in done.stderr


def test_an_objective_that_is_infinite_from_the_start_is_named(fit: Command) -> None:
    done = fit(*ARGUMENTS, "loss.infonce.weight=1e39")
    assert done.returncode == 2
    assert "cannot start at step 1 (after 0 samples)" in done.stderr
    assert "look at loss.*" in done.stderr


@pytest.mark.parametrize(
    ("rate", "words", "samples"),
    [
        ("1e3", ["step 2 (after 32 samples)", "gradient norm 0; not finite: temperature;"], 32),
        ("1e30", ["step 2 (after 32 samples)", "loss nan", "embeddings of scene_tower, embeddings of query_tower"], 32),
        ("1e39", ["step 1 (after 32 samples)", "weights of log_logit_scale, scene_tower (all"], None),
    ],
)
def test_the_last_checkpoint_is_finite(
    fit: Command, tmp_path: Path, rate: str, words: list[str], samples: int | None
) -> None:
    done = fit(*ARGUMENTS, f"optim.lr={rate}", "optim.clip=0")
    assert done.returncode == 2
    assert done.stderr.count("error: the training diverged at ") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    found = newest_checkpoint(run / "checkpoints")
    assert (found and found[1]["samples"]) == samples
    if found:
        assert all(torch.isfinite(weight).all() for weight in found[1]["state_dict"].values())
