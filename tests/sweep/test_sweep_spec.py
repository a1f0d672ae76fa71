"""Sweep files: which runs they mean, and what is refused."""

from pathlib import Path

import pytest

from dualenc import config as configuration
from dualenc import configs
from dualenc.data.open import open_data
from dualenc.errors import InputError
from dualenc.run import RunFolder
from dualenc.sweep import Sweep, make_plan, read_sweep
from dualenc.sweep.spec import as_text

ROOT = Path(__file__).resolve().parents[2]
SYMBOLIC = f"base: {ROOT}/configs/symbolic.yaml\n"


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reads a sweep from text, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, base: str = SYMBOLIC) -> Sweep:
        path = tmp_path / "some.yaml"
        path.write_text(base + text)
        return read_sweep(path)

    return read


def test_axes_multiply_in_the_order_of_the_file_and_the_last_varies_fastest(sweep) -> None:
    found = sweep(
        "zip: {run.seed: [0, 1], data.seed: [5, 6]}\n"
        "grid: {data.coverage: [0.3, 0.5], optim.lr: [1, 2]}\n"
        "list: [{loss.targets: truth}, {loss.targets: diagonal, loss.svd.k: 2}]"
    )
    assert len(found.points) == 2 * 4 * 2
    assert found.points[1] == {
        "run.seed": 0, "data.seed": 5, "data.coverage": 0.3, "optim.lr": 1, "loss.targets": "diagonal", "loss.svd.k": 2,
    }  # fmt: skip
    order = [(point["run.seed"], point["data.coverage"], point["optim.lr"]) for point in found.points]
    assert order == sorted(order)
    assert found.points == sweep(found.path.read_text(), base="").points


