"""What no single value tells: combinations that are impossible, and settings without effect (law 8)."""

import math
from typing import Any

from dualenc import configs
from dualenc.config.tree import (
    LOSS_NAMES,
    MULTIPLICATIVE,
    PRESETS,
    TRANSFORMER,
    CKAConfig,
    Config,
    DataConfig,
    HardNegativesConfig,
    ModelConfig,
    QueryMix,
    QueryTowerConfig,
    SceneTowerConfig,
    SymbolicConfig,
    reads_further_texts,
    reads_queries_of_scenes,
    used_losses,
)
from dualenc.errors import InputError
from dualenc.scenes import EDIT_NAMES, OPERATORS


def check(config: Config) -> None:
    """Refuses impossible combinations; single values were checked while loading."""
    data, model = config.data, config.model
    for name, tower in (("scene", model.scene), ("query", model.query)):
        if tower.width % tower.heads:  # type: ignore[operator]
            raise InputError(f"model.{name}.heads: {tower.heads} does not divide model.{name}.width={tower.width}")
    total = data.queries.captions + data.queries.objects + data.queries.concepts
    if not math.isclose(total, 1.0, abs_tol=1e-6):
        raise InputError(f"data.queries: the shares add up to {total:g}; make captions + objects + concepts equal 1")
    known = EDIT_NAMES if data.kind == "shards" and model.query.kind == "text" else OPERATORS
    for operator in data.edits:
        if operator not in known:
            raise InputError(f"data.edits: unknown operator {operator!r}; use some of {', '.join(known)}")
    _check_data(data)
    if model.query.kind != "text" and data.queries.captions and reads_queries_of_scenes(config.loss):
        raise InputError(
            "data.queries.captions: a symbolic query tower reads object and concept queries only (a full scene in the "
            "scene's own tokens would be trivial); set it to 0 or model.query.kind=text"
        )
    if model.query.kind != "text" and data.paraphrases:
        raise InputError(
            "data.paraphrases: a symbolic query tower reads no captions; set it to 0 or model.query.kind=text"
        )
    if data.paraphrases and config.loss.targets == "diagonal":
        raise InputError(
            "data.paraphrases: with loss.targets=diagonal they would be false of their own scene; set it to 0 or "
            "loss.targets=truth"
        )
    if data.kind == "symbolic" and model.scene.kind == "vision":
        raise InputError("model.scene.kind: symbolic scenes have no pictures; use model.scene.kind=symbolic or objects")
    _check_losses(config)
    assert model.initial_logit_scale is not None
    if model.initial_logit_scale > model.max_logit_scale:
        raise InputError(
            f"model.initial_logit_scale: {model.initial_logit_scale:.4g} is above model.max_logit_scale="
            f"{model.max_logit_scale:g}; give a lower one, or raise the other"
        )
    if data.kind == "symbolic" and data.symbolic.collision_rate:
        check_batch_holds_pairs(config.trainer.batch_size)
    world = config.trainer.devices * config.trainer.nodes
    if config.trainer.batch_size % world:
        raise InputError(f"trainer.batch_size: {config.trainer.batch_size} does not divide into {world} processes")
    share = config.trainer.batch_size // world
    if config.trainer.chunks > share:
        raise InputError(
            f"trainer.chunks: a process's share of a batch is {share} samples, which make at most as many parts, not "
            f"{config.trainer.chunks}"
        )


def _check_data(data: DataConfig) -> None:
    if data.kind == "shards" and data.path is None and data.generate is None:
        raise InputError("data.path: name a dataset folder, or a data config in data.generate, or data.kind=symbolic")
    if data.kind == "shards" and data.path is not None and data.generate is not None:
        raise InputError("data.generate: has no effect beside data.path; give one of the two")
    if data.kind == "symbolic" and (data.path or data.generate):
        raise InputError("data.path: symbolic scenes are drawn, not read; leave data.path and data.generate out")
    if data.kind == "symbolic" and max(data.symbolic.objects, default=0) < 1:
        raise InputError("data.symbolic.objects: a scene needs at least one object; use e.g. {2: 1.0}")


def _check_losses(config: Config) -> None:
    loss, batch = config.loss, config.trainer.batch_size
    used = used_losses(loss)
    if not used:
        raise InputError(f"loss: every weight is 0; give one of {', '.join(LOSS_NAMES)} a positive weight")
    if "cka" in used and loss.cka.debiased and batch < 4:
        raise InputError(f"loss.cka.debiased: needs trainer.batch_size of at least 4, got {batch}")
    for name in ("svd", "clip_svd"):
        most = min(batch, config.model.output_dim or batch) - 1
        if name in used and getattr(loss, name).k > most:
            raise InputError(
                f"loss.{name}.k: {getattr(loss, name).k} singular values and the one after them do not exist; use at "
                f"most {most}, one below the smaller of trainer.batch_size and model.output_dim"
            )
    if "svd" in used and not (loss.svd.alpha or loss.svd.beta or loss.svd.effective_rank):
        raise InputError("loss.svd: alpha, beta and effective_rank are all 0; give one of them, or weight: 0")
    if "siglip" not in used and config.model.initial_logit_bias is not None:
        raise InputError("model.initial_logit_bias: only siglip reads it; set loss.siglip.weight or leave it out")
    if "hard_negatives" in used and not config.data.edits:
        raise InputError("loss.hard_negatives: needs edits of captions; set data.edits, e.g. [swap]")


