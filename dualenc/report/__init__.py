"""A report of finished or running trainings, read from their run folders alone.

    python -m dualenc.report RUN [RUN...] [out=FILE]
    python -m dualenc.report --sweep SWEEP [--watch] [out=FILE]

One run: RUN/report.html and its pictures in RUN/figures.zip (PNG and PDF). Several: one page side by side. A sweep:
RUN.DIR/sweeps/NAME/report.html. The pictures of both lie in report-figures beside the page. --watch writes it again
whenever something has changed, until no run is running or waiting, and an open page follows. A page loads nothing, so
it can be sent to a colleague as one file.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualenc.errors import check_output
from dualenc.files import atomic_write
from dualenc.report.folder import Run, read_run, read_summary
from dualenc.report.results import results_text

if TYPE_CHECKING:
    from dualenc.sweep.plan import Plan
    from dualenc.sweep.state import RunState

__all__ = ["Run", "read_run", "read_summary", "results_text", "write_report", "write_sweep_report"]


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the report of `runs` and returns its path.

    out: the page; default RUN/report.html, for several runs report.html in their common parent. Pictures go to
    RUN/figures.zip, one file where quotas of inodes are small; for several runs to a folder beside the page.
    `InputError` for a folder that is no run with metrics.
    """
    from dualenc.report.compare import compare_page
    from dualenc.report.figures import save_all, save_zip
    from dualenc.report.page import run_page

    folders = [Path(run) for run in runs]
    single = len(folders) == 1
    parent = folders[0] if single else Path(os.path.commonpath([folder.resolve().parent for folder in folders]))
    out = out or parent / "report.html"
    read = [read_run(folder) for folder in folders]
    check_output(out, key="out")
    page, drawings = run_page(read[0]) if single else compare_page(read)
    if single:
        save_zip(drawings, parent / "figures.zip")
    else:
        save_all(drawings, out.with_name(f"{out.stem}-figures"))
    atomic_write(out, page)
    return out


def write_sweep_report(
    plan: "Plan", states: "Sequence[RunState]", out: Path | None = None, *, refresh: int | None = None
) -> Path:
    """Writes the report of a sweep whose runs are in these states and returns its path; pictures go beside the page.

    out: default report.html in the sweep's folder; refresh: seconds after which a browser loads the page again.
    """
    from dualenc.report.figures import save_all
    from dualenc.report.sweep import sweep_page

    if out is None:
        plan.folder.mkdir(parents=True, exist_ok=True)
    out = out or plan.folder / "report.html"
    check_output(out, key="out")
    page, drawings = sweep_page(plan, states, folder=out.parent, refresh=refresh)
    save_all(drawings, out.with_name(f"{out.stem}-figures"))
    atomic_write(out, page)
    return out
