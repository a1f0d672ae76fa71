"""The settings of a training run, block by block, with their defaults and what each may be."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from dualenc import configs
from dualenc.configs import field

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
    position_std: float = field(0.02, "spread of position embeddings at the start; tokens have 0.02", above=0)
    attention_gain: float = field(1.0, "how many times larger queries and keys start: sharper attention", above=0)


@dataclass
class SceneTowerConfig(TowerConfig):
    """The tower that sees scenes."""

    kind: Literal["vision", "symbolic", "objects"] = field(
        "vision", "pictures; every value of the scene's objects as a token; or every object as one"
    )
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


STARTS = ("position_std", "attention_gain")
"""How a transformer starts. The usual start is no part of a run's identity: such runs are older than the choice."""
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
