"""What a training or an evaluation opens, and what is refused before anything is made."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from damage import edit_description

from dualenc.config import Config, DataConfig, ModelConfig, SceneTowerConfig, SymbolicConfig
from dualenc.data import Dataset
from dualenc.data.open import open_data, symbolic_sampler
from dualenc.errors import InputError
from dualenc.reopen import reopen
from dualenc.run import RunFolder, read_config

MODEL = ModelConfig(preset="tiny", scene=SceneTowerConfig(kind="symbolic"))


def test_an_odd_batch_is_refused_where_scenes_come_in_pairs(copy: Path) -> None:
    data = DataConfig(path=str(copy))
    with pytest.raises(InputError, match=r"trainer\.batch_size: 33 is odd"):
        open_data(data, MODEL, batch_size=33)
    assert not (copy / ".cache").exists()
    for batch_size in (32, None):
        assert open_data(data, MODEL, batch_size=batch_size)[1] == Dataset(copy).hash


@pytest.mark.parametrize(("rate", "refused"), [(0.5, True), (0.0, False)])
def test_an_odd_batch_is_refused_before_the_dataset_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, refused: bool
) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.chdir(tmp_path)
    numbers = "num_samples: {train: 20, val: 0, val_ood: 0, ood: 0, mixed: 0}"
    (tmp_path / "tiny.yaml").write_text(f"data: {{collision_rate: {rate}, num_workers: 1, {numbers}}}\n")
    data = DataConfig(generate="tiny.yaml")
    if not refused:
        assert len(open_data(data, MODEL, batch_size=33)[0]) == 20  # type: ignore[arg-type]
        return
    with pytest.raises(InputError, match=r"trainer\.batch_size: 33 is odd"):
        open_data(data, MODEL, batch_size=33)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"coverage": 0.05}, "data.symbolic.coverage: 0.05 gives 3 training objects"),
        ({"val_fraction": 1.0}, "data.symbolic.val_fraction: 1.0 is not a share"),
        ({"objects": {1: 0.0}}, "data.symbolic.objects: {1: 0.0} is no distribution"),
        ({"objects": {13: 1.0}}, "data.symbolic.objects: 13 objects in a scene are too many"),
        ({"objects": {1: 1.0}, "collision_rate": 0.5}, "data.symbolic.collision_rate: 0.5 cannot be reached"),
        ({"num_concepts": 0}, "data.symbolic.num_concepts: 0 is not a count"),
        ({"num_values": 0}, "data.symbolic.num_values: 0 is not a count"),
        ({"num_concepts": 8, "num_values": 50}, "data.symbolic.num_values: 39,062,500,000,000 objects are too many"),
        ({"num_concepts": 70, "num_values": 2}, "data.symbolic.num_values: more than 2^62 objects"),
        ({"num_concepts": 3, "split": "checkerboard"}, "data.symbolic.split: checkerboard needs two concepts"),
    ],
)
def test_symbolic_scenes_are_refused_by_the_key_that_was_typed(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        symbolic_sampler(DataConfig(kind="symbolic", symbolic=SymbolicConfig(**changes)))
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_the_coverage_of_a_sweep_is_refused_under_its_own_key() -> None:
    data = DataConfig(kind="symbolic", coverage=0.99, symbolic=SymbolicConfig(coverage=0.99))
    with pytest.raises(InputError, match=r"^data\.coverage: 0\.99 holds out"):
        symbolic_sampler(data)


def test_an_unfinished_run_is_measured_on_its_own_data_only(copy: Path, tmp_path: Path) -> None:
    config = Config()
    config.run.dir = str(tmp_path / "runs")
    config.data, config.model = DataConfig(path=str(copy)), MODEL
    run = RunFolder.of(config, Dataset(copy).hash)
    run.open(config)
    loaded: Any = SimpleNamespace(folder=run.path, config=read_config(run.path))
    assert reopen(loaded).num_samples("ood") == 30
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    edit_description(other, lambda meta: meta["config"].update(name="other"), rehash=True)
    loaded.config.data = replace(loaded.config.data, path=str(other))
    with pytest.raises(InputError, match=r"data\.path: .*other has the hash .* was trained on another dataset"):
        reopen(loaded)
