"""What a finished run shows of its scenes: the worst-bound ones, and which value is taken for which."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dualenc.data import ShardSource, Source
from dualenc.evaluation import SplitResult, WorstScene
from dualenc.files import write_json
from dualenc.report.folder import data_uri
from dualenc.scenes import Grammar


def write_examples(folder: Path, source: Source, results: Mapping[str, SplitResult]) -> None:
    """Worst-bound scenes with pictures, and confusions, as files of the run folder.

    Each split is one file, which holds its pictures as text: file systems of clusters have quotas of files.
    """
    (folder / "examples").mkdir(exist_ok=True)
    (folder / "confusion").mkdir(exist_ok=True)
    for split, result in results.items():
        scenes = [_described(source, split, scene) for scene in result.worst]
        write_json(folder / "examples" / f"{split}.json", scenes)
    names = source.space.to_dict()
    confusion = {
        split: {
            concept: {"names": names[concept], "matrix": matrix.tolist()}
            for concept, matrix in result.confusion.items()
        }
        for split, result in results.items()
    }
    write_json(folder / "confusion" / "confusion.json", confusion, indent=None)


def _described(source: Source, split: str, scene: WorstScene) -> dict[str, Any]:
    """A scene as `report.folder.read_examples` reads it: the query that was preferred, and what is true."""
    grammar = Grammar(source.space)
    image = None
    if isinstance(source, ShardSource) and source.pictures:
        image = data_uri(_png(source.dataset.image(split, scene.index)))
    return {
        "split": split,
        "index": scene.index,
        "image": image,
        "caption_true": grammar.caption([grammar.object_query(i) for i in scene.objects]),
        "caption_preferred": grammar.object_query(scene.preferred),
        "score_true": scene.score_true,
        "score_preferred": scene.score_preferred,
        "bound": scene.margin > 0,
    }


def _png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
