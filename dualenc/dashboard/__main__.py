"""`python -m dualenc.dashboard SWEEP`: see the package."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from dualenc import dashboard
from dualenc.command import read_command
from dualenc.configs import WANDB_PROJECT, field
from dualenc.dashboard.spec import dashboard_of
from dualenc.errors import EXIT_OK, check_output, run_cli
from dualenc.files import atomic_write
from dualenc.sweep import make_plan, read_sweep
from dualenc.sweep.state import look_at_all


@dataclass
class Options:
    """Of the command."""

    entity: str | None = field(None, "user or team on wandb; null: the default one of who is logged in", identity=False)
    project: str | None = field(
        None,
        "project on wandb; null: the sweep's logging.project",
        identity=False,
        pattern=WANDB_PROJECT,
        expected="at most 128 characters, no / \\ # ? % :",
    )
    out: str | None = field(None, "the page of --offline; null: dashboard.html in the sweep's folder", identity=False)


def main(argv: list[str]) -> int:
    """Publishes the dashboard, or writes the page, and prints where it is."""
    offline = "--offline" in argv
    given = [argument for argument in argv if argument != "--offline"]
    [path], options = read_command(given, Options, names=["SWEEP"], about=dashboard.__doc__ or "")
    for key in ("entity", "project") if offline else ("out",):
        if getattr(options, key) is not None:
            print(f"note: {key} has no effect {'with' if offline else 'without'} --offline", file=sys.stderr)
    plan = make_plan(read_sweep(path))
    shown = dashboard_of(plan)
    if not offline:
        from dualenc.dashboard.publish import publish

        if options.project is not None:
            shown = dataclasses.replace(shown, project=options.project)
        print("\n".join(publish(shown, entity=options.entity)))
        return EXIT_OK

    from dualenc.dashboard.offline import page

    if options.out is None:
        plan.folder.mkdir(parents=True, exist_ok=True)
    out = Path(options.out) if options.out else plan.folder / "dashboard.html"
    check_output(out, key="out")
    atomic_write(out, page(shown, look_at_all(plan)))
    print(out)
    return EXIT_OK


if __name__ == "__main__":
    run_cli(main)
