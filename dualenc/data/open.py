"""From the data part of a config to opened, checked data. No torch here: what is wrong is said in a moment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dualenc.config import DataConfig, ModelConfig, check_batch_holds_pairs
from dualenc.data.shards import Dataset
from dualenc.errors import EXIT_BAD_INPUT, InputError
from dualenc.scenes import ConceptSpace, ObjectSplit, SceneSampler, keys_under

Data = Dataset | SceneSampler


def open_data(data: DataConfig, model: ModelConfig, *, batch_size: int | None = None) -> tuple[Data, str]:
    """The dataset, made first where `data.generate` asks for it, or the sampler of symbolic scenes; and its hash.

    batch_size: of the training that the data is for, in samples of all processes; None where nothing is trained.
    Raises InputError for whatever is wrong, before anything is written where it can be known before.
    """
    if data.kind == "symbolic":
        return symbolic_sampler(data), "symbolic"
    if data.generate is not None:
        folder = Path(_generated(data, model, batch_size))
    else:
        assert data.path is not None
        folder = Path(data.path)
    dataset = Dataset(folder)
    _check_unchanged(data, dataset.meta)
    _check_fits(data, model, batch_size, dataset.meta["config"])
    dataset.verify()
    return dataset, dataset.hash


def symbolic_sampler(data: DataConfig) -> SceneSampler:
    """The sampler of symbolic scenes. InputError where the split or the scenes are impossible."""
    symbolic = data.symbolic
    names = {"split kind": "data.symbolic.split", "concepts": "data.symbolic.num_values"}
    if data.coverage is not None:
        names["coverage"] = "data.coverage"
    with keys_under("data.symbolic", names):
        space = ConceptSpace.symbolic(num_concepts=symbolic.num_concepts, num_values=symbolic.num_values)
        split = ObjectSplit.make(
            symbolic.split,
            space,
            coverage=symbolic.coverage,
            seed=symbolic.seed,
            val_fraction=symbolic.val_fraction,
            max_objects=max(symbolic.objects),
        )
        return SceneSampler(split, seed=symbolic.seed, counts=symbolic.objects, collision_rate=symbolic.collision_rate)


def _generated(data: DataConfig, model: ModelConfig, batch_size: int | None) -> str:
    """The folder of the dataset of `data.generate`, made or continued if need be, by a process of its own."""
    assert data.generate is not None
    if not Path(data.generate).exists():
        raise InputError(f"data.generate: {data.generate} does not exist; name a config under configs/data")
    arguments = generator_arguments(data)
    plan = json.loads(_data_gen([*arguments, "--describe"]))
    _check_fits(data, model, batch_size, plan["config"])
    return _data_gen(arguments).splitlines()[-1]


def generator_arguments(data: DataConfig) -> list[str]:
    """What `python -m data_gen` is given for `data.generate`: the data config, and what is set over it."""
    assert data.generate is not None
    overrides = [f"data.{key}={value}" for key in ("coverage", "seed") if (value := getattr(data, key)) is not None]
    return [data.generate, *overrides]


def _data_gen(arguments: list[str]) -> str:
    """Standard output of `python -m data_gen`; its progress goes to our stderr, its refusals become ours."""
    command = [sys.executable, "-m", "data_gen", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    if process.returncode == EXIT_BAD_INPUT:
        raise SystemExit(EXIT_BAD_INPUT)  # it has said why, in one line
    if process.returncode:
        raise InputError(f"data.generate: python -m data_gen {' '.join(arguments)} ended with {process.returncode}")
    return output


def _check_unchanged(data: DataConfig, meta: dict[str, Any]) -> None:
    """With a fixed dataset, coverage and seed are what it says."""
    for key in ("coverage", "seed"):
        asked, there = getattr(data, key), meta["config"][key]
        if asked is not None and asked != there:
            raise InputError(
                f"data.{key}: {asked} differs from the {there} of {data.path}/dataset.json; leave it out, or use "
                "data.generate to make another dataset"
            )


def _check_fits(data: DataConfig, model: ModelConfig, batch_size: int | None, made: dict[str, Any]) -> None:
    """Whether the model can read, and whole batches can hold, what the data config makes."""
    if batch_size is not None and made["collision_rate"]:
        check_batch_holds_pairs(batch_size)
    size, patch = made["picture"]["size"], model.scene.patch_size
    if model.scene.kind == "vision" and size % patch:
        raise InputError(
            f"model.scene.patch_size: {patch} does not divide the pictures' {size} pixels; use a divisor of {size}"
        )
    for operator in data.edits:
        if made["edits"][operator] < data.edits_per_scene:
            raise InputError(
                f"data.edits: the dataset holds {made['edits'][operator]} {operator} edits a scene, "
                f"data.edits_per_scene={data.edits_per_scene} are asked for; lower it or drop {operator!r}, or make "
                f"the dataset with data.edits.{operator}={data.edits_per_scene}"
            )
    num = made.get("captions", {}).get("positives", 0)
    if num < data.paraphrases:
        raise InputError(
            f"data.paraphrases: the dataset holds {num} a scene, {data.paraphrases} are asked for; lower it, or make "
            f"the dataset with data.captions.positives={data.paraphrases}"
        )
