"""The config tree: every leaf has its class, every shipped config loads, and the hash is a function of identity."""

from inspect import signature
from pathlib import Path

import pytest
from fit_commands import ROOT

from dualenc import config as configuration
from dualenc import configs
from dualenc.config import LOSS_NAMES, STARTS, Config, LossConfig, identity, used_losses
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
    "trainer.chunks",
    "trainer.compile",
    "trainer.activation_checkpointing",
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
        for name in ("kind", "width", "depth", "heads", "mlp_ratio", "readout", "dropout", *STARTS)
    ),
    "model.query.rank",
    "model.query.variant",
    "model.initial_logit_bias",
    "data.paraphrases",
    "loss.preset",
    "loss.targets",
    *(f"loss.{name}.weight" for name in LOSS_NAMES),
    "loss.infonce.edits",
    "loss.siglip.edits",
    *(f"loss.recognition.{name}" for name in ("num_concepts", "num_objects", "num_random", "num_swaps", "negatives")),
    *(f"loss.cka.{name}" for name in ("kernel", "debiased", "sigma")),
    *(f"loss.svd.{name}" for name in ("k", "alpha", "beta", "effective_rank", "center", "scale")),
    *(f"loss.clip_svd.{name}" for name in ("gamma", "k", "alpha", "beta")),
    "loss.hard_negatives.form",
    "loss.hard_negatives.margin",
    "loss.alignment.power",
    "loss.uniformity.t",
    "trainer.share_identical",
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


SHIPPED = sorted(path for folder in (".", "symbolic") for path in (ROOT / "configs" / folder).glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
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


def test_losses_of_the_config_are_those_of_the_registry_with_the_same_options() -> None:
    from dualenc.losses import LOSSES

    assert tuple(LOSSES) == LOSS_NAMES
    for name, loss in LOSSES.items():
        options = {key: p.default for key, p in signature(loss).parameters.items() if p.kind is p.KEYWORD_ONLY}
        block = configs.plain_dict(getattr(LossConfig(), name))
        assert {name: value for name, value in block.items() if name != "weight"} == options


def test_losses_that_are_not_used_do_not_change_the_hash() -> None:
    assert digest(shards("loss.svd.k=5", "loss.cka.kernel=rbf")) == digest(shards())
    assert digest(shards("loss.svd.weight=1", "loss.svd.k=5")) != digest(shards("loss.svd.weight=1"))


def test_only_an_unusual_start_of_a_transformer_is_part_of_the_identity() -> None:
    assert not set(STARTS) & identity(shards(), "d")["model"]["scene"].keys()
    assert identity(shards("model.scene.attention_gain=3"), "d")["model"]["scene"]["attention_gain"] == 3
    assert digest(shards("model.query.position_std=0.4")) != digest(shards())


def test_a_preset_stands_behind_the_file_and_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("loss: {preset: released-sparse-latents, clip_svd: {k: 4}}\ndata: {path: d}")
    config = configuration.load(tmp_path / "c.yaml", ["loss.clip_svd.beta=0.7"])
    used = used_losses(config.loss)
    assert list(used) == ["clip_svd"]
    assert (used["clip_svd"].k, used["clip_svd"].alpha, used["clip_svd"].beta) == (4, 1.0, 0.7)
    written = shards("loss.infonce.weight=0", "loss.clip_svd.weight=1", "loss.clip_svd.k=4", "loss.clip_svd.beta=0.7")
    assert digest(written) == digest(config)  # what counts is the values, not how they were said


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss.infonce.weight=0", "loss.svd.weight=1", "data.edits=[]"], "nothing in svd keeps the towers"),
        (["loss.infonce.weight=0", "loss.siglip.weight=1", "loss.siglip.edits=false"], "data.edits has no effect"),
        (["loss.svd.effective_rank=-1"], "loss.svd.effective_rank has no effect: loss.svd.weight is 0"),
        (["data.edits=[]", "data.edits_per_scene=3"], "data.edits_per_scene has no effect"),
        (["data.symbolic.num_values=7"], "data.symbolic has no effect"),
        (["loss.hard_negatives.weight=1", "loss.hard_negatives.form=columns"], "the same loss, twice"),
        (["loss.cka.weight=1", "loss.cka.sigma=1"], "loss.cka.sigma has no effect"),
        (
            ["loss.hard_negatives.weight=1", "loss.hard_negatives.margin=0.5"],
            "loss.hard_negatives.margin has no effect",
        ),
        (
            [
                "loss.infonce.weight=0",
                "loss.recognition.weight=1",
                "data.edits=[]",
                "data.queries={captions: 0.4, objects: 0.4, concepts: 0.2}",
            ],
            "data.queries has no effect",
        ),
        (["model.scene.kind=objects", "model.scene.position_std=0.4"], "model.scene.position_std has no effect"),
        (["loss.recognition.weight=1", "loss.recognition.negatives=all"], "loss.recognition.negatives=all shows"),
        (
            ["loss.infonce.weight=0", "loss.uniformity.weight=1", "data.edits=[]", "loss.targets=diagonal"],
            "loss.targets",
        ),
    ],
)
def test_what_has_no_effect_or_is_dangerous_is_said(overrides: list[str], said: str) -> None:
    (line,) = configuration.notes(shards(*overrides))
    assert said in line
    assert configuration.notes(shards()) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.query.kind=symbolic", "data.queries={captions: 0, objects: 0.6, concepts: 0.4}"],
        ["loss.targets=diagonal"],
    ],
)
def test_paraphrases_that_cannot_be_true_texts_are_refused(overrides: list[str]) -> None:
    shards(*overrides)
    with pytest.raises(InputError, match=r"^data\.paraphrases: .*set it to 0"):
        shards(*overrides, "data.paraphrases=1")


def test_siglip_starts_at_its_own_temperature_and_bias() -> None:
    alone = shards("loss.siglip.weight=1", "loss.infonce.weight=0").model
    assert (alone.initial_logit_scale, alone.initial_logit_bias) == (10.0, -10.0)
    assert shards("loss.siglip.weight=1").model.initial_logit_scale == 1 / 0.07
    assert shards().model.initial_logit_bias is None


def test_help_shows_every_key() -> None:
    text = configs.help_text(Config)
    for key in configs.leaf_keys(Config):
        assert key in text


def test_a_misspelt_key_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"trainer\.max_sample: unknown key; did you mean trainer\.max_samples"):
        shards("trainer.max_sample=3")
    with pytest.raises(InputError, match=r"model\.widht: unknown key; did you mean model\.scene\.width"):
        shards("model.widht=3")
