"""A trained model to use: pictures, token scenes or texts in, embeddings out. Needs torch, not Lightning."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dualenc.build import ModelSpec, build_model
from dualenc.config import Config
from dualenc.data.queries import SymbolicQueries, SymbolicScenes, pad_to_common_length, trimmed
from dualenc.errors import InputError
from dualenc.files import read_json
from dualenc.models import DualEncoder
from dualenc.run import SPEC, RunFolder, read_config
from dualenc.scenes import ConceptSpace, Grammar, Scenes, Tokenizer
from dualenc.weights import BEST, FINAL, model_weights, newest_checkpoint, read_weights

if TYPE_CHECKING:
    from PIL.Image import Image

EXPORTED = "model.safetensors"  # in an exported folder, in place of the run folder's weights

SceneInput = Union[np.ndarray, Tensor, Scenes, "Sequence[Image | np.ndarray]"]


class LoadedModel:
    """A trained dual encoder with the vocabulary and the concept space it was trained on.

    folder: where it came from; spec: its structure; model: the `DualEncoder` itself, in evaluation mode; weights:
    `last` or `best`; samples: training samples these weights have seen.
    """

    def __init__(self, folder: Path, spec: ModelSpec, model: DualEncoder, *, weights: str, samples: int) -> None:
        self.folder, self.spec, self.model = folder, spec, model.eval()
        self.weights, self.samples = weights, samples

    @cached_property
    def space(self) -> ConceptSpace:
        """The concept space."""
        return self.spec.space

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar of captions and queries."""
        return Grammar(self.space)

    @cached_property
    def config(self) -> Config:
        """The resolved config of the training."""
        return read_config(self.folder)

    @property
    def logit_scale(self) -> float:
        """The learned inverse temperature: scores are `logit_scale * scenes @ queries.T`."""
        return float(self.model.logit_scale.detach())

    @property
    def device(self) -> torch.device:
        """Where the model is and embeddings are returned."""
        return self.model.log_logit_scale.device

    def to(self, device: torch.device | str) -> "LoadedModel":
        """Moves the model, and returns itself."""
        self.model.to(device)
        return self

    def encode_scenes(self, scenes: SceneInput, *, batch_size: int = 256) -> Float[Tensor, "n d"]:
        """L2-normalised float32 embeddings of scenes, `batch_size` at a time, without gradient.

        A vision tower takes pictures: uint8 [n, H, W, 3], numpy or torch, or a list of PIL images or uint8 [H, W, 3]
        arrays, of the size it was trained on. A symbolic tower takes `Scenes`, or token ids int [n, T] (see
        `dualenc.data.queries.SymbolicScenes`). InputError for anything else.
        """
        if self.spec.model.scene.kind == "vision":
            assert self.spec.image_size is not None
            return self._encode(self.model.encode_scenes, _pictures(scenes, self.spec.image_size), batch_size)
        return self._encode(self.model.encode_scenes, _scene_tokens(scenes, self.spec), batch_size)

    def encode_queries(self, queries: Sequence[str], *, batch_size: int = 1024) -> Float[Tensor, "n d"]:
        """L2-normalised float32 embeddings of texts, `batch_size` at a time, without gradient.

        A text tower takes any text of its vocabulary. A symbolic tower takes object and concept queries of the grammar
        ("a red cube", "something red"), which are read as such. InputError names the word or text that is not known.
        """
        if isinstance(queries, str):
            raise InputError(f"queries: {queries!r} is a single text; give a list of texts")
        tokens = self._query_tokens(list(queries))
        longest = self.spec.coder.max_length
        if tokens.shape[1] > longest:
            text = queries[int((tokens != Tokenizer.PAD).sum(axis=1).argmax())]
            raise InputError(f"queries: {text!r} has more words than the {longest - 1} this model reads; shorten it")
        return self._encode(self.model.encode_queries, tokens, batch_size)

    def _query_tokens(self, texts: list[str]) -> np.ndarray:
        """int64 [n, T]."""
        coder = self.spec.coder
        if not isinstance(coder, SymbolicQueries):
            return coder.tokenizer.encode_batch(texts)
        values = np.array([self._query_values(text) for text in texts], dtype=np.int64)
        values = values.reshape(len(texts), self.space.num_concepts)
        given = values >= 0
        whole = given.all(axis=1)
        pooled = (values + self.space.offsets)[~whole][given[~whole]]
        stacked = pad_to_common_length([coder.objects(self.space.encode(values[whole])), coder.concepts()[pooled]])
        tokens = np.empty_like(stacked)
        tokens[np.argsort(~whole, kind="stable")] = stacked
        return tokens

    def _query_values(self, text: str) -> np.ndarray:
        """int [C] value indices, -1 where left open: all of them, or exactly one, are given."""
        form = self.grammar.parse(text)
        given = int((form[0, 1:] >= 0).sum())
        if len(form) > 1 or given not in (1, self.space.num_concepts):
            raise InputError(
                f"queries: {text!r} names neither one object nor one value, all that a symbolic query tower reads; say "
                f"e.g. {self.grammar.object_query(0)!r} or {self.grammar.concept_query(0, 0)!r}"
            )
        return form[0, 1:]

    @torch.no_grad()
    def _encode(
        self, encode: Callable[[Tensor], Tensor], inputs: np.ndarray | Tensor, batch_size: int
    ) -> Float[Tensor, "n d"]:
        dimension = self.spec.model.output_dim
        assert dimension is not None
        parts = [torch.zeros(0, dimension, device=self.device)]
        for start in range(0, len(inputs), batch_size):
            part = inputs[start : start + batch_size]
            tensor = part if isinstance(part, Tensor) else torch.tensor(part)
            parts.append(encode(tensor.to(self.device)))
        return torch.cat(parts)


