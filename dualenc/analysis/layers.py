"""What can be read where: linear probes of concepts and objects at every layer and position of a tower.

Objects being read where concepts are read already, but not before, is where binding appears. Residual streams are read
as they are, after each block; `layer` 0 is what enters the first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from os import getpid
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.generalization import scenes_of_count
from dualenc.analysis.memory import available_memory, in_words, share_memory
from dualenc.analysis.pretrained import Pretrained
from dualenc.analysis.probes import SceneSplit, scene_split
from dualenc.analysis.progress import track
from dualenc.analysis.reading import fit_readers, merged, readings
from dualenc.analysis.studies import LayersOptions
from dualenc.analysis.targets import PretrainedTarget, RunTarget, Target, embed_splits, slots_of
from dualenc.analysis.texts import draw_pairs, texts_of
from dualenc.errors import InputError
from dualenc.evaluation import spans
from dualenc.models import TokenTower
from dualenc.models.transformer import Packing, Transformer
from dualenc.processes import become_worker, num_cores, worker_pool


def layers(target: Target, options: LayersOptions) -> dict[str, Any]:
    """Table `Probes`: one row for each layer and position, with the share of concepts and of scenes read there on test
    scenes. `mean` is the mean over all positions, `end` the last one that is not padding.

    Raises InputError for an object count that the scenes do not have.
    """
    states = states_of(target, options)
    split = scene_split(states.scenes, options.seed)
    asked = [(layer, position) for layer in range(states.num_layers) for position in states.positions(options)]
    found = dict(track("layers", _run(states, split, options, asked), total=len(asked)))
    table = [{"layer": layer, "position": position, **found[layer, position][0]} for layer, position in asked]
    notes: list[str] = []
    for _, more in found.values():
        notes = merged(notes, more)
    return {"notes": notes, "tables": {"Probes": table}}


@dataclass(frozen=True, eq=False)
class States:
    """states [n, layers, positions, width] of scenes of one object count; lengths [n]: positions that are not
    padding. `scenes` hold the embeddings."""

    scenes: EmbeddedScenes
    states: Float[Tensor, "n layers positions width"]
    lengths: np.ndarray

    @property
    def num_layers(self) -> int:
        """The blocks, and what enters the first."""
        return self.states.shape[1]

    def positions(self, options: LayersOptions) -> list[str]:
        """Numbers of positions that no scene has padding at, if all are asked for, then `mean` and `end`."""
        single = range(int(self.lengths.min())) if options.positions == "all" else range(0)
        return [*map(str, single), "mean", "end"]

    def at(self, layer: int, position: str) -> EmbeddedScenes:
        """The scenes, with the states of one place as their embeddings."""
        states = self.states[:, layer]
        inside = torch.arange(states.shape[1]) < torch.from_numpy(self.lengths)[:, None]
        if position == "mean":
            found = (states * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        elif position == "end":
            found = states[torch.arange(len(states)), torch.from_numpy(self.lengths) - 1]
        else:
            found = states[:, int(position)]
        return replace(self.scenes, embeddings=found)


@contextmanager
def recorded(tower: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what enters the first block and what leaves each block of one of our towers, [n, t, width], for every
    call. The tower reads the mean meanwhile, for which every block works on every position; what it returns is not
    its embedding."""
    trunk = cast(Transformer, tower.transformer)
    states: list[Tensor] = []

    def spread(x: Tensor, packing: Packing | None) -> None:
        states.append(x if packing is None else packing.unpack(x))

    first = trunk.blocks[0].register_forward_pre_hook(lambda _, inputs: spread(inputs[0], inputs[3]))
    hooks = [first] + [
        block.register_forward_hook(lambda _, inputs, output: spread(output, inputs[3])) for block in trunk.blocks
    ]
    readout, tower.readout = tower.readout, "mean"  # type: ignore[assignment]
    try:
        yield states
    finally:
        tower.readout = readout
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def tower_states(tower: nn.Module, inputs: Tensor) -> tuple[Float[Tensor, "n layers t width"], np.ndarray]:
    """States of one of our towers, and how many positions of each sequence are not padding."""
    with recorded(tower) as states:
        tower(inputs)
    found = torch.stack(states, dim=1)
    if isinstance(tower, TokenTower):
        return found, tower.lengths(inputs).cpu().numpy()
    return found, np.full(len(inputs), found.shape[2])


@torch.no_grad()
def pretrained_states(
    model: Pretrained, inputs: Sequence[str] | np.ndarray
) -> tuple[Float[Tensor, "n layers t width"], np.ndarray]:
    """States of a pretrained model on pictures [n, h, w, 3] or texts, and how many positions are not padding."""
    if isinstance(inputs, np.ndarray):
        pixels = model.pixels(inputs)
        trunk = model.model if model.kind == "dinov2" else model.model.vision_model
        hidden = trunk(pixel_values=pixels, output_hidden_states=True).hidden_states
        return torch.stack(hidden, dim=1), np.full(len(inputs), hidden[0].shape[1])
    if model.tokens is None:
        raise InputError(f"TARGET: {model.kind} has no text tower; use pictures (data.path), or CLIP or SigLIP")
    ids = model.tokens(inputs)
    hidden = model.model.text_model(input_ids=ids.to(model.device), output_hidden_states=True).hidden_states
    padded = (ids == ids[:, -1:]).flip(1).cumprod(1).sum(1)  # the end token pads too, and counts once
    return torch.stack(hidden, dim=1), (ids.shape[1] - padded + 1).numpy()


