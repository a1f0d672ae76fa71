"""The one tree of settings of a training run: `python -m dualenc.fit --help` prints it.

A run is a function of its identity fields (their hash names the run folder) and nothing else; fields marked
`identity=False` say where and how fast it runs. This module knows no torch: a wrong config is refused in a moment.
"""

import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from dualenc import configs
from dualenc.configs import field
from dualenc.errors import InputError
from dualenc.scenes import EDIT_NAMES, OPERATORS

CONFIG_VERSION = 2
MAX_SEED = 2**63 - 1

PRESETS: dict[str, dict[str, int]] = {
    "base": {"width": 512, "depth": 6, "heads": 8, "output_dim": 512},  # about 20M parameters a tower
    "tiny": {"width": 96, "depth": 2, "heads": 4, "output_dim": 64},  # about 0.25M, for a CPU
}


@dataclass
class RunConfig:
    """Who this run is."""

    name: str = field(
        "run",
        "first half of the run folder's name",
        identity=False,
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
        expected="up to 100 letters, digits, dots, - and _",
    )
    seed: int = field(0, "initialisation, sample order, dropout, query mix", minimum=0, maximum=MAX_SEED)
    dir: str = field("runs", "folder that holds the run folders NAME-HASH", identity=False)
    report: bool = field(True, "write report.html at the end", identity=False)


@dataclass
class QueryMix:
    """What the query of a training scene is, as shares that add up to 1."""

    captions: float = field(0.6, "share of full captions", minimum=0, maximum=1)
    objects: float = field(0.25, "share of object queries, e.g. 'a red cube'", minimum=0, maximum=1)
    concepts: float = field(0.15, "share of concept queries, e.g. 'something red'", minimum=0, maximum=1)


@dataclass
class SymbolicConfig:
    """Scenes as token sequences, drawn while training; only read where data.kind is symbolic."""

    num_concepts: int = field(2, "C, number of concepts", minimum=1)
    num_values: int = field(8, "V, number of values of each concept", minimum=1)
    split: Literal["uniform", "checkerboard", "block"] = field("uniform", "how coverage is spent")
    coverage: float = field(0.8, "share of objects in training; data.coverage overrides it", above=0, maximum=1)
    seed: int = field(0, "split and scenes; data.seed overrides it", minimum=0, maximum=MAX_SEED)
    val_fraction: float = field(0.05, "share of all objects held out to choose a model", minimum=0, maximum=1)
    objects: dict[int, float] = field({2: 1.0}, "number of objects -> share of scenes", minimum=0)
    collision_rate: float = field(0.0, "share of scenes whose swap partner is in the batch", minimum=0, maximum=1)
    num_samples: int = field(1000, "scenes of each of val, val_ood, ood, mixed", minimum=1)


@dataclass
class DataConfig:
    """Where scenes come from, and what is asked about them."""

    kind: Literal["shards", "symbolic"] = field("shards", "pictures in shards, or token sequences drawn on the fly")
    path: str | None = field(None, "folder of a dataset", identity=False)
    generate: str | None = field(None, "data config to make the dataset from when it is missing", identity=False)
    coverage: float | None = field(None, "overrides the data config's coverage", identity=False, above=0, maximum=1)
    seed: int | None = field(
        None, "overrides the data config's seed (split and scenes)", identity=False, minimum=0, maximum=MAX_SEED
    )
    num_workers: int = field(2, "loader processes", identity=False, minimum=0)
    queries: QueryMix = field(QueryMix, "the query mix")
    edits: list[str] = field(["swap"], "operators whose edits are extra (negative) text columns; [] for none")
    edits_per_scene: int = field(1, "edits taken of each operator", minimum=1)
    paraphrases: int = field(0, "paraphrases of a scene's caption that are extra (true) text columns", minimum=0)
    symbolic: SymbolicConfig = field(SymbolicConfig, "symbolic scenes")


@dataclass
class TowerConfig:
    """A transformer; null takes the preset's number."""

    width: int | None = field(None, "width of the transformer", minimum=1)
    depth: int | None = field(None, "number of blocks", minimum=1)
    heads: int | None = field(None, "attention heads; divides the width", minimum=1)
    mlp_ratio: float = field(4.0, "hidden width of the feed-forward part, in widths", above=0)
    readout: Literal["mean", "eos"] = field("mean", "mean over tokens, or the last (for pictures: class) token")
    dropout: float = field(0.0, "dropout rate", minimum=0, maximum=0.9)


