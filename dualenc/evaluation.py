"""All metrics of a model on one split of a source: encode, score, and hand over to `dualenc.metrics`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dualenc import metrics
from dualenc.config import Config
from dualenc.data import EVAL_SPLITS, EvalBatch, EvalOpposites, Source
from dualenc.data.queries import QueryCoder
from dualenc.data.table import HELD_OUT
from dualenc.models import DualEncoder
from dualenc.scenes import EDIT_NAMES, OPERATORS, OPPOSITE_KINDS, Grammar, Scenes, truth, undecided

_GALLERY = 2048  # scenes of the retrieval gallery: chance and difficulty should not depend on the size of a split


@dataclass(frozen=True)
class WorstScene:
    """A scene whose objects are not all preferred: number in its split, margin, and what was preferred instead."""

    index: int
    margin: float
    objects: list[int]
    preferred: int
    score_true: float
    score_preferred: float


@dataclass(frozen=True)
class SplitResult:
    """metrics: names without the split's prefix; worst: the scenes with the smallest margins, worst first;
    confusion: concept name -> [V, V] counts (see `dualenc.metrics.attribute_confusion`)."""

    metrics: dict[str, float | None]
    worst: list[WorstScene]
    confusion: dict[str, np.ndarray]


class Pairs(NamedTuple):
    """Scenes [n, d] and one true query each, queries [n, d]; true, undecided bool [n, n]: what is so of scene i and
    query j."""

    scenes: Tensor
    queries: Tensor
    true: Tensor
    undecided: Tensor


class Evaluator:
    """Evaluates a `DualEncoder` on the splits of a source.

    batch_size: scenes or queries encoded at once. `autocast` opens the context to encode in (bf16 or nothing).
    """

    def __init__(
        self, model: DualEncoder, source: Source, *, batch_size: int, autocast: Callable[[], Any] | None = None
    ) -> None:
        self.model, self.source, self.batch_size = model, source, batch_size
        self._autocast = autocast
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def all_splits(self, *, num_scenes: int | None = None, num_worst: int = 0) -> dict[str, SplitResult]:
        """Every split that holds scenes, with at most `num_scenes` of each (None: all)."""
        was_training = self.model.training
        self.model.eval()
        try:
            concepts = self._queries(self.source.coder.concepts())
            objects = self._object_queries() if self.source.space.num_objects <= self._KEEP else None
            results = {}
            for split in EVAL_SPLITS:
                number = self.source.num_samples(split)
                number = min(number, num_scenes) if num_scenes else number
                if number:
                    results[split] = self._split(split, number, concepts, objects, num_worst)
            return results
        finally:
            self.model.train(was_training)

    @torch.no_grad()
    def pairs(self, split: str, *, num_scenes: int) -> "Pairs":
        """Embeddings of the first scenes of a split and of one true query each: the caption, or, where the query tower
        reads none, the first object's query."""
        was_training = self.model.training
        self.model.eval()
        try:
            number = min(num_scenes, self.source.num_samples(split))
            batches = [self.source.eval_batch(split, *span) for span in spans(number, self.batch_size)]
            scenes = Scenes.concatenate([batch.scenes for batch in batches])
            embeddings = torch.cat([self._scenes(batch.inputs) for batch in batches])
            if batches[0].texts is None:
                forms = Grammar(self.source.space).object_forms(scenes.objects[:, :1])
                queries = self._queries(self.source.coder.objects(scenes.objects[:, 0]))
            else:
                texts = [batch.texts for batch in batches if batch.texts is not None]
                forms = np.concatenate([text.forms for text in texts])
                queries = torch.cat([self._queries(text.captions) for text in texts])
            true, neither = (torch.as_tensor(judge(forms, scenes), device=self.device) for judge in (truth, undecided))
            return Pairs(embeddings, queries, true, neither)
        finally:
            self.model.train(was_training)

    _KEEP = 1 << 17  # object queries kept between splits; beyond, they are encoded again for each

    def _split(self, split: str, number: int, concepts: Tensor, objects: Tensor | None, num_worst: int) -> SplitResult:
        space, statuses = self.source.space, self.source.split.statuses
        batches = [self.source.eval_batch(split, *span) for span in spans(number, self.batch_size)]
        embeddings = torch.cat([self._scenes(batch.inputs) for batch in batches])
        scenes = Scenes.concatenate([batch.scenes for batch in batches])
        blocks = [(0, objects)] if objects is not None else self._object_blocks()
        vocabulary = metrics.recognition_blocks(embeddings, blocks, objects=scenes.objects, status=statuses)
        report = metrics.binding_report(
            embeddings @ concepts.T,
            vocabulary,
            values=scenes.values,
            sizes=space.sizes,
            concept_names=space.names,
            bags=metrics.bag_levels(scenes.values, status=statuses, sizes=space.sizes),
            split=split,
        )
        report |= self._texts(batches, embeddings, scenes)
        report |= self._opposites(batches, embeddings)
        confusion = metrics.attribute_confusion(scenes.values, vocabulary.preferred.numpy(), sizes=space.sizes)
        return SplitResult(report, _worst(vocabulary, scenes, num_worst), dict(zip(space.names, confusion)))

    def _texts(self, batches: list[EvalBatch], embeddings: Tensor, scenes: Scenes) -> dict[str, float | None]:
        """Caption versus edit and retrieval; null where the query tower reads no captions."""
        if batches[0].texts is None:
            return {f"caption_vs_{operator}": None for operator in OPERATORS}
        texts = [batch.texts for batch in batches if batch.texts is not None]
        captions = torch.cat([self._queries(text.captions) for text in texts])
        operator = np.concatenate([text.operator for text in texts])
        heldout = np.concatenate([text.status for text in texts]) == HELD_OUT
        edits = [self._queries(text.edits.reshape(-1, text.edits.shape[-1])) for text in texts if text.edits.size]
        others = torch.cat(edits).reshape(*operator.shape, -1) if edits else captions[:, None][:, :0]
        # One operation scores captions and edits: two would round differently, and equal texts must tie (law 5).
        scores = torch.einsum("nd,ned->ne", embeddings, torch.cat([captions[:, None], others], dim=1))
        own, scores = scores[:, 0], scores[:, 1:]
        report: dict[str, float | None] = {}
        rows = np.arange(len(scenes))
        for number, name in enumerate(EDIT_NAMES):
            # The first edit by an operator stands for it, so that every scene counts once; the padding is for no edits.
            is_this = np.pad(operator == number, ((0, 0), (0, 1)))
            if name not in OPERATORS and not is_this.any():
                continue
            column = np.argmax(is_this, axis=1)
            report |= metrics.caption_versus_edit(
                own,
                torch.nn.functional.pad(scores, (0, 1))[rows, column],
                operator=name,
                exists=torch.as_tensor(is_this.any(axis=1)),
                heldout=torch.as_tensor(np.pad(heldout, ((0, 0), (0, 1)))[rows, column]),
            )
        forms = np.concatenate([text.forms for text in texts])
        return report | self._retrieval(texts, captions, forms, embeddings, scenes)

    def _retrieval(
        self, texts: list[Any], captions: Tensor, forms: np.ndarray, embeddings: Tensor, scenes: Scenes
    ) -> dict[str, float | None]:
        width = max(text.captions.shape[1] for text in texts)
        tokens = np.concatenate([np.pad(t.captions, ((0, 0), (0, width - t.captions.shape[1]))) for t in texts])
        _, first = np.unique(tokens[:_GALLERY], axis=0, return_index=True)
        first.sort()
        gallery = scenes[slice(_GALLERY)]
        true, neither = (torch.as_tensor(judge(forms[first], gallery)) for judge in (truth, undecided))
        scores = embeddings[:_GALLERY] @ captions[torch.as_tensor(first)].T
        return metrics.retrieval(scores, true.to(scores.device), undecided=neither.to(scores.device))

    def _opposites(self, batches: list[EvalBatch], embeddings: Tensor) -> dict[str, float | None]:
        """Scores of the minimal pairs, by what differs in them; empty where the data has none."""
        scores, kinds, first = [], [], 0
        for batch in batches:
            if batch.opposites is not None and batch.texts is not None:
                scores.append(self._minimal_pairs(batch.opposites, batch.texts.captions, embeddings[first:]))
                kinds.append(batch.opposites.kind)
            first += len(batch.scenes)
        if not scores:
            return {}
        every, kind = torch.cat(scores), np.concatenate(kinds)
        report: dict[str, float | None] = {}
        for number in np.unique(kind).tolist():
            exists = torch.as_tensor(kind == number, device=every.device)
            report |= metrics.minimal_pairs(every, kind=OPPOSITE_KINDS[number], exists=exists)
        return report

    def _minimal_pairs(self, opposites: EvalOpposites, captions: np.ndarray, embeddings: Tensor) -> Tensor:
        """[k, 2, 2]: picture and opposite picture against caption and opposite caption; all by one operation, as ties
        count."""
        rows = torch.as_tensor(opposites.rows, device=embeddings.device)
        pictures = torch.stack([embeddings[rows], self._scenes(opposites.inputs)], dim=1)
        texts = torch.stack([self._queries(captions[opposites.rows]), self._queries(opposites.captions)], dim=1)
        return torch.einsum("kpd,kcd->kpc", pictures, texts)

    def _scenes(self, inputs: np.ndarray) -> Float[Tensor, "n d"]:
        return self._encode(self.model.encode_scenes, inputs)

    def _queries(self, tokens: np.ndarray) -> Float[Tensor, "n d"]:
        if not len(tokens):
            return torch.zeros(0, 1, device=self.device)
        parts = [self._encode(self.model.encode_queries, tokens[slice(*span)]) for span in spans(len(tokens), 4096)]
        return torch.cat(parts)

    def _encode(self, encode: Callable[[Tensor], Tensor], inputs: np.ndarray) -> Tensor:
        tensor = torch.as_tensor(inputs, device=self.device)
        if self._autocast is None:
            return encode(tensor)
        with self._autocast():
            return encode(tensor).float()

    def _object_blocks(self) -> Iterator[tuple[int, Tensor]]:
        return object_blocks(self.source.coder, self.source.space.num_objects, self._queries)

    def _object_queries(self) -> Tensor:
        return torch.cat([block for _, block in self._object_blocks()])


