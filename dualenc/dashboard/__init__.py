"""Dashboards as code: what is looked at while a sweep runs, once for Weights & Biases and once as a local page.

    python -m dualenc.dashboard SWEEP [entity=NAME] [project=NAME]
    python -m dualenc.dashboard SWEEP --offline [out=FILE]

The first saves a workspace and a report of the runs that `python -m dualenc.sync SWEEP` has uploaded; it needs the
extra [dashboard], network and `wandb login`. --offline writes the same panels to RUN.DIR/sweeps/NAME/dashboard.html
from the runs' metrics.jsonl; the page loads nothing.
"""

from dualenc.dashboard.spec import Dashboard, Panel, Section, dashboard_of

__all__ = ["Dashboard", "Panel", "Section", "dashboard_of"]