def test_excluded_runs_are_gone_before_the_others_are_numbered(sweep) -> None:
    axes = "grid: {run.seed: [0, 1, 2], data.coverage: [0.3, 0.5]}\n"
    found = sweep(axes + "exclude: [{run.seed: [0, 1], data.coverage: 0.5}, {run.seed: 7}]")
    assert [tuple(point.values()) for point in found.points] == [(0, 0.3), (1, 0.3), (2, 0.3), (2, 0.5)]
    assert found.notes == ["note: exclude.1 has no effect: no run has {'run.seed': 7}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grids: {run.seed: [0]}", r"grids: unknown key of the sweep .*; did you mean grid"),
        ("grid: {run.sed: [0]}", "run.sed: unknown key; did you mean run.seed"),
        ("grid: {seed: [0]}", "seed: unknown key; did you mean"),
        ("overrides: {loss.infonc.weight: 1}", "loss.infonc: unknown key; did you mean loss.infonce"),
        ("grid: {run.seed: 3}", r"grid.run.seed: expected a list of values, e.g. \[0, 1, 2\]; got 3"),
        ("grid: [run.seed]", "grid: expected full keys of the config"),
        ("list: {run.seed: [0]}", "list: expected a list of mappings"),
        ("zip: {run.seed: [0, 1], data.seed: [0]}", "zip: .*run.seed has 2, data.seed has 1; give each as many"),
        ("grid: {run.seed: [0]}\nzip: {run.seed: [1]}", "run.seed: is given by two axes of the sweep; keep"),
        ("grid: {run.seed: [0]}\nexclude: [{run.seed: 0}]", "exclude: no run is left"),
        ("grid: {run.seed: [0]}\nexclude: [{data.seed: 0}]", "exclude.0.data.seed: is no axis of the sweep"),
        ("threshold: 3", "threshold: expected keys and values"),
        (f"grid: {{run.seed: {list(range(1000))}, data.seed: {list(range(1000))}}}", "has 1,000,000 runs"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_line(sweep, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        sweep(text)
    assert "\n" not in str(refused.value)


def test_a_sweep_without_a_base_is_refused(sweep) -> None:
    with pytest.raises(InputError, match=r"base: in .*: name the config file of the runs"):
        sweep("grid: {run.seed: [0]}", base="")


@pytest.mark.parametrize(
    "value", [3, 1e-5, -0.5, True, None, "truth", "1", "a b", "null", "", [1, "x"], {2: 1.0, 3: 0.5}]
)
def test_a_value_survives_the_command_line(value: object) -> None:
    import yaml

    assert yaml.safe_load(as_text(value)) == value
    assert "\n" not in as_text(value)


def test_every_run_is_what_fit_makes_of_its_command(sweep) -> None:
    """The quick way to a config gives the same run folder as `python -m dualenc.fit` with the same arguments."""
    found = sweep(
        "overrides: {data.symbolic.objects: {2: 0.5, 3: 0.5}}\n"
        "list:\n- {loss.preset: sparse-latents}\n- {loss.siglip.weight: 1.0, loss.infonce.weight: 0}\n"
        "- {data.symbolic.objects.4: 1.0}\n- {model: {preset: base}}\n- {model.preset: base, optim.lr: 1}\n- {}\n"
        "grid: {data.coverage: [0.3, 0.5], run.seed: [0, 1], trainer.max_samples: [1000]}"
    )
    plan = make_plan(found)
    assert len(plan.runs) == 24
    for run in plan.runs:
        config = configuration.load(run.arguments[0], run.arguments[1:])
        configuration.round_up(config)
        assert run.folder == RunFolder.of(config, "symbolic")
        assert run.max_samples == 1024
    assert len({run.folder.hash for run in plan.runs if run.folder}) == 24


def test_a_run_with_wrong_values_fails_alone(sweep) -> None:
    plan = make_plan(sweep("grid: {data.coverage: [0.3, 1.5], model.scene.heads: [4, 7]}"))
    assert [run.error for run in plan.runs] == [
        None,
        "model.scene.heads: 7 does not divide model.scene.width=96",
        "data.coverage: 1.5 is out of range; give a number above 0 and at most 1",
        "data.coverage: 1.5 is out of range; give a number above 0 and at most 1",
    ]


def test_what_is_wrong_for_all_runs_is_said_at_once(sweep) -> None:
    with pytest.raises(InputError, match=r"trainer.batch_size: -1 is out of range"):
        make_plan(sweep("overrides: {trainer.batch_size: -1}\ngrid: {run.seed: [0, 1]}"))
    with pytest.raises(InputError, match=r"loss: every weight is 0.*so it is for all runs of"):
        make_plan(sweep("overrides: {loss.infonce.weight: 0}\ngrid: {run.seed: [0, 1]}"))


def test_an_axis_that_changes_no_result_is_said_to(sweep) -> None:
    plan = make_plan(sweep("grid: {trainer.threads: [1, 2]}"))
    assert "1 runs of" in plan.notes[0]
    assert "some axis changes no result" in plan.notes[0]


def test_axes_stand_over_the_overrides(sweep) -> None:
    found = sweep("overrides: {run.seed: 7, optim.lr: 1}\nlist: [{run.seed: 0}, {run.seed: 1, optim.lr: 2}]")
    assert found.arguments(found.points[1])[1:] == ["run.seed=1", "optim.lr=2"]
    assert found.notes == ["note: overrides.run.seed has no effect: an axis sets it in every run"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_sweeps_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(path)
    assert len(sweep.points) > 10
    configs.load(configuration.Config, None, sweep.arguments(sweep.points[0])[1:])


def test_no_run_of_the_smoke_sweep_is_refused_once_it_trains() -> None:
    """What a split can hold out is known only where the objects are drawn."""
    sweep = read_sweep(ROOT / "configs" / "sweeps" / "smoke.yaml")
    for point in sweep.points:
        config = configuration.load(str(sweep.base), sweep.arguments(point)[1:])
        sampler, _ = open_data(config.data, config.model, batch_size=config.trainer.batch_size)
        assert len(sampler.split.ood) >= 2 * sampler.max_objects