@dataclass
class SceneTowerConfig(TowerConfig):
    """The tower that sees scenes."""

    kind: Literal["vision", "symbolic"] = field("vision", "pictures, or the scene's objects as tokens")
    patch_size: int = field(8, "pixels of a patch's side; divides the picture's side", minimum=1)


@dataclass
class QueryTowerConfig(TowerConfig):
    """The tower that reads queries."""

    kind: Literal["text", "symbolic", "multiplicative"] = field(
        "text", "words; values as tokens; or values as tokens into sums and products of vectors, without a transformer"
    )
    rank: int | None = field(None, "multiplicative: length of the products; null takes the output dimension", minimum=1)
    variant: Literal["per-object", "global"] = field(
        "per-object", "multiplicative: products over the values of an object, or over those of all objects too"
    )


TRANSFORMER = tuple(item.name for item in fields(TowerConfig))
MULTIPLICATIVE = ("rank", "variant")
"""The keys of a query tower that only a transformer, and that only a multiplicative tower reads."""


@dataclass
class ModelConfig:
    """Two towers and a temperature."""

    preset: Literal["base", "tiny"] = field("base", "sizes: base (about 20M a tower) or tiny (about 0.25M)")
    output_dim: int | None = field(None, "dimension of the shared space; null takes the preset's", minimum=1)
    scene: SceneTowerConfig = field(SceneTowerConfig, "scene tower")
    query: QueryTowerConfig = field(QueryTowerConfig, "query tower")
    initial_logit_scale: float | None = field(
        None, "1 / temperature at the start; null is 10 with siglip but no infonce, else 1 / 0.07", above=0, maximum=100
    )
    initial_logit_bias: float | None = field(
        None, "learned offset of the logits at the start; null is -10 where siglip is used, else there is none"
    )
    max_logit_scale: float = field(100.0, "the learned 1 / temperature is clamped here", above=0)


@dataclass
class InfoNCEConfig:
    """Symmetric cross-entropy over the pairs of the global batch."""

    weight: float = field(1.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    edits: bool = field(True, "data.edits and data.paraphrases are further text columns (NegCLIP)")


@dataclass
class SigLIPConfig:
    """A yes-or-no question about every pair."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    edits: bool = field(True, "data.edits and data.paraphrases are further text columns")


@dataclass
class RecognitionConfig:
    """Scenes against concept queries and against object queries, the binding paper's objective."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    num_concepts: int = field(64, "most concept queries of a step", minimum=2)
    num_objects: int = field(64, "most object queries of a step that are true of one of its scenes", minimum=1)
    num_random: int = field(0, "random object queries of a step for each true one, as negatives", minimum=0)
    num_swaps: int = field(1, "swapped objects of each scene, as negatives", minimum=0)
    negatives: Literal["train", "all"] = field("train", "objects that may be negatives; all leaks the split")


@dataclass
class CKAConfig:
    """Centred kernel alignment of the two towers over the global batch, to be maximised."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    kernel: Literal["linear", "rbf"] = field("linear", "kernel of either side")
    debiased: bool = field(True, "debiased HSIC; the biased one grows with dimension over batch size")
    sigma: float = field(0.5, "width of the RBF kernel, in square roots of the median squared distance", above=0)


@dataclass
class SVDConfig:
    """Singular values of the towers' cross-covariance."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    k: int = field(3, "number of leading singular values", minimum=1)
    alpha: float = field(1.0, "weight of the gap after the k-th, to be widened")
    beta: float = field(0.5, "weight of the sum of the first k, to be raised")
    effective_rank: float = field(0.0, "weight of the effective rank: positive sparsifies, negative densifies")
    center: bool = field(True, "subtract the batch mean of either side first")
    scale: Literal["none", "n", "spectral"] = field(
        "spectral", "divide the singular values by nothing, the batch size, or their sum"
    )


@dataclass
class ClipSVDConfig:
    """The published sum of mean cosine and SVD terms. It has no negatives: both towers may collapse to one point."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    gamma: float = field(1.0, "weight of the mean cosine of the pairs")
    k: int = field(3, "number of leading singular values", minimum=1)
    alpha: float = field(1.0, "weight of the gap after the k-th")
    beta: float = field(0.5, "weight of the sum of the first k")


@dataclass
class HardNegativesConfig:
    """A scene's own query and paraphrases against the edits of its caption."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    form: Literal["columns", "cross_entropy", "margin"] = field(
        "cross_entropy", "all edits as columns of all scenes, or each scene against its own"
    )
    margin: float = field(0.2, "cosine by which a true text should lead, for form: margin", above=0, maximum=2)


