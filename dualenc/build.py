"""From config to source and model: the only place that knows which tower reads what."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dualenc.config import (
    STARTS,
    Config,
    ModelConfig,
    QueryTowerConfig,
    SceneTowerConfig,
    loss_terms,
    reads_further_texts,
    reads_queries_of_scenes,
)
from dualenc.data import Dataset, PoolSettings, QuerySettings, ShardSource, Source, SymbolicSource
from dualenc.data.queries import SymbolicQueries, SymbolicScenes, TextQueries
from dualenc.models import DualEncoder, MultiplicativeTower, ObjectTower, SymbolicTower, TextTower, VisionTower
from dualenc.scenes import ConceptSpace, SceneSampler, Tokenizer


@dataclass(frozen=True)
class ModelSpec:
    """All that rebuilds a model besides its weights: model.json holds it, so a run can be loaded without its data."""

    model: ModelConfig
    concepts: dict[str, list[str]]
    vocabulary: list[str]
    max_objects: int
    image_size: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelSpec":
        """The inverse of `to_dict`; further keys are ignored. KeyError or TypeError for what is no spec."""
        model = dict(values["model"])
        model["scene"], model["query"] = SceneTowerConfig(**model["scene"]), QueryTowerConfig(**model["query"])
        others = ("concepts", "vocabulary", "max_objects", "image_size")
        return cls(model=ModelConfig(**model), **{name: values[name] for name in others})

    @property
    def space(self) -> ConceptSpace:
        """The concept space."""
        return ConceptSpace.from_dict(self.concepts)

    @property
    def coder(self) -> "TextQueries | SymbolicQueries":
        """How queries become tokens."""
        if self.model.query.kind == "text":
            return TextQueries(self.space, Tokenizer(self.vocabulary), self.max_objects)
        return SymbolicQueries(self.space)


def build_model(spec: ModelSpec) -> DualEncoder:
    """The dual encoder of a spec, freshly initialised from torch's random state."""
    config = spec.model
    assert config.initial_logit_scale is not None  # resolved
    return DualEncoder(
        _scene_tower(spec),
        _query_tower(spec),
        initial_logit_scale=config.initial_logit_scale,
        max_logit_scale=config.max_logit_scale,
        initial_logit_bias=config.initial_logit_bias,
    )


def _scene_tower(spec: ModelSpec) -> torch.nn.Module:
    scene, sizes = spec.model.scene, _sizes(spec.model, spec.model.scene)
    if scene.kind == "vision":
        assert spec.image_size is not None
        return VisionTower(image_size=spec.image_size, patch_size=scene.patch_size, **sizes)
    sizes["max_length"] = SymbolicScenes.max_length(spec.space, spec.max_objects)
    vocabulary = SymbolicScenes.vocabulary_size(spec.space)
    if scene.kind == "objects":
        return ObjectTower(vocabulary, object_length=SymbolicScenes.object_length(spec.space), **sizes)
    return SymbolicTower(vocabulary, **sizes)


def _query_tower(spec: ModelSpec) -> torch.nn.Module:
    config, query, coder = spec.model, spec.model.query, spec.coder
    if query.kind == "multiplicative":
        assert config.output_dim is not None  # resolved
        assert query.rank is not None
        return MultiplicativeTower(
            coder.vocab_size,
            num_concepts=spec.space.num_concepts,
            output_dim=config.output_dim,
            rank=query.rank,
            variant=query.variant,
        )
    tower = TextTower if query.kind == "text" else SymbolicTower
    return tower(coder.vocab_size, max_length=coder.max_length, **_sizes(config, query))


def _sizes(model: ModelConfig, tower: Any) -> dict[str, Any]:
    names = ("width", "depth", "heads", "readout", "dropout", "mlp_ratio", *STARTS)
    return {"output_dim": model.output_dim, **{name: getattr(tower, name) for name in names}}


def query_settings(config: Config) -> QuerySettings:
    """The part of the config that decides what is asked about a training scene."""
    data, mix = config.data, config.data.queries
    further = reads_further_texts(config.loss)
    _, pools = loss_terms(config.loss).get("recognition", (0.0, None))
    return QuerySettings(
        seed=config.run.seed,
        captions=mix.captions,
        objects=mix.objects,
        concepts=mix.concepts,
        edits=tuple(data.edits) if further else (),
        edits_per_scene=data.edits_per_scene,
        paraphrases=data.paraphrases if further else 0,
        recognition=PoolSettings(**pools) if pools else None,
        of_scenes=reads_queries_of_scenes(config.loss),
    )


def build_source(config: Config, data: Dataset | SceneSampler) -> Source:
    """The source of batches over a dataset, or over symbolic scenes."""
    settings, query = query_settings(config), config.model.query.kind
    if isinstance(data, Dataset):
        return ShardSource(data, scene_tower=config.model.scene.kind, query_tower=query, settings=settings)
    return SymbolicSource(data, query_tower=query, settings=settings, num_samples=config.data.symbolic.num_samples)


def model_spec(config: Config, source: Source) -> ModelSpec:
    """The spec of the model that a config trains on a source."""
    return ModelSpec(
        model=config.model,
        concepts=source.space.to_dict(),
        vocabulary=source.tokenizer.vocabulary,
        max_objects=source.max_objects,
        image_size=source.dataset.image_size if isinstance(source, ShardSource) else None,
    )


def describe_data(source: Source) -> dict[str, Any]:
    """The data's part of a summary."""
    split = source.split
    described = {
        "num_objects": split.space.num_objects,
        "num_train_objects": len(split.train),
        "coverage": split.coverage,
        "split": split.kind,
        "concepts": dict(zip(split.space.names, split.space.sizes)),
    }
    if isinstance(source, ShardSource):
        return {"name": source.dataset.meta["name"], "hash": source.dataset.hash, **described}
    return {"name": "symbolic", "hash": None, **described}
