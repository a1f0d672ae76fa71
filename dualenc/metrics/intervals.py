"""Bootstrap intervals over objects and split seeds, not scenes.

Scenes of one test set share objects, so they are not independent draws: resampling scenes alone gives intervals
that are too narrow. Here objects (and seeds) are resampled with replacement, and a scene gets the PRODUCT of the
weights of its distinct objects (and its seed): it occurs as often as its combination of objects does in the
resampled world. This is the pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
2007), valid for crossed factors and mildly conservative. A sum of weights would shrink an object's influence on
the mean by the number of objects in the scene, and so the interval with it.
"""

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from dualenc.metrics.distinct import first_of_each

_CHUNK = 2**22  # weights gathered at once: 32 MiB


def object_bootstrap(
    outcomes: Shaped[np.ndarray, "n"],
    objects: Int[np.ndarray, "n m"],
    *,
    denominators: Float[np.ndarray, "n"] | None = None,
    split_seeds: Int[np.ndarray, "n"] | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval (low, high) of the weighted mean of `outcomes` (bool or float, one per scene).

    `objects` are the ids in each scene, padded with -1. With `denominators` the statistic is the ratio
    sum(outcomes) / sum(denominators); for the binding gain pass recognised - ceiling and 1 - ceiling over the
    scenes with ceiling < 1. `split_seeds` names the run of each scene when several are pooled; an id means the
    same object in all of them, so seeds and objects are crossed. Resamples in which no scene survives are left
    out. None with fewer than two objects, or if no resample is left: no spread can be estimated then. Where all
    outcomes are equal the interval is a point, as with any percentile bootstrap.
    """
    if denominators is None:
        denominators = np.ones(len(outcomes))
    ordered = np.sort(objects, axis=1)
    distinct = first_of_each(ordered)
    names, slot = np.unique(ordered[distinct], return_inverse=True)
    if len(names) < 2:
        return None
    slots = np.full(ordered.shape, len(names), dtype=np.int64)
    slots[distinct] = slot
    seeds, seed_of = np.unique(np.zeros(len(outcomes)) if split_seeds is None else split_seeds, return_inverse=True)

    rng = np.random.default_rng(seed)
    statistics = []
    step = max(1, _CHUNK // max(slots.size, len(names)))
    for start in range(0, num_resamples, step):
        size = min(step, num_resamples - start)
        weights = _draws(rng, len(names), size, pad=True)[:, slots].prod(axis=2)
        weights *= _draws(rng, len(seeds), size, pad=False)[:, seed_of]
        total = weights @ denominators.astype(np.float64)
        statistics.append((weights @ outcomes.astype(np.float64))[total > 0] / total[total > 0])
    kept = np.concatenate(statistics)
    if not len(kept):
        return None
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draws(rng: np.random.Generator, count: int, size: int, *, pad: bool) -> Float64[np.ndarray, "size _"]:
    """How often each of `count` things is drawn in `count` draws; `pad` adds a column of ones for padding."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
    return np.concatenate([drawn, np.ones((size, 1))], axis=1) if pad else drawn
