"""Controlled CLIP-like dual encoders: scenes, training, measurement.

    import dualenc
    model = dualenc.load("runs/NAME-HASH")

Importing this package imports neither torch nor Lightning; `load` needs torch only.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dualenc.loading import LoadedModel

__version__ = "0.1.0"


def load(run: str | Path, weights: Literal["last", "best"] = "last") -> "LoadedModel":
    """The trained model in a run folder, or in a folder that `python -m dualenc.export` made.

    weights: `last`, or `best`: those chosen on val_ood. Of a run that is not finished, `last` is the newest checkpoint.
    InputError (a ValueError) where there is no such run or no such weights, in one line with the fix.
    """
    from dualenc.run import check_run

    check_run(Path(run), weights=weights)

    from dualenc.loading import load_model  # imports torch, which takes seconds

    return load_model(Path(run), weights=weights)
