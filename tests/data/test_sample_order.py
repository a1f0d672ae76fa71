"""The order of training samples: every pass a permutation, every position the same for whoever asks."""

import numpy as np
import pytest

from dualenc.data.order import WINDOW_SHARDS, SampleOrder

SIZES = [10, 10, 10, 4] * 5 + [6]
TOTAL = sum(SIZES)


@pytest.mark.parametrize("paired", [False, True])
def test_every_pass_visits_every_sample_once(paired: bool) -> None:
    order = SampleOrder(SIZES, seed=0, paired=paired)
    passes = [order(epoch * TOTAL, (epoch + 1) * TOTAL) for epoch in range(4)]
    assert order.epoch_length == TOTAL
    for listed in passes:
        assert sorted(listed.tolist()) == list(range(TOTAL))
    assert len({listed.tobytes() for listed in passes}) == 4
    single = SampleOrder([TOTAL], seed=0, paired=paired)
    assert len({single(epoch * TOTAL, (epoch + 1) * TOTAL).tobytes() for epoch in range(4)}) == 4


@pytest.mark.parametrize("paired", [False, True])
def test_a_position_is_the_same_however_it_is_reached(paired: bool) -> None:
    whole = SampleOrder(SIZES, seed=3, paired=paired)(0, 4 * TOTAL)
    rng = np.random.default_rng(0)
    for _ in range(40):
        start, stop = np.sort(rng.integers(0, 4 * TOTAL, 2)).tolist()
        assert np.array_equal(SampleOrder(SIZES, seed=3, paired=paired)(start, stop), whole[start:stop])
    resumed = SampleOrder(SIZES, seed=3, paired=paired)
    steps = [resumed(start, min(start + 7, 4 * TOTAL)) for start in range(0, 4 * TOTAL, 7)]
    assert np.array_equal(np.concatenate(steps), whole)


def test_seeds_are_different_orders() -> None:
    assert len({SampleOrder(SIZES, seed=seed)(0, TOTAL).tobytes() for seed in range(5)}) == 5


def test_pairs_stay_neighbours_in_every_even_batch() -> None:
    order = SampleOrder([10, 10, 7], seed=0, paired=True)
    assert order.epoch_length == 26  # the last odd sample has no partner
    for start in range(0, 26 * 6, 12):
        batch = order(start, start + 12)
        assert np.array_equal(batch[::2] % 2, np.zeros(6))
        assert np.array_equal(batch[1::2], batch[::2] + 1)
    with pytest.raises(ValueError):
        SampleOrder([9, 10], seed=0, paired=True)


def test_a_window_mixes_a_few_shards_and_reads_no_others() -> None:
    order = SampleOrder([50] * 24, seed=0)(0, 1200)
    for start in range(0, 1200, 50 * WINDOW_SHARDS):
        assert len(set((order[start : start + 50 * WINDOW_SHARDS] // 50).tolist())) == WINDOW_SHARDS
    assert np.mean(np.diff(order) == 1) < 0.02
    places = np.array([SampleOrder([50] * 24, seed=seed)(0, 1200).argmin() for seed in range(300)])
    assert abs(places.mean() - 600) < 5 * 1200 / np.sqrt(12 * 300)