def load_model(folder: Path, *, weights: str) -> LoadedModel:
    """See `dualenc.load`; the folder has passed `dualenc.run.check_run`."""
    try:
        stored = read_json(folder / SPEC)
        spec = ModelSpec.from_dict(stored)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / SPEC}: is not readable ({type(error).__name__}: {error}); use the dualenc that wrote it"
        ) from None
    if (folder / EXPORTED).exists():
        weights = _only_weights(folder, stored["weights"], weights)
        state, samples = read_weights(folder / EXPORTED)
    else:
        state, samples = _trained(folder, weights)
    model = build_model(spec)
    model.load_state_dict(state)
    return LoadedModel(folder, spec, model, weights=weights, samples=samples)


def _only_weights(folder: Path, held: str, asked: str) -> str:
    """The one kind of weights that an exported folder holds. InputError where `best` is asked for and not there."""
    if asked == "best" and held != "best":
        raise InputError(
            f"weights: {folder} holds only the last weights of its run; export the run again with weights=best"
        )
    return held


def _trained(folder: Path, weights: str) -> tuple[dict[str, Tensor], int]:
    """The weights of a run folder, finished or not."""
    run = RunFolder(folder, hash=folder.name.rpartition("-")[2])
    if weights == "best" and (run.checkpoints / BEST).exists():
        return read_weights(run.checkpoints / BEST)
    if weights == "best" and not run.summary.exists():
        raise InputError(f"weights: {folder} has no best weights yet, since nothing was validated on val_ood; use last")
    if (folder / FINAL).exists():
        return read_weights(folder / FINAL)
    found = newest_checkpoint(run.checkpoints)
    if found is None:
        raise InputError(
            f"{folder}: is unfinished and has no readable checkpoint yet; wait, or run its python -m dualenc.fit again"
        )
    return model_weights(found[1]), found[1]["samples"]


def _pictures(scenes: SceneInput, size: int) -> np.ndarray | Tensor:
    """uint8 [n, size, size, 3]."""
    expected = f"give uint8 pictures [n, {size}, {size}, 3], or a list of PIL images of {size} x {size} pixels"
    if isinstance(scenes, Scenes):
        raise InputError(f"scenes: this model sees pictures, not token scenes; {expected}")
    if not isinstance(scenes, np.ndarray | Tensor):
        scenes = _stacked(scenes, size, expected)
    if scenes.dtype not in (np.uint8, torch.uint8):
        raise InputError(f"scenes: numbers of type {scenes.dtype} are no pictures; {expected}")
    if scenes.shape[1:] != (size, size, 3):
        shape = " x ".join(map(str, scenes.shape))
        raise InputError(
            f"scenes: an array of {shape} has no pictures of the size this model was trained on; {expected}"
        )
    return scenes


def _stacked(pictures: Sequence[Any], size: int, expected: str) -> np.ndarray:
    from PIL.Image import Image

    arrays = [np.asarray(item.convert("RGB") if isinstance(item, Image) else item) for item in pictures]
    for i, array in enumerate(arrays):
        if array.shape != (size, size, 3):
            shape = " x ".join(map(str, array.shape))
            raise InputError(f"scenes: picture {i} is {shape}, not of the size this model was trained on; {expected}")
    return np.stack(arrays) if arrays else np.empty((0, size, size, 3), dtype=np.uint8)


def _scene_tokens(scenes: SceneInput, spec: ModelSpec) -> np.ndarray:
    """int64 [n, T] token ids of scenes."""
    space = spec.space
    if isinstance(scenes, Scenes):
        if scenes.space != space:
            raise InputError(f"scenes: their concept space is not the model's; {space_difference(space, scenes.space)}")
        scenes = trimmed(SymbolicScenes.tokens(scenes))
    expected = "give dualenc.scenes.Scenes or token ids, int [n, T]"
    if not isinstance(scenes, np.ndarray | Tensor) or len(scenes.shape) != 2:
        raise InputError(f"scenes: this model reads scenes as tokens, not pictures; {expected}")
    tokens = np.asarray(scenes.cpu() if isinstance(scenes, Tensor) else scenes)
    if not np.issubdtype(tokens.dtype, np.integer):
        raise InputError(f"scenes: numbers of type {tokens.dtype} are no tokens; {expected}")
    size, longest = SymbolicScenes.vocabulary_size(space), SymbolicScenes.max_length(space, spec.max_objects)
    if tokens.shape[1] > longest:
        raise InputError(
            f"scenes: {tokens.shape[1]} tokens a scene; this model reads {longest}, that is {spec.max_objects} objects"
        )
    if np.any((tokens < 0) | (tokens >= size)) or not tokens.any(axis=1).all():
        raise InputError(f"scenes: tokens must lie in [0, {size}), and each scene needs one that is not padding (0)")
    return tokens.astype(np.int64)


def space_difference(ours: ConceptSpace, theirs: ConceptSpace) -> str:
    """In words, the first thing in which another concept space differs from the model's."""
    if ours.names != theirs.names:
        return f"the model knows {', '.join(ours.names)}, in this order; the data has {', '.join(theirs.names)}"
    name, known, given = next((name, a, b) for name, a, b in zip(ours.names, ours.values, theirs.values) if a != b)
    missing, new = [v for v in known if v not in given], [v for v in given if v not in known]
    if not missing and not new:
        return f"the values of {name} stand in another order"
    parts = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"{', '.join(new)} is new"] * bool(new)
    return f"{name} has other values: {' and '.join(parts)}"
