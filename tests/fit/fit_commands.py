"""Command lines and tiny data that several tests of training share."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = f"{ROOT}:{ROOT / 'tests' / 'no_extras'}"
"""This checkout, and no extras (see `no_extras/sitecustomize.py`)."""

SYMBOLIC = [
    str(ROOT / "configs" / "symbolic.yaml"),
    "data.num_workers=2",
    "trainer.threads=1",
    "trainer.batch_size=32",
    "trainer.max_samples=1600",
    "trainer.checkpoint_seconds=0",
    "model.scene.dropout=0.1",
    "model.query.dropout=0.1",
    "eval.every=800",
    "eval.num_scenes=50",
    "data.symbolic.num_samples=60",
    "logging.every=5",
    "logging.wandb=disabled",
    "run.report=false",
]
"""A training of 50 steps on symbolic scenes that saves after (almost) every step."""

PICTURES = """
data:
  name: tiny
  concepts: {color: [red, blue, green, gray], shape: [circle, square, star, cross]}
  coverage: 0.5
  num_samples: {train: 256, val: 40, val_ood: 20, ood: 40, mixed: 20}
  picture: {size: 24, format: png}
  samples_per_shard: 64
  num_workers: 1
"""

Command = Callable[..., subprocess.CompletedProcess]


def environment() -> dict[str, str]:
    """The environment of a subprocess: this checkout, no launcher's variables, no extras."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    return {**kept, "PYTHONPATH": PYTHONPATH, "CUDA_VISIBLE_DEVICES": ""}