def check_batch_holds_pairs(batch_size: int) -> None:
    """Swap partners stand side by side, so an even batch holds both or neither. InputError for an odd one."""
    if batch_size % 2:
        raise InputError(
            f"trainer.batch_size: {batch_size} is odd and would part swap partners (collision_rate > 0); make it even"
        )


def notes(config: Config) -> list[str]:
    """Lines about settings that have no effect or are dangerous, to print before the run (law 8)."""
    data, used, lines = config.data, used_losses(config.loss), []
    for key, given in (("data.edits", data.edits), ("data.paraphrases", data.paraphrases)):
        if given and not reads_further_texts(config.loss):
            lines.append(
                f"note: {key} has no effect: no loss in use reads further texts (infonce, siglip, hard_negatives)"
            )
    if "recognition" in used and config.loss.recognition.negatives == "all":
        lines.append(
            "warning: loss.recognition.negatives=all shows held-out objects as negatives while training: results on "
            "ood are not those of a clean split"
        )
    columns = "hard_negatives" in used and config.loss.hard_negatives.form == "columns"
    if not columns and not {"infonce", "siglip", "recognition", "uniformity"} & used.keys():
        lines.append(f"warning: nothing in {', '.join(used)} keeps the towers from collapsing to one point")
    if "cka" in used and config.loss.cka.kernel == "linear" and config.loss.cka.sigma != CKAConfig().sigma:
        lines.append(
            "note: loss.cka.sigma has no effect with loss.cka.kernel=linear; it is the width of the RBF kernel"
        )
    if columns and "infonce" in used and config.loss.infonce.edits:
        lines.append("note: loss.infonce with edits and loss.hard_negatives with form=columns are the same loss, twice")
    lines += [
        f"note: loss.{name}.{key} has no effect: loss.{name}.weight is 0"
        for name in LOSS_NAMES
        if name not in used
        for key in _changed(getattr(config.loss, name))
    ]
    if data.edits_per_scene != DataConfig().edits_per_scene and not data.edits:
        lines.append("note: data.edits_per_scene has no effect: data.edits is empty")
    if data.kind == "shards" and data.symbolic != SymbolicConfig():
        lines.append("note: data.symbolic has no effect with data.kind=shards")
    scene = config.model.scene
    if scene.kind != "vision" and scene.patch_size != SceneTowerConfig().patch_size:
        lines.append(f"note: model.scene.patch_size has no effect with model.scene.kind={scene.kind}")
    if scene.kind == "objects" and scene.position_std != SceneTowerConfig().position_std:
        lines.append("note: model.scene.position_std has no effect with model.scene.kind=objects: they have no places")
    lines += [
        f"note: model.query.{name} has no effect with model.query.kind={config.model.query.kind}"
        for name in _unread(config.model)
    ]
    negatives = config.loss.hard_negatives
    if "hard_negatives" in used and negatives.form != "margin" and negatives.margin != HardNegativesConfig().margin:
        lines.append(
            f"note: loss.hard_negatives.margin has no effect with loss.hard_negatives.form={negatives.form}; set "
            "form=margin"
        )
    if not reads_queries_of_scenes(config.loss) and data.queries != QueryMix():
        lines.append(
            "note: data.queries has no effect: loss.recognition draws its own queries, and no other loss is in use"
        )
    if config.loss.targets == "diagonal" and not {"infonce", "siglip", "hard_negatives"} & used.keys():
        lines.append("note: loss.targets has no effect: no loss in use reads pairs")
    return lines


def _changed(block: Any) -> list[str]:
    """The options of a loss's block that differ from their defaults."""
    given, plain = configs.plain_dict(block), configs.plain_dict(type(block)())
    return [key for key in given if key != "weight" and given[key] != plain[key]]


def _unread(model: ModelConfig) -> list[str]:
    """The keys of the query tower that were given, as far as one can see, and that its kind does not read."""
    preset = PRESETS[model.preset]
    plain = QueryTowerConfig(width=preset["width"], depth=preset["depth"], heads=preset["heads"])
    names = TRANSFORMER if model.query.kind == "multiplicative" else MULTIPLICATIVE
    return [name for name in names if getattr(model.query, name) != getattr(plain, name)]