@dataclass
class AlignmentConfig:
    """Mean distance of true pairs."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    power: float = field(2.0, "power of the distance", above=0)


@dataclass
class UniformityConfig:
    """How evenly each tower's embeddings cover the sphere."""

    weight: float = field(0.0, "weight in the sum; 0 leaves the loss out", minimum=0)
    t: float = field(2.0, "sharpness of the Gaussian potential", above=0)


@dataclass
class LossConfig:
    """The objective: a weighted sum of losses, each a block of its own."""

    preset: Literal["released-sparse-latents", "sparse-latents"] | None = field(
        None, "a set of values for the other loss keys, which may still be given"
    )
    targets: Literal["truth", "diagonal"] = field("truth", "every true pair is a positive, or only a scene's own query")
    infonce: InfoNCEConfig = field(InfoNCEConfig, "symmetric InfoNCE")
    siglip: SigLIPConfig = field(SigLIPConfig, "sigmoid contrastive loss")
    recognition: RecognitionConfig = field(RecognitionConfig, "scene to concept and object queries")
    cka: CKAConfig = field(CKAConfig, "centred kernel alignment")
    svd: SVDConfig = field(SVDConfig, "cross-covariance spectrum")
    clip_svd: ClipSVDConfig = field(ClipSVDConfig, "mean cosine and spectrum, as published")
    hard_negatives: HardNegativesConfig = field(HardNegativesConfig, "edits of a scene's own caption")
    alignment: AlignmentConfig = field(AlignmentConfig, "distance of true pairs")
    uniformity: UniformityConfig = field(UniformityConfig, "spread of each tower")


@dataclass
class OptimConfig:
    """AdamW with warm-up and cosine decay, in samples."""

    lr: float = field(1e-3, "peak learning rate", above=0)
    weight_decay: float = field(0.1, "decay of weight matrices (not gains, biases, embeddings, temperature)", minimum=0)
    betas: tuple[float, float] = field((0.9, 0.98), "AdamW's decay rates", minimum=0, below=1)
    warmup: float = field(0.05, "share of max_samples with a rising rate", minimum=0, maximum=1)
    final_lr: float = field(0.0, "rate at the end, as a share of the peak", minimum=0, maximum=1)
    clip: float = field(1.0, "largest gradient norm; 0 leaves gradients alone", minimum=0)


