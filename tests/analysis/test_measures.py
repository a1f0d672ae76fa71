"""Intervals and R^2 of a study's rows, against their definitions."""

import numpy as np
import pytest
import torch

from dualenc.analysis.measures import RESAMPLES, r2, share
from dualenc.metrics import object_bootstrap


def scenes(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.stack([rng.choice(8, 2, replace=False) for _ in range(n)])


def test_scenes_of_the_same_objects_are_summed_without_a_change() -> None:
    rng = np.random.default_rng(0)
    objects, outcomes = scenes(rng, 500), rng.random(500) < 0.6
    found = share("hits", outcomes, objects, seed=3)
    assert found["hits"] == outcomes.mean()
    expected = object_bootstrap(outcomes, np.sort(objects, axis=1), num_resamples=RESAMPLES, seed=3)
    assert found["hits_interval"] == pytest.approx(expected)


def test_r2_is_one_minus_the_share_of_what_is_left() -> None:
    rng = np.random.default_rng(0)
    objects, target = scenes(rng, 200), torch.from_numpy(rng.normal(size=(200, 3)))
    found = target + 0.5 * torch.from_numpy(rng.normal(size=(200, 3)))
    row = r2(target, found, objects, seed=0)
    assert row["r2"] == pytest.approx(1 - float(((target - found) ** 2).sum() / (target**2).sum()))
    low, high = row["r2_interval"]
    assert low < row["r2"] < high
    assert r2(target, target, objects, seed=0) == {"r2": 1.0, "r2_interval": [1.0, 1.0]}
    assert r2(target * 0, target, objects, seed=0)["r2"] is None


def test_nothing_measured_is_null() -> None:
    assert share("hits", np.zeros(0, dtype=bool), np.zeros((0, 2), dtype=np.int64), seed=0) == {
        "hits": None,
        "hits_interval": None,
    }
