"""The object bootstrap: reproducible, covering, and wider than a scene bootstrap where it must be."""

import numpy as np
import pytest

from dualenc.metrics import object_bootstrap


def dyads(rng: np.random.Generator, num_objects: int, n: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Scenes of two objects whose outcome is the sum of two object effects of mean 0, plus a little noise."""
    effect = rng.normal(0, spread, num_objects)
    objects = np.stack([rng.choice(num_objects, 2, replace=False) for _ in range(n)])
    return effect[objects].sum(axis=1) + rng.normal(0, 0.1, n), objects


def test_is_a_function_of_the_seed():
    outcomes, objects = dyads(np.random.default_rng(0), 20, 300, 1.0)
    first = object_bootstrap(outcomes, objects, seed=1)
    assert first == object_bootstrap(outcomes, objects, seed=1)
    assert first != object_bootstrap(outcomes, objects, seed=2)
    assert first[0] < outcomes.mean() < first[1]
    narrow = object_bootstrap(outcomes, objects, seed=1, level=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]


def test_covers_the_truth_where_a_scene_bootstrap_does_not():
    rng = np.random.default_rng(0)
    covered, width, scene_width = 0, 0.0, 0.0
    for trial in range(60):
        outcomes, objects = dyads(rng, 30, 400, 1.0)
        low, high = object_bootstrap(outcomes, objects, num_resamples=200, seed=trial)
        covered += low < 0 < high
        width += (high - low) / 60
        scene_width += 2 * 1.96 * outcomes.std() / 20 / 60
    assert covered >= 51  # 95% nominal
    assert width == pytest.approx(2 * 1.96 * 2 / np.sqrt(30), rel=0.2)  # sd of the mean: 2 spread / sqrt(objects)
    assert width > 3 * scene_width


def test_one_object_per_scene_is_the_ordinary_cluster_bootstrap():
    outcomes = np.repeat([1.0, 0.0, 0.0, 0.0], 5)
    objects = np.repeat(np.arange(4), 5)[:, None]
    low, high = object_bootstrap(outcomes, objects, num_resamples=4000)
    assert (low, high) == (0.0, 0.75)  # quantiles of binomial(4, 1/4) / 4
    padded = np.concatenate([objects, np.full((20, 1), -1), objects], axis=1)  # padding, identical objects
    assert object_bootstrap(outcomes, padded, num_resamples=4000) == (low, high)


def test_ratio_and_bool_outcomes():
    rng = np.random.default_rng(0)
    objects = np.stack([rng.choice(10, 2, replace=False) for _ in range(200)])
    recognised = rng.random(200) < 0.7
    low, high = object_bootstrap(recognised, objects)
    assert 0 < low < recognised.mean() < high < 1
    half = object_bootstrap(recognised, objects, denominators=np.full(200, 0.5))
    assert half == pytest.approx((2 * low, 2 * high))


def test_split_seeds_are_resampled_too():
    """Two runs that disagree: resampling them widens the interval to hold both."""
    rng = np.random.default_rng(0)
    objects = np.stack([rng.choice(50, 2, replace=False) for _ in range(2000)])
    runs = np.repeat([7, 9], 1000)
    outcomes = (rng.random(2000) < np.where(runs == 7, 0.2, 0.8)).astype(float)
    alone, with_seeds = object_bootstrap(outcomes, objects), object_bootstrap(outcomes, objects, split_seeds=runs)
    assert 0.4 < alone[0] < alone[1] < 0.6
    assert with_seeds[0] < 0.25
    assert with_seeds[1] > 0.75


def test_one_object_says_nothing_about_spread():
    assert object_bootstrap(np.ones(5), np.zeros((5, 1), dtype=np.int64)) is None