@dataclass
class TrainerConfig:
    """How long, how exact, and on what."""

    max_samples: int = field(1_000_000, "training length in samples, rounded up to whole batches", minimum=1)
    batch_size: int = field(256, "global batch: samples of one step over all processes", minimum=2)
    precision: Literal["32-true", "bf16-mixed", "64-true"] = field(
        "32-true", "arithmetic of the towers; losses are in at least fp32 (64-true: to compare numbers, not for speed)"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = field("auto", "device kind", identity=False)
    devices: int = field(1, "processes on this node", identity=False, minimum=1)
    nodes: int = field(1, "nodes", identity=False, minimum=1)
    threads: int = field(2, "threads of a process on a CPU (set, never inherited)", identity=False, minimum=1)
    chunks: int = field(
        1,
        "parts in which a process embeds its share of a batch, to save memory; one exact step",
        identity=False,
        minimum=1,
    )
    share_identical: bool = field(
        True, "embed a text, or a scene of tokens, that occurs several times in a process's batch once"
    )
    compile: bool = field(False, "torch.compile towers and losses", identity=False)
    activation_checkpointing: bool = field(
        False, "compute activations anew in the backward pass, to save memory", identity=False
    )
    timeout: float = field(600, "seconds a process waits for the others", identity=False, above=0, maximum=86400)
    checkpoint_seconds: float = field(
        60, "time between checkpoints (more where saving would take over 5% of the time)", identity=False, minimum=0
    )


@dataclass
class EvalConfig:
    """Validation while training."""

    every: int = field(100_000, "samples between validations", minimum=1)
    num_scenes: int = field(500, "scenes of each split that a validation during training looks at", minimum=1)
    batch_size: int = field(500, "scenes or queries encoded at once", identity=False, minimum=1)
    worst_scenes: int = field(24, "worst-bound scenes kept with pictures at the end", identity=False, minimum=0)


@dataclass
class LoggingConfig:
    """What is written besides metrics.jsonl."""

    wandb: Literal["offline", "online", "disabled"] = field(
        "offline", "offline: one run exported at the end; online: live", identity=False
    )
    project: str = field(
        "dualenc",
        "wandb project",
        identity=False,
        pattern=configs.WANDB_PROJECT,
        expected="up to 128 characters other than / \\ # ? % :",
    )
    every: int = field(50, "steps between lines of training metrics", identity=False, minimum=1)
    progress: bool = field(True, "progress bar (on a terminal) or lines", identity=False)


@dataclass
class Config:
    """Everything that `python -m dualenc.fit` can be told."""

    run: RunConfig = field(RunConfig, "the run")
    data: DataConfig = field(DataConfig, "the data")
    model: ModelConfig = field(ModelConfig, "the model")
    loss: LossConfig = field(LossConfig, "the objective")
    optim: OptimConfig = field(OptimConfig, "the optimiser")
    trainer: TrainerConfig = field(TrainerConfig, "the training")
    eval: EvalConfig = field(EvalConfig, "the validation")
    logging: LoggingConfig = field(LoggingConfig, "the logging")


LOSS_NAMES = tuple(item.name for item in fields(LossConfig) if is_dataclass(item.default_factory))
"""The keys of dualenc.losses.LOSSES, known here without importing torch; a test compares."""

LOSS_PRESETS: dict[str, dict[str, Any]] = {
    # Kyimpopkin (2025): alpha * gap + beta * magnitude - gamma * mean cosine, on pooled features, neither centred nor
    # scaled, and nothing that keeps the towers from collapsing.
    "released-sparse-latents": {
        "infonce": {"weight": 0.0},
        "clip_svd": {"weight": 1.0, "gamma": 1.0, "k": 3, "alpha": 1.0, "beta": 0.5},
    },
    # The same terms where they mean the same at any batch size and cannot collapse: beside InfoNCE's negatives, on a
    # centred spectrum that is divided by its sum.
    "sparse-latents": {
        "infonce": {"weight": 1.0},
        "svd": {"weight": 1.0, "k": 3, "alpha": 1.0, "beta": 0.5, "center": True, "scale": "spectral"},
    },
}


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
    _check(config)


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


def _check(config: Config) -> None:
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
        raise InputError("model.scene.kind: symbolic scenes have no pictures; use model.scene.kind=symbolic")
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


def used_losses(loss: LossConfig) -> dict[str, Any]:
    """The blocks of the losses with a positive weight, by name."""
    return {name: block for name in LOSS_NAMES if (block := getattr(loss, name)).weight > 0}


def loss_terms(loss: LossConfig) -> dict[str, tuple[float, dict[str, Any]]]:
    """Weight and options of every loss in use, as `dualenc.losses.total_loss` takes them."""
    options = {name: configs.plain_dict(block) for name, block in used_losses(loss).items()}
    return {name: (block.pop("weight"), block) for name, block in options.items()}


def reads_further_texts(loss: LossConfig) -> bool:
    """Whether a loss in use reads edits and paraphrases."""
    used = used_losses(loss)
    return "hard_negatives" in used or any(used[name].edits for name in ("infonce", "siglip") if name in used)


def reads_queries_of_scenes(loss: LossConfig) -> bool:
    """Whether a loss in use reads a query of each scene: all but recognition do, which draws its own."""
    return used_losses(loss).keys() != {"recognition"}


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
    if config.model.scene.kind == "symbolic" and config.model.scene.patch_size != SceneTowerConfig().patch_size:
        lines.append("note: model.scene.patch_size has no effect with model.scene.kind=symbolic")
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


def check_batch_holds_pairs(batch_size: int) -> None:
    """Swap partners stand side by side, so an even batch holds both or neither. InputError for an odd one."""
    if batch_size % 2:
        raise InputError(
            f"trainer.batch_size: {batch_size} is odd and would part swap partners (collision_rate > 0); make it even"
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


def identity(config: Config, dataset_hash: str) -> dict[str, Any]:
    """What the run's result depends on, as plain values: the hash of it names the run folder."""
    values = configs.identity_dict(config)
    if config.data.kind == "shards":
        del values["data"]["symbolic"]
    unread = TRANSFORMER if config.model.query.kind == "multiplicative" else MULTIPLICATIVE
    for name in unread:
        del values["model"]["query"][name]
    for name in set(LOSS_NAMES) - used_losses(config.loss).keys():
        del values["loss"][name]
    del values["loss"]["preset"]
    return {"version": CONFIG_VERSION, "dataset": dataset_hash, **values}
