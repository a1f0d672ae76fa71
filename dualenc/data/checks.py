"""What is checked of every sample of a dataset, and how a sample becomes a row of a table."""

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dualenc.data.table import HELD_OUT, SEEN, Table
from dualenc.errors import InputError
from dualenc.scenes import EXISTS, OOD, OPERATORS, TRAIN, VAL_OOD, Grammar, ObjectSplit, Tokenizer, truth_of_own

ALLOWED = {"train": (TRAIN,), "val": (TRAIN,), "val_ood": (VAL_OOD,), "ood": (OOD,), "mixed": (TRAIN, OOD)}


class SampleChecker:
    """Parses and checks the samples of one split."""

    def __init__(self, grammar: Grammar, split: ObjectSplit, tokenizer: Tokenizer, image_size: int, name: str) -> None:
        self.grammar, self.space, self.split = grammar, grammar.space, split
        self.tokenizer, self.image_size, self.name = tokenizer, image_size, name
        self._texts: dict[str, tuple[list[int], list[list[int]]]] = {}  # many texts occur more than once

    def row(self, members: dict[str, bytes]) -> dict[str, Any]:
        """A sample's members (image, txt, json, neg.txt as bytes) as a row. InputError says what is wrong."""
        height, width = image_shape(members["image"])
        if height != self.image_size or width != self.image_size:
            raise InputError(
                f"the picture has {width} x {height} pixels, dataset.json says {self.image_size} x {self.image_size}"
            )
        try:
            meta = json.loads(members["json"])
            edits = [json.loads(line) for line in members["neg.txt"].decode().splitlines()]
            row = {
                "index": meta["index"],
                "objects": [item["id"] for item in meta["objects"]],
                "positions": [item["position"] for item in meta["objects"]],
                "partner": -1 if meta["partner"] is None else meta["partner"],
                **self._text(members["txt"].decode(), meta["caption"]["form"]),
                "edits": [self._edit(edit) for edit in edits],
            }
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"its text or JSON is damaged ({type(error).__name__}: {error})") from None
        if not all(0 <= i < self.space.num_objects for i in row["objects"]):
            raise InputError(f"an object id lies outside [0, {self.space.num_objects})")
        return row

    def _edit(self, edit: dict[str, Any]) -> dict[str, Any]:
        if edit["operator"] not in OPERATORS:
            raise InputError(f"unknown edit operator {edit['operator']!r}")
        return {
            "operator": edit["operator"],
            "objects": edit["objects"],
            **self._text(edit["text"], edit["form"]),
        }

    def _text(self, text: str, form: list[list[int]]) -> dict[str, Any]:
        """Tokens and logical form of a text; the form is read from the words, and must be the one that is stored."""
        if text not in self._texts:
            self._texts[text] = self.tokenizer.encode(text), self.grammar.parse(text).tolist()
        tokens, parsed = self._texts[text]
        if parsed != form:
            raise InputError(f"the stored form of {text!r} is not what its words say")
        return {"tokens": tokens, "form": parsed}

    def check_table(self, table: Table) -> None:
        """What can be checked of many samples at once: captions true, edits false, the split clean (law 4). Fills in
        the edits' status."""
        if not len(table):
            return
        scenes = table.scenes(self.space)
        present = table.objects >= 0
        status = np.where(present, self.split.status(np.maximum(table.objects, 0)), -1)
        legal = np.isin(status, ALLOWED[self.name])
        self._refuse(np.any(present & ~legal, axis=1), table, f"shows an object that {self.name} may not show")
        for kind in ALLOWED[self.name]:
            self._refuse(
                ~np.any(status == kind, axis=1), table, f"shows no object of a kind that {self.name} must show"
            )
        self._refuse(~truth_of_own(table.forms, scenes), table, "its caption is false of its scene")
        for j in range(table.edit_operator.shape[1]):
            exists = table.edit_operator[:, j] >= 0
            true = truth_of_own(table.edit_forms[:, j], scenes)
            self._refuse(true & exists, table, "one of its edits is true of its scene")
        made, named = table.edit_made, self._made(table)
        padding = ((0, 0), (0, 0), (0, named.shape[-1] - made.shape[-1]))
        differs = np.any(_descending(np.pad(made, padding, constant_values=-1)) != named, axis=(1, 2))
        self._refuse(differs, table, "the objects of one of its edits are not those that its words add to the scene")
        held_out = np.any((made >= 0) & (self.split.status(np.maximum(made, 0)) != TRAIN), axis=-1)
        if self.name == "train":
            self._refuse(np.any(held_out, axis=1), table, "one of its edits names a held-out object")
        table.edit_status[:] = np.where(held_out, HELD_OUT, SEEN)

    def _made(self, table: Table) -> np.ndarray:
        """int64 [N, E, K + 1]: the objects that each edit names in full and its scene lacks, descending, then -1."""
        forms = table.edit_forms
        full = (forms[..., 0] == EXISTS) & np.all(forms[..., 1:] >= 0, axis=-1)
        ids = self.space.encode(np.maximum(forms[..., 1:], 0))
        shown = np.any(ids[..., None] == table.objects[:, None, None], axis=-1)
        return _descending(np.where(full & ~shown, ids, -1))

    def _refuse(self, wrong: ArrayLike, table: Table, what: str) -> None:
        if np.any(wrong):
            raise InputError(f"sample {self.name}-{table.index[np.argmax(wrong)]:08d}: {what}")


def _descending(ids: np.ndarray) -> np.ndarray:
    return -np.sort(-ids, axis=-1)


def image_shape(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG or PNG, from its header."""
    import simplejpeg

    if data[:2] == b"\xff\xd8":
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            raise InputError("its picture is damaged") from None
        return height, width
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    raise InputError("its picture is neither JPEG nor PNG")
