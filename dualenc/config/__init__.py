"""The one tree of settings of a training run: `python -m dualenc.fit --help` prints it.

A run is a function of its identity fields (their hash names the run folder) and nothing else; fields marked
`identity=False` say where and how fast it runs. This room knows no torch: a wrong config is refused in a moment.
"""

import math
from pathlib import Path
from typing import Any

from dualenc import configs
from dualenc.config.checks import check, check_batch_holds_pairs, notes
from dualenc.config.tree import (
    LOSS_NAMES,
    LOSS_PRESETS,
    MULTIPLICATIVE,
    PRESETS,
    STARTS,
    TRANSFORMER,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    QueryTowerConfig,
    SceneTowerConfig,
    SymbolicConfig,
    TowerConfig,
    TrainerConfig,
    loss_terms,
    reads_further_texts,
    reads_queries_of_scenes,
    used_losses,
)

__all__ = [
    "LOSS_NAMES",
    "MULTIPLICATIVE",
    "PRESETS",
    "STARTS",
    "TRANSFORMER",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "QueryTowerConfig",
    "SceneTowerConfig",
    "SymbolicConfig",
    "TrainerConfig",
    "check_batch_holds_pairs",
    "identity",
    "load",
    "loss_terms",
    "notes",
    "reads_further_texts",
    "reads_queries_of_scenes",
    "resolve",
    "round_up",
    "used_losses",
]

CONFIG_VERSION = 2


def load(path: str | Path | None, overrides: list[str]) -> Config:
    """The checked and resolved config: defaults, then the file, then `key=value`s, presets filled in."""
    config = configs.load(Config, path, overrides)
    if config.loss.preset is not None:
        config = configs.load(Config, path, overrides, defaults={"loss": LOSS_PRESETS[config.loss.preset]})
    resolve(config)
    return config


def resolve(config: Config) -> None:
    """Fills in, in place, what depends on other settings; InputError for a combination that is impossible."""
    _resolve(config)
    check(config)


def _resolve(config: Config) -> None:
    preset = PRESETS[config.model.preset]
    config.model.output_dim = config.model.output_dim or preset["output_dim"]
    for tower in (config.model.scene, config.model.query):
        tower.width = tower.width or preset["width"]
        tower.depth = tower.depth or preset["depth"]
        tower.heads = tower.heads or preset["heads"]
    if config.model.query.kind == "multiplicative":
        config.model.query.rank = config.model.query.rank or config.model.output_dim
    siglip = config.loss.siglip.weight > 0
    if config.model.initial_logit_scale is None:
        config.model.initial_logit_scale = 10.0 if siglip and not config.loss.infonce.weight else 1 / 0.07
    if config.model.initial_logit_bias is None and siglip:
        config.model.initial_logit_bias = -10.0
    if config.data.kind == "symbolic":
        if config.data.coverage is not None:
            config.data.symbolic.coverage = config.data.coverage
        if config.data.seed is not None:
            config.data.symbolic.seed = config.data.seed


def round_up(config: Config) -> str | None:
    """Makes max_samples whole batches, in place; the note to print where it was not."""
    asked, batch = config.trainer.max_samples, config.trainer.batch_size
    config.trainer.max_samples = math.ceil(asked / batch) * batch
    if config.trainer.max_samples == asked:
        return None
    return (
        f"note: trainer.max_samples={asked} is no multiple of trainer.batch_size={batch}; "
        f"rounded up to {config.trainer.max_samples}"
    )


def identity(config: Config, dataset_hash: str) -> dict[str, Any]:
    """What the run's result depends on, as plain values: the hash of it names the run folder."""
    values = configs.identity_dict(config)
    if config.data.kind == "shards":
        del values["data"]["symbolic"]
    for tower in ("scene", "query"):
        for name in STARTS:
            if values["model"][tower][name] == getattr(TowerConfig, name):
                del values["model"][tower][name]
    unread = TRANSFORMER if config.model.query.kind == "multiplicative" else MULTIPLICATIVE
    for name in unread:
        values["model"]["query"].pop(name, None)
    for name in set(LOSS_NAMES) - used_losses(config.loss).keys():
        del values["loss"][name]
    del values["loss"]["preset"]
    return {"version": CONFIG_VERSION, "dataset": dataset_hash, **values}
