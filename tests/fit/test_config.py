"""The config tree: every leaf has its class, every shipped config loads, and the hash is a function of identity."""

from pathlib import Path

import pytest
from fit_commands import ROOT

from dualenc import config as configuration
from dualenc import configs
from dualenc.config import LOSS_NAMES, Config, identity
from dualenc.errors import InputError

NOT_IDENTITY = {
    "run.name",
    "run.dir",
    "run.report",
    "data.path",
    "data.generate",
    "data.coverage",
    "data.seed",
    "data.num_workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.nodes",
    "trainer.threads",
    "trainer.compile",
    "trainer.timeout",
    "trainer.checkpoint_seconds",
    "eval.batch_size",
    "eval.worst_scenes",
    "logging.wandb",
    "logging.project",
    "logging.every",
    "logging.progress",
}
IDENTITY = {
    "run.seed",
    "data.kind",
    "data.queries.captions",
    "data.queries.objects",
    "data.queries.concepts",
    "data.edits",
    "data.edits_per_scene",
    *(f"data.symbolic.{name}" for name in ("num_concepts", "num_values", "split", "coverage", "seed")),
    *(f"data.symbolic.{name}" for name in ("val_fraction", "objects", "collision_rate", "num_samples")),
    "model.preset",
    "model.output_dim",
    "model.initial_logit_scale",
    "model.max_logit_scale",
    "model.scene.patch_size",
    *(
        f"model.{tower}.{name}"
        for tower in ("scene", "query")
        for name in ("kind", "width", "depth", "heads", "mlp_ratio", "readout", "dropout")
    ),
    "loss.weights",
    "loss.targets",
    *(f"optim.{name}" for name in ("lr", "weight_decay", "betas", "warmup", "final_lr", "clip")),
    "trainer.max_samples",
    "trainer.batch_size",
    "trainer.precision",
    "eval.every",
    "eval.num_scenes",
}


def test_every_leaf_is_listed_in_one_class() -> None:
    leaves = configs.leaf_keys(Config)
    assert {key for key, is_identity in leaves.items() if is_identity} == IDENTITY
    assert {key for key, is_identity in leaves.items() if not is_identity} == NOT_IDENTITY


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = configuration.load(path, [])
    (tmp_path / "config.yaml").write_text(configs.to_yaml(config))
    assert configuration.load(tmp_path / "config.yaml", []) == config


def shards(*overrides: str) -> Config:
    return configuration.load(None, ["data.path=somewhere", *overrides])


def digest(config: Config, dataset: str = "d") -> str:
    return configs.short_hash(identity(config, dataset))


@pytest.mark.parametrize(
    "override", ["run.name=x", "run.dir=y", "data.num_workers=7", "trainer.threads=5", "data.path=elsewhere"]
)
def test_what_does_not_change_the_result_does_not_change_the_hash(override: str) -> None:
    assert digest(shards(override)) == digest(shards())


@pytest.mark.parametrize("override", ["run.seed=1", "optim.lr=0.01", "trainer.batch_size=128", "model.preset=tiny"])
def test_what_changes_the_result_changes_the_hash(override: str) -> None:
    assert digest(shards(override)) != digest(shards())


def test_the_dataset_is_part_of_the_identity_and_unused_symbolic_settings_are_not() -> None:
    assert digest(shards(), "a") != digest(shards(), "b")
    assert digest(shards("data.symbolic.num_values=9")) == digest(shards())
    symbolic = ["data.kind=symbolic", "model.scene.kind=symbolic"]
    one, other = (configuration.load(None, [*symbolic, f"data.coverage={c}"]) for c in (0.5, 0.6))
    assert one.data.symbolic.coverage == 0.5
    assert digest(one) != digest(other)


def test_presets_fill_in_what_is_left_open() -> None:
    config = shards("model.preset=tiny", "model.query.depth=5")
    assert (config.model.scene.width, config.model.scene.depth, config.model.query.depth) == (96, 2, 5)
    assert shards().model.scene.width == 512


def test_loss_names_are_those_of_the_registry() -> None:
    from dualenc.losses import LOSSES

    assert tuple(LOSSES) == LOSS_NAMES


def test_help_shows_every_key() -> None:
    text = configs.help_text(Config)
    for key in configs.leaf_keys(Config):
        assert key in text


def test_a_misspelt_key_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"trainer\.max_sample: unknown key; did you mean trainer\.max_samples"):
        shards("trainer.max_sample=3")
    with pytest.raises(InputError, match=r"model\.widht: unknown key; did you mean model\.scene\.width"):
        shards("model.widht=3")