EMBEDDED = 2048  # val scenes whose embeddings' spectrum and geometry stand beside the metrics of weights


def spectrum_numbers(pairs: Pairs) -> dict[str, float]:
    """`spectrum/name` -> number (see `dualenc.metrics.spectrum_report`)."""
    report = metrics.spectrum_report(metrics.spectra(pairs.scenes, pairs.queries))
    return {f"spectrum/{name}": value for name, value in report.items()}


def geometry_numbers(pairs: Pairs) -> dict[str, float]:
    """`geometry/name` -> number (see `dualenc.metrics.geometry_report`)."""
    report = metrics.geometry_report(pairs.scenes, pairs.queries)
    return {f"geometry/{name}": value for name, value in report.items()}


def all_metrics(evaluator: Evaluator, results: dict[str, SplitResult]) -> dict[str, float | None]:
    """The metrics of all splits, and spectrum and geometry of val where it has two scenes."""
    numbers = with_prefix(results)
    if evaluator.source.num_samples("val") > 1:
        pairs = evaluator.pairs("val", num_scenes=EMBEDDED)
        numbers |= spectrum_numbers(pairs) | geometry_numbers(pairs)
    return numbers


def make_evaluator(config: Config, model: DualEncoder, source: Source) -> Evaluator:
    """An evaluator in the run's precision, on the device the model is on."""
    device = next(model.parameters()).device

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.trainer.precision == "bf16-mixed")

    return Evaluator(model, source, batch_size=config.eval.batch_size, autocast=autocast)


