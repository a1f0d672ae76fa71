"""Recognition of a pretrained model on pictures of ours, asked in words: what `dualenc.evaluate` measures."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dualenc.analysis.pretrained import Pretrained
from dualenc.analysis.studies import RecognitionOptions
from dualenc.analysis.targets import PretrainedTarget, Target
from dualenc.errors import InputError
from dualenc.evaluation import Evaluator, with_prefix
from dualenc.scenes import Tokenizer

COLUMNS = (
    *("concept_recognition", "concept_chance", "object_recognition", "bag_level", "bag_ceiling", "binding_gain"),
    *("object_chance", "object_candidates", "caption_vs_swap", "caption_vs_replace", "caption_vs_add"),
)


def zero_shot(target: Target, options: RecognitionOptions) -> dict[str, Any]:
    """`metrics` as in a run's summary.json, and their headline as a table.

    The canonical queries ("a red cube", "something red") and captions are read as they are, without a prompt around
    them. What the splits call seen or held out says nothing about a pretrained model. Raises InputError for a run (its
    own report has these numbers), for a model without a text tower and where there are no pictures.
    """
    if not isinstance(target, PretrainedTarget) or target.source is None:
        raise InputError(
            "TARGET: recognition asks a pretrained model about pictures; use hf:FOLDER with data.path=DATASET; for a "
            "run use python -m dualenc.evaluate"
        )
    if target.model.tokens is None:
        raise InputError(
            f"TARGET: {target.model.kind} has no text tower, so nothing can be asked; use a CLIP or SigLIP checkpoint"
        )
    source, asked = target.source, _AskedInWords(target.model, target.source.tokenizer)
    evaluator = Evaluator(asked, source, batch_size=options.batch_size)  # type: ignore[arg-type]
    metrics = with_prefix(evaluator.all_splits(num_scenes=options.num_scenes))
    splits = list(dict.fromkeys(key.partition("/")[0] for key in metrics))
    rows = [
        {"split": split, "num_scenes": int(metrics[f"{split}/num_scenes"] or 0)}
        | {name: metrics[f"{split}/{name}"] for name in COLUMNS}
        for split in splits
    ]
    note = "Splits are those of the dataset: a pretrained model was trained on none of them."
    return {"notes": [note], "tables": {"Recognition": rows}, "metrics": metrics}


class _AskedInWords(nn.Module):
    """A pretrained model as the evaluator knows a dual encoder: pictures, and tokens of our vocabulary."""

    def __init__(self, model: Pretrained, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model, self._tokenizer = model, tokenizer

    def encode_scenes(self, pictures: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n d"]:
        """Embeddings of length one."""
        found = self.model.pictures(pictures.cpu().numpy())
        return nn.functional.normalize(found, dim=-1)

    def encode_queries(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """Embeddings of length one; each text once, in blocks."""
        unique, place = np.unique(tokens.cpu().numpy(), axis=0, return_inverse=True)
        texts = [self._tokenizer.decode(row) for row in unique.tolist()]
        found = torch.cat([self.model.texts(texts[i : i + 256]) for i in range(0, len(texts), 256)])
        return nn.functional.normalize(found, dim=-1)[torch.from_numpy(place.reshape(-1)).to(found.device)]
