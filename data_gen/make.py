"""Makes a dataset: one maker at a time, resumable, finished when dataset.json is there.

DATASET/{split}/...                the shards, see data_gen/shards.py
DATASET/dataset.json               written last; see `describe`
DATASET/.progress/                 only while unfinished: the config, and a record for each finished shard
DATASET/.claim                     only while a process is making it
"""

import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from data_gen import FORMAT_VERSION, GENERATOR_VERSION, config
from data_gen.config import DataConfig
from data_gen.progress import Meter
from data_gen.recipe import Recipe
from data_gen.shards import PROGRESS, Shard, finished, plan
from data_gen.tally import Tally, describe_tally
from data_gen.workers import write_shards
from dualenc import configs
from dualenc.errors import InputError
from dualenc.files import TEMPORARY, Claim, read_json, write_json
from dualenc.processes import num_cores
from dualenc.scenes import SPLITS

DESCRIPTION = "dataset.json"

_CLAIM = ".claim"


def make_dataset(data: DataConfig) -> Path:
    """The folder of the dataset of this config, made now or found complete; an unfinished one is continued.

    Raises InputError, before anything is written, where the config is wrong or the folder belongs to something else.
    """
    folder = config.dataset_folder(data)
    if _is_complete(folder, data):
        print(f"{folder} is complete already", file=sys.stderr)
        return folder
    recipe = Recipe(data)
    recipe.check()
    folder.mkdir(parents=True, exist_ok=True)
    with Claim(folder / _CLAIM):
        if _is_complete(folder, data):
            print(f"{folder} has been completed meanwhile", file=sys.stderr)
        else:
            _remove_leftovers(folder)
            _fill(folder, data, recipe)
        shutil.rmtree(folder / PROGRESS, ignore_errors=True)
    return folder


def preview(data: DataConfig) -> dict[str, Any]:
    """What `make_dataset` would make, {path, hash, complete, config}, with all its checks and without writing."""
    folder = config.dataset_folder(data)
    complete = _is_complete(folder, data)
    Recipe(data).check()
    return {
        "path": str(folder),
        "hash": config.config_hash(data),
        "complete": complete,
        "config": configs.identity_dict(data),
    }


def _is_complete(folder: Path, data: DataConfig) -> bool:
    """Whether the folder holds this dataset whole; False if unfinished or absent; InputError if it is another's."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"data.out: {folder} is a file; choose a folder")
    wanted = config.config_hash(data)
    for name in (DESCRIPTION, f"{PROGRESS}/config.json"):
        try:
            found = read_json(folder / name)["hash"]
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            raise InputError(f"data.out: {folder / name} is not readable; remove {folder} or choose another") from None
        if found != wanted:
            raise InputError(
                f"data.out: {folder} holds another dataset (hash {found}, this config has {wanted}); "
                "choose another folder or remove that one"
            )
        return name == DESCRIPTION
    strangers = [path.name for path in folder.iterdir() if not _is_ours(path)] if folder.is_dir() else []
    if strangers:
        raise InputError(f"data.out: {folder} holds other files ({strangers[0]}); choose a new or an empty folder")
    return False


def _is_ours(path: Path) -> bool:
    return path.name in (PROGRESS, *SPLITS) or path.name.startswith(_CLAIM) or TEMPORARY in path.name


def _remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files of processes that are gone; a claim makes us the only maker."""
    for path in folder.glob(f"**/*{TEMPORARY}*"):
        if not path.name.startswith(_CLAIM):
            path.unlink(missing_ok=True)


def _fill(folder: Path, data: DataConfig, recipe: Recipe) -> None:
    shards = plan(data)
    for name in (PROGRESS, *dict.fromkeys(shard.split for shard in shards)):
        (folder / name).mkdir(exist_ok=True)
    write_json(
        folder / PROGRESS / "config.json",
        {"hash": config.config_hash(data), "config": configs.identity_dict(data)},
    )
    missing = [shard for shard in shards if finished(folder, shard) is None]
    total, left = (sum(shard.stop - shard.start for shard in some) for some in (shards, missing))
    if left < total:
        print(f"continuing: {len(shards) - len(missing)} of {len(shards)} shards are finished", file=sys.stderr)
    try:
        made = write_shards(data, folder, missing, data.num_workers or num_cores())
        with closing(made), Meter(total, done=total - left) as meter:
            for number in made:
                meter.add(number)
    finally:
        _remove_leftovers(folder)
    write_json(folder / DESCRIPTION, describe(folder, data, recipe, shards))


def describe(folder: Path, data: DataConfig, recipe: Recipe, shards: list[Shard]) -> dict[str, Any]:
    """The content of dataset.json, from the progress records of the finished shards. Keys:

    format_version, generator_version, device, versions, name, hash, config (its identity part), seed,
    concepts {name: [values]}, num_objects, split_kind, coverage (realised), objects {train, val_ood, ood: [ids]},
    max_objects, picture {size, format}, vocabulary [words], and for each split under `splits`:
    num_samples, shards [{path, num_samples, size, sha256}], collision_rate, edits {operator: {num, rate}} where the
    rate is the share of scenes with at least one, and coverage {objects_seen, objects_allowed, pairs_seen,
    pairs_allowed, values {concept: {value: number of objects shown}}}.
    """
    space, split = recipe.space, recipe.split
    return {
        "format_version": FORMAT_VERSION,
        "generator_version": GENERATOR_VERSION,
        "device": "cpu",
        "versions": config.library_versions(),
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
        "vocabulary": recipe.wording.grammar.vocabulary,
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