def object_blocks(
    coder: QueryCoder, num_objects: int, encode: Callable[[np.ndarray], Tensor], size: int = 8192
) -> Iterator[tuple[int, Tensor]]:
    """(first id, embeddings [b, d]) of the canonical queries of all objects, a block at a time."""
    for start, stop in spans(num_objects, size):
        yield start, encode(coder.objects(np.arange(start, stop)))


def spans(number: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive pieces of range(number)."""
    for start in range(0, number, size):
        yield start, min(start + size, number)


def with_prefix(results: dict[str, SplitResult]) -> dict[str, float | None]:
    """All splits' metrics as one dict of `split/name`."""
    return {f"{split}/{name}": value for split, result in results.items() for name, value in result.metrics.items()}


def _worst(vocabulary: metrics.VocabularyRecognition, scenes: Scenes, number: int) -> list[WorstScene]:
    margins = vocabulary.margin
    worst = torch.argsort(margins, stable=True)[:number].tolist()
    return [
        WorstScene(
            index=i,
            margin=float(margins[i]),
            objects=scenes.objects[i][scenes.objects[i] >= 0].tolist(),
            preferred=int(vocabulary.best_negative[i]),
            score_true=float(vocabulary.min_positive[i].amin()),
            score_preferred=float(vocabulary.max_negative[i].amax()),
        )
        for i in worst
    ]
