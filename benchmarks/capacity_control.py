"""How many scenes the study `capacity` needs before it can tell anything: embeddings that are simple by construction.

    python benchmarks/capacity_control.py [--quick] [--json PATH]

8,192 scenes of two objects of 12 x 12 values; embeddings are a sum over objects of concept vectors and of a product of
them, or a vector for each set of objects that nothing predicts (planted.py beside this, 32 dimensions). An MLP of
width 64 is fitted to scenes of a share of the objects, as by `capacity widths=[64] forest=false steps=1000`; the table
is R^2 on scenes of the others. Where the first is not predicted, the study is too small to say that anything is not.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch

import numpy as np
from common import options, report
from planted import scenes_of

from dualenc.analysis.capacity import capacity
from dualenc.analysis.studies import CapacityOptions


def main() -> None:
    """Measures, prints, writes the JSON."""
    chosen = options(__doc__)
    found = {}
    for structure in ("per_object", "random"):
        every = scenes_of(structure, sizes=(12, 12), dim=32, noise=0.0)
        scenes = every.take(np.sort(np.random.default_rng(0).permutation(every.num_scenes)[:8192]))
        for fit_scenes in (512,) if chosen.quick else (512, 2048, 4096):
            study = CapacityOptions(
                object_probe=False,
                coverages=[0.5, 0.9],
                draws=1 if chosen.quick else 3,
                fit_scenes=fit_scenes,
                widths=[64],
                steps=1000,
                forest=False,
                workers=1,
            )
            for row in capacity([scenes], study)["tables"]["Approximators"]:
                name = f"{structure}/fit_scenes={fit_scenes}/coverage={row['coverage']}"
                found |= {f"{name}/fitted_scenes": row["fitted_scenes"], f"{name}/r2_heldout": row["r2_heldout"]}
    report(found, chosen.json)


if __name__ == "__main__":
    main()
