"""A dashboard on Weights & Biases, through its library of workspaces and reports (extra [dashboard])."""

from typing import TYPE_CHECKING, Any

from dualenc.dashboard.spec import Dashboard, Panel, Section
from dualenc.errors import InputError, one_line

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

EXAMPLES = "examples"  # what dualenc.sync calls the table of worst-bound scenes
_MAX_RUNS = 100  # lines of a chart


def publish(dashboard: Dashboard, *, entity: str | None) -> list[str]:
    """Saves the workspace and the report; their addresses. InputError where wandb refuses or cannot be reached.

    entity: the user or team on wandb; None: the default one of who is logged in.
    """
    _library()
    import wandb

    try:
        owner = entity or str(wandb.Api().default_entity)
        saved = [workspace_of(dashboard, entity=owner).save(), report_of(dashboard, entity=owner).save()]
    except Exception as error:  # whatever the network, its server and its library think of
        raise InputError(
            f"entity: wandb cannot save the dashboard: {one_line(error)}; log in with wandb login and see that its "
            "server is reachable, or use --offline"
        ) from None
    return [each.url for each in saved]


def workspace_of(dashboard: Dashboard, *, entity: str) -> "workspaces.Workspace":
    """The workspace: a view of the project that shows the sweep's runs alone."""
    _, ws = _library()
    return ws.Workspace(
        entity=entity,
        project=dashboard.project,
        name=f"sweep {dashboard.sweep}",
        sections=[
            ws.Section(name=section.title, panels=_panels(section, dashboard), is_open=True)
            for section in dashboard.sections
        ],
        runset_settings=ws.RunsetSettings(filters=_of_sweep(dashboard)),
    )


def report_of(dashboard: Dashboard, *, entity: str) -> "reports.Report":
    """The report: the same panels on a page that can be written into."""
    wr, _ = _library()
    runs = wr.Runset(project=dashboard.project, entity=entity, name=dashboard.sweep, filters=_of_sweep(dashboard))
    blocks: list[Any] = [wr.TableOfContents()]
    for section in dashboard.sections:
        blocks += [wr.H2(section.title), wr.PanelGrid(runsets=[runs], panels=_panels(section, dashboard))]
    title = f"Sweep {dashboard.sweep}"
    return wr.Report(project=dashboard.project, entity=entity, title=title, blocks=blocks, width="fluid")


def _of_sweep(dashboard: Dashboard) -> Any:
    """`dualenc.sync` makes the sweep's name the group of its runs."""
    _, ws = _library()
    return ws.And(ws.Metric("Group") == dashboard.sweep)


def _panels(section: Section, dashboard: Dashboard) -> list[Any]:
    return [_panel(panel, dashboard.axis) for panel in section.panels]


def _panel(panel: Panel, axis: str | None) -> Any:
    wr, _ = _library()
    if panel.kind == "examples":
        return wr.WeavePanelSummaryTable(table_name=EXAMPLES)
    if panel.kind == "axis":
        return wr.ScatterPlot(title=panel.title, x=wr.Config(axis), y=wr.SummaryMetric(panel.metric))
    means = {"groupby": wr.Config(axis), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"} if axis else {}
    return wr.LinePlot(title=panel.title, x="samples", y=[panel.metric], max_runs_to_show=_MAX_RUNS, **means)


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise InputError(
            "dualenc.dashboard: wandb-workspaces is not installed; pip install 'dualenc[dashboard]', or use --offline"
        ) from None
    return reports, workspaces