def text_states(
    model: Pretrained, texts: Sequence[str], batch_size: int
) -> tuple[Float[Tensor, "n layers positions width"], np.ndarray]:
    """As `pretrained_states`, a batch of texts at a time; positions that a batch does not have are zeros."""
    blocks = []
    for span in track("texts", list(spans(len(texts), batch_size))):
        states, lengths = pretrained_states(model, texts[slice(*span)])
        _check_memory(states, num_scenes=len(texts))
        blocks.append((states.cpu(), lengths))
    most = max(states.shape[2] for states, _ in blocks)
    padded = [nn.functional.pad(states, (0, 0, 0, most - states.shape[2])) for states, _ in blocks]
    return torch.cat(padded), np.concatenate([lengths for _, lengths in blocks])


def states_of(target: Target, options: LayersOptions) -> States:
    """The states of a target's scenes of `options.count` objects."""
    if isinstance(target, PretrainedTarget) and target.source is None:
        space = target._space
        objects = draw_pairs(space, options.num_scenes, seed=options.seed)
        states, lengths = text_states(target.model, texts_of(space, objects), options.batch_size)
        flat = EmbeddedScenes(states.flatten(1), objects, space, "mention")
        return _unflat(scenes_of_count([flat], options.count), states.shape[1], states.shape[2], lengths)
    shape: list[tuple[int, int]] = []

    def flat_states(run: Callable[[Any], tuple[Tensor, np.ndarray]], inputs: np.ndarray) -> Tensor:
        states, lengths = run(inputs)
        shape.append((states.shape[1], states.shape[2]))
        _check_memory(states, num_scenes=options.num_scenes * len(options.splits))
        # the lengths travel with the states, so that both are sorted by object count
        return torch.cat([states.flatten(1).cpu(), torch.from_numpy(lengths)[:, None].to(torch.float32)], dim=1)

    if isinstance(target, RunTarget):
        tower, device = target.loaded.model.scene_tower, target.loaded.device
        run: Callable[[Any], Any] = lambda inputs: tower_states(tower, torch.as_tensor(inputs, device=device))  # noqa: E731
        source, train = target.source, target.train
    else:
        assert isinstance(target, PretrainedTarget)
        run = partial(pretrained_states, target.model)
        source, train = target.source, None  # type: ignore[assignment]
    parts = embed_splits(source, partial(flat_states, run), options, slots=slots_of(source), train=train)
    if len(set(shape)) > 1:
        raise InputError("count: scenes of different lengths stand in one batch; use a dataset of one object count")
    part = scenes_of_count(parts, options.count)
    lengths = part.embeddings[:, -1].round().long().numpy()
    return _unflat(replace(part, embeddings=part.embeddings[:, :-1]), *shape[0], lengths)


def _unflat(flat: EmbeddedScenes, num_layers: int, num_positions: int, lengths: np.ndarray) -> States:
    states = flat.embeddings.unflatten(1, (num_layers, num_positions, -1))
    return States(replace(flat, embeddings=states[:, -1, -1]), states, lengths)


def _check_memory(states: Tensor, *, num_scenes: int) -> None:
    """InputError where the states of all scenes, or texts, would not fit, twice, into the memory that is free."""
    needed, free = 2 * states[0].numel() * 4 * num_scenes, available_memory()
    if needed > free:
        raise InputError(
            f"num_scenes: the states of {num_scenes:,} scenes need {in_words(needed)}, {in_words(free)} are free; "
            "use fewer"
        )


Asked = tuple[int, str]


def _run(
    states: States, split: SceneSplit, options: LayersOptions, asked: Sequence[Asked]
) -> Iterator[tuple[Asked, tuple[dict[str, Any], list[str]]]]:
    """What is read at each layer and position, and the notes of its probes; on a CPU by one process for each core."""
    workers = num_cores() if options.workers is None else options.workers
    study = partial(_read, split=split, options=options)
    places = (states.at(*each) for each in asked)
    if workers == 1:
        yield from zip(asked, map(study, places))
        return
    workers = min(workers, len(asked))
    with worker_pool(workers, _start, getpid(), workers) as pool:
        yield from zip(asked, pool.map(study, places))


def _start(parent: int, workers: int) -> None:
    become_worker(parent)
    share_memory(workers)
    torch.set_num_threads(1)


def _read(scenes: EmbeddedScenes, *, split: SceneSplit, options: LayersOptions) -> tuple[dict[str, Any], list[str]]:
    probes, notes = fit_readers(scenes, split, objects=options.object_probe)
    return readings(probes, scenes.take(split.test), seed=options.seed), notes
