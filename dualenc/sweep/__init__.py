"""Many runs from one file: which there are, which are done, and running the others.

    python -m dualenc.sweep show SWEEP
    python -m dualenc.sweep run SWEEP all|INDEX [INDEX ...] [jobs=N] [packed=K]

Nothing here imports torch: every run is `python -m dualenc.fit` in a process of its own.
"""

from dualenc.sweep.plan import Plan, PlannedRun, make_plan
from dualenc.sweep.spec import Sweep, read_sweep
from dualenc.sweep.state import RunState, State, look

__all__ = ["Plan", "PlannedRun", "RunState", "State", "Sweep", "look", "make_plan", "read_sweep"]
