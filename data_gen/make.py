"""Makes a dataset: resumable, by one maker or by tasks that share the shards, finished when dataset.json is there.

DATASET/{split}/...                the shards, see data_gen/shards.py
DATASET/dataset.json               written last; see data_gen/description.py
DATASET/.progress/                 only while unfinished: the config, and a record for each finished shard
DATASET/.claim*                    only while processes are making it, see data_gen/claims.py
"""

import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from data_gen import config
from data_gen.claims import CLAIM, claimed
from data_gen.config import DataConfig
from data_gen.description import describe
from data_gen.estimate import Estimator, announce, check_room
from data_gen.progress import Meter
from data_gen.recipe import Recipe
from data_gen.shards import PROGRESS, Shard, finished, plan
from data_gen.workers import write_shards
from dualenc import configs
from dualenc.errors import InputError
from dualenc.files import TEMPORARY, read_json, write_json
from dualenc.processes import num_cores
from dualenc.scenes import SPLITS

DESCRIPTION = "dataset.json"

_MOST_DIFFERENCES = 3  # keys that are named of two configs


def make_dataset(data: DataConfig) -> Path:
    """The folder of the dataset of this config, made now or found complete; an unfinished one is continued.

    With `data.task`, only the shards of that task are made, and dataset.json is not written: that is for the call
    without a task. Raises InputError, before anything is written, where the config is wrong, the folder belongs to
    something else, or the disk cannot hold the dataset.
    """
    folder = config.dataset_folder(data)
    if _is_complete(folder, data):
        print(f"{folder} is complete already", file=sys.stderr)
        return folder
    if data.task is None and data.num_tasks > 1:
        print("note: data.num_tasks has no effect without data.task; all missing shards are made", file=sys.stderr)
    recipe, shards = Recipe(data), plan(data)
    recipe.check()
    estimator = Estimator(recipe)
    check_room(folder, estimator.of(_missing(folder, shards)), _place_key(data))
    _make_folder(folder, _place_key(data))
    with claimed(folder, task=data.task, num_tasks=data.num_tasks):
        if _is_complete(folder, data):
            print(f"{folder} has been completed meanwhile", file=sys.stderr)
        else:
            _fill(folder, data, shards, estimator)
            if data.task is not None:
                return folder
            write_json(folder / DESCRIPTION, describe(folder, data, recipe, shards))
        shutil.rmtree(folder / PROGRESS, ignore_errors=True)
    return folder


def _place_key(data: DataConfig) -> str:
    """The key that says where the dataset goes."""
    return "data.out" if data.out else "data.root"


def _make_folder(folder: Path, key: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key}: {folder} cannot be made ({error.strerror}); choose a folder that can be") from None


def preview(data: DataConfig) -> dict[str, Any]:
    """What `make_dataset` would make, {path, hash, complete, num_shards, config}, with its checks, without writing."""
    folder = config.dataset_folder(data)
    complete = _is_complete(folder, data)
    Recipe(data).check()
    return {
        "path": str(folder),
        "hash": config.config_hash(data),
        "complete": complete,
        "num_shards": len(plan(data)),
        "config": configs.identity_dict(data),
    }


def _is_complete(folder: Path, data: DataConfig) -> bool:
    """Whether the folder holds this dataset whole; False if unfinished or absent; InputError if it is another's."""
    key = _place_key(data)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise InputError(f"{key}: {place} is a file; choose a folder")
    wanted = config.config_hash(data)
    for name in (DESCRIPTION, f"{PROGRESS}/config.json"):
        try:
            made = read_json(folder / name)
            found, theirs = made["hash"], made["config"]
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{key}: {folder / name} is not readable; remove {folder} or choose another") from None
        if found != wanted:
            raise InputError(
                f"{key}: {folder} holds another dataset (hash {found}, this config has {wanted}; "
                f"{_difference(theirs, configs.identity_dict(data))}); choose another folder or remove that one"
            )
        return name == DESCRIPTION
    strangers = [path.name for path in folder.iterdir() if not _is_ours(path)] if folder.is_dir() else []
    if strangers:
        raise InputError(f"{key}: {folder} holds other files ({strangers[0]}); choose a new or an empty folder")
    return False


def _difference(theirs: Any, ours: Any) -> str:
    """The first keys in which two configs differ, with both values; the same config is of other versions."""
    old, new = _leaves("data", theirs), _leaves("data", ours)
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    named = [f"{key} is {old.get(key)} there and {new.get(key)} here" for key in keys[:_MOST_DIFFERENCES]]
    further = [f"{len(keys) - len(named)} keys more"] if len(keys) > len(named) else []
    return ", ".join(named + further) or "the same config by other versions of what makes it"


def _leaves(key: str, value: Any) -> dict[str, Any]:
    """Dotted key -> value of nested plain values."""
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {name: leaf for inner, held in value.items() for name, leaf in _leaves(f"{key}.{inner}", held).items()}


def _is_ours(path: Path) -> bool:
    return path.name in (PROGRESS, *SPLITS) or path.name.startswith(CLAIM) or TEMPORARY in path.name


def _own_shards(data: DataConfig, shards: list[Shard]) -> list[Shard]:
    """The shards that this call makes: all, or every `num_tasks`-th one, from number `task` on."""
    return shards if data.task is None else shards[data.task :: data.num_tasks]


def _missing(folder: Path, shards: list[Shard]) -> list[Shard]:
    return [shard for shard in shards if finished(folder, shard) is None]


def _num_samples(shards: list[Shard]) -> int:
    return sum(shard.stop - shard.start for shard in shards)


def _remove_leftovers(folder: Path, data: DataConfig, shards: list[Shard]) -> None:
    """Removes the unfinished files of processes that are gone: all of them, or those of the own shards where other
    tasks are at work. The claim says that no one else makes these."""
    own = {file.name for shard in shards for file in (shard.tar(folder), shard.index(folder), shard.record(folder))}
    for path in folder.glob(f"**/*{TEMPORARY}*"):
        if data.task is None or path.name.partition(TEMPORARY)[0] in own:
            path.unlink(missing_ok=True)


def _fill(folder: Path, data: DataConfig, shards: list[Shard], estimator: Estimator) -> None:
    """Makes the own shards that are missing."""
    for name in (PROGRESS, *dict.fromkeys(shard.split for shard in shards)):
        (folder / name).mkdir(exist_ok=True)
    write_json(
        folder / PROGRESS / "config.json",
        {"hash": config.config_hash(data), "config": configs.identity_dict(data)},
    )
    own = _own_shards(data, shards)
    _remove_leftovers(folder, data, own)
    missing = _missing(folder, own)
    total, left = _num_samples(own), _num_samples(missing)
    if left < total:
        print(f"continuing: {len(own) - len(missing)} of {len(own)} shards are finished", file=sys.stderr)
    num_workers = data.num_workers or num_cores()
    if missing:
        announce(estimator.of(missing), min(num_workers, len(missing)))
    try:
        made = write_shards(data, folder, missing, num_workers)
        with closing(made), Meter(total, done=total - left) as meter:
            for number in made:
                meter.add(number)
    finally:
        _remove_leftovers(folder, data, own)
