"""The content of dataset.json, from the config and the progress records of the finished shards."""

from pathlib import Path
from typing import Any

from data_gen import FORMAT_VERSION, GENERATOR_VERSION, config
from data_gen.config import DataConfig
from data_gen.recipe import Recipe
from data_gen.shards import Shard, finished
from data_gen.tally import Tally, describe_tally
from dualenc import configs
from dualenc.errors import InputError


def describe(folder: Path, data: DataConfig, recipe: Recipe, shards: list[Shard]) -> dict[str, Any]:
    """The content of dataset.json. Keys:

    format_version, generator_version, device, versions, name, hash, config (its identity part), seed,
    concepts {name: [values]}, num_objects, split_kind, coverage (realised), objects {train, val_ood, ood: [ids]},
    max_objects, picture {size, format}, language {relations, counting, negation, synonyms}, vocabulary [words], and
    for each split under `splits`: num_samples, shards [{path, num_samples, size, sha256}] and what
    `data_gen.tally.describe_tally` counts.
    """
    space, split = recipe.space, recipe.split
    return {
        "format_version": FORMAT_VERSION,
        "generator_version": GENERATOR_VERSION,
        "device": config.device(data),
        "versions": config.library_versions(data),
        "name": data.name,
        "hash": config.config_hash(data),
        "config": configs.identity_dict(data),
        "seed": data.seed,
        "concepts": space.to_dict(),
        "num_objects": space.num_objects,
        "split_kind": split.kind,
        "coverage": split.coverage,
        "objects": {name: getattr(split, name).tolist() for name in ("train", "val_ood", "ood")},
        "max_objects": max(data.objects),
        "picture": {"size": data.picture.size, "format": data.picture.format},
        "language": recipe.grammar.language.to_dict(),
        "vocabulary": recipe.grammar.vocabulary,
        "splits": {
            name: _describe_split(folder, recipe, name, [shard for shard in shards if shard.split == name])
            for name in config.num_samples(data)
        },
    }


def _describe_split(folder: Path, recipe: Recipe, name: str, shards: list[Shard]) -> dict[str, Any]:
    tally, listed = Tally(), []
    for shard in shards:
        record = finished(folder, shard)
        if record is None:
            raise InputError(f"{shard.tar(folder)}: was changed while the dataset was made; run the same command again")
        part = Tally.from_json(record["tally"])
        tally.add(part)
        path = shard.tar(folder).relative_to(folder).as_posix()
        listed.append(
            {"path": path, "num_samples": part.num_samples, "size": record["size"], "sha256": record["sha256"]}
        )
    described = describe_tally(tally, recipe.split, name, configs.identity_dict(recipe.data))
    return {"num_samples": tally.num_samples, "shards": listed, **described}
