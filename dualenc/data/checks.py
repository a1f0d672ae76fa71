"""What is checked of every sample of a dataset, and how a sample becomes a row of a table."""

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dualenc.data.table import HELD_OUT, SEEN, Table
from dualenc.errors import InputError
from dualenc.scenes import (
    EDIT_NAMES,
    NONE,
    OOD,
    OPPOSITE_KINDS,
    TRAIN,
    VAL_OOD,
    Grammar,
    ObjectSplit,
    Scenes,
    Tokenizer,
    truth_of_own,
    undecided_of_own,
)

ALLOWED = {"train": (TRAIN,), "val": (TRAIN,), "val_ood": (VAL_OOD,), "ood": (OOD,), "mixed": (TRAIN, OOD)}


class SampleChecker:
    """Parses and checks the samples of one split."""

    def __init__(
        self,
        grammar: Grammar,
        split: ObjectSplit,
        tokenizer: Tokenizer,
        image_size: int,
        name: str,
        relation_margin: float = 0.0,
    ) -> None:
        self.grammar, self.space, self.split = grammar, grammar.space, split
        self.tokenizer, self.image_size, self.name = tokenizer, image_size, name
        self.relation_margin = relation_margin
        self._texts: dict[str, tuple[list[int], list[list[int]]]] = {}  # many texts occur more than once

    def row(self, members: dict[str, bytes]) -> dict[str, Any]:
        """A sample's members (name -> bytes, empty where it has none) as a row. InputError says what is wrong."""
        self._check_size(members["image"], "picture")
        if members["opposite.image"]:
            self._check_size(members["opposite.image"], "opposite picture")
        try:
            meta = json.loads(members["json"])
            edits = [json.loads(line) for line in members["neg.txt"].decode().splitlines()]
            row = {
                "index": meta["index"],
                **_scene(meta),
                "partner": -1 if meta["partner"] is None else meta["partner"],
                **self._text(members["txt"].decode(), meta["caption"]["form"]),
                "edits": [self._edit(edit) for edit in edits],
                "further": [self._text(entry["text"], entry["form"]) for entry in meta.get("captions", [])],
                "positives": [self._text(entry["text"], entry["form"]) for entry in meta.get("positives", [])],
                "opposite": self._opposite(meta.get("opposite"), members),
            }
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"its text or JSON is damaged ({type(error).__name__}: {error})") from None
        for scene in (row, row["opposite"] or row):
            if not all(0 <= i < self.space.num_objects for i in scene["objects"]):
                raise InputError(f"an object id lies outside [0, {self.space.num_objects})")
        return row

    def _check_size(self, image: bytes, what: str) -> None:
        height, width = image_shape(image)
        if height != self.image_size or width != self.image_size:
            raise InputError(
                f"the {what} has {width} x {height} pixels, dataset.json says {self.image_size} x {self.image_size}"
            )

    def _edit(self, edit: dict[str, Any]) -> dict[str, Any]:
        depth = edit.get("depth", 1)
        name = edit["operator"] if depth == 1 else f"depth{depth}"
        if name not in EDIT_NAMES:
            raise InputError(f"unknown edit operator {name!r}")
        return {"operator": name, "objects": edit["objects"], **self._text(edit["text"], edit["form"])}

    def _opposite(self, told: dict[str, Any] | None, members: dict[str, bytes]) -> dict[str, Any] | None:
        there = [bool(members[name]) for name in ("opposite.image", "opposite.txt")]
        if any(there) != all(there) or all(there) != (told is not None):
            raise InputError("a part of its opposite is missing: picture, text and record belong together")
        if told is None:
            return None
        if told["kind"] not in OPPOSITE_KINDS:
            raise InputError(f"unknown kind of opposite {told['kind']!r}")
        text = self._text(members["opposite.txt"].decode(), told["caption"]["form"])
        return {"kind": told["kind"], **_scene(told), **text}

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
        scenes = table.scenes(self.space, relation_margin=self.relation_margin)
        self._check_objects(table)
        self._refuse(~truth_of_own(table.forms, scenes), table, "its caption is false of its scene")
        for forms, what in ((table.further_forms, "one of its captions"), (table.positive_forms, "a paraphrase")):
            for j in range(forms.shape[1]):
                self._refuse(~truth_of_own(forms[:, j], scenes), table, f"{what} is false of its scene")
        for j in range(table.edit_operator.shape[1]):
            exists = table.edit_operator[:, j] >= 0
            holds = _not_false(table.edit_forms[:, j], scenes)
            self._refuse(holds & exists, table, "one of its edits is true of its scene")
        self._check_named(table)
        self._check_opposites(table)

    def _check_objects(self, table: Table) -> None:
        present = table.objects >= 0
        status = np.where(present, self.split.status(np.maximum(table.objects, 0)), -1)
        legal = np.isin(status, ALLOWED[self.name])
        self._refuse(np.any(present & ~legal, axis=1), table, f"shows an object that {self.name} may not show")
        for kind in ALLOWED[self.name]:
            self._refuse(
                ~np.any(status == kind, axis=1), table, f"shows no object of a kind that {self.name} must show"
            )

    def _check_named(self, table: Table) -> None:
        """What texts name in full: objects of edits are as recorded, and `train` names train objects only."""
        made, shown = table.edit_made, table.objects[:, None, None]
        named = self._named(table.edit_forms)
        added = _descending(np.where(np.any(named[..., None] == shown, axis=-1), -1, named))
        differs = np.any(_descending(made) != _distinct(added), axis=(1, 2))
        self._refuse(differs, table, "the objects of one of its edits are not those that its words add to the scene")
        held_out = np.any((made >= 0) & (self.split.status(np.maximum(made, 0)) != TRAIN), axis=-1)
        if self.name == "train":
            self._refuse(np.any(held_out, axis=1), table, "one of its edits names a held-out object")
            for forms in (
                table.forms[:, None],
                table.further_forms,
                table.positive_forms,
                table.opposite_forms[:, None],
            ):
                wrong = self._is_held_out(self._named(forms)) | ~self._fits_training(forms)
                self._refuse(np.any(wrong, axis=(1, 2)), table, "one of its texts names a held-out object")
            wrong = ~self._fits_training(table.edit_forms)
            self._refuse(np.any(wrong, axis=(1, 2)), table, "one of its edits describes what only held-out objects are")
        table.edit_status[:] = np.where(held_out, HELD_OUT, SEEN)

    def _check_opposites(self, table: Table) -> None:
        rows = np.flatnonzero(table.opposite >= 0)
        if not len(rows):
            return
        own = table.scenes(self.space, rows, relation_margin=self.relation_margin)
        other = table.opposite_scenes(self.space, rows, relation_margin=self.relation_margin)
        wrong = np.zeros(len(table), dtype=bool)
        wrong[rows] = ~truth_of_own(table.opposite_forms[rows], other) | _not_false(table.opposite_forms[rows], own)
        self._refuse(wrong, table, "its opposite caption is false of its opposite, or not false of its scene")
        wrong[rows] = _not_false(table.forms[rows], other)
        self._refuse(wrong, table, "its caption is not false of its opposite")
        if self.name == "train":
            wrong = np.any(self._is_held_out(table.opposite_objects), axis=1)
            self._refuse(wrong, table, "its opposite shows a held-out object")

    def _is_held_out(self, ids: np.ndarray) -> np.ndarray:
        """bool, like ids: whether an object, -1 for none, is no train object."""
        return (ids >= 0) & (self.split.status(np.maximum(ids, 0)) != TRAIN)

    def _fits_training(self, forms: np.ndarray) -> np.ndarray:
        """bool [..., K]: whether a row of forms [..., K, 1 + C] that leaves something open describes a train object;
        True for rows that leave nothing open."""
        result = np.ones(forms.shape[:-1], dtype=bool)
        partial = (forms[..., 0] != NONE) & np.any(forms[..., 1:] < 0, axis=-1)
        rows, inverse = np.unique(forms[partial][:, 1:], axis=0, return_inverse=True)
        fits = [self.split.trains(row) for row in rows.tolist()]
        result[partial] = np.array(fits, dtype=bool)[inverse.reshape(-1)]
        return result

    def _named(self, forms: np.ndarray) -> np.ndarray:
        """int64 [..., K]: the objects that forms [..., K, 1 + C] name in full, present or absent, -1 elsewhere."""
        full = (forms[..., 0] != NONE) & np.all(forms[..., 1:] >= 0, axis=-1)
        return np.where(full, self.space.encode(np.maximum(forms[..., 1:], 0)), -1)

    def _refuse(self, wrong: ArrayLike, table: Table, what: str) -> None:
        if np.any(wrong):
            raise InputError(f"sample {self.name}-{table.index[np.argmax(wrong)]:08d}: {what}")


def _scene(record: dict[str, Any]) -> dict[str, Any]:
    objects = record["objects"]
    return {"objects": [item["id"] for item in objects], "positions": [item["position"] for item in objects]}


def _not_false(forms: np.ndarray, scenes: Scenes) -> np.ndarray:
    """bool [n]: whether caption i is true of scene i, or neither true nor false."""
    return truth_of_own(forms, scenes) | undecided_of_own(forms, scenes)


def _descending(ids: np.ndarray) -> np.ndarray:
    return -np.sort(-ids, axis=-1)


def _distinct(ids: np.ndarray) -> np.ndarray:
    """Descending ids [..., K], each once, then -1."""
    repeated = np.zeros(ids.shape, dtype=bool)
    repeated[..., 1:] = ids[..., 1:] == ids[..., :-1]
    return _descending(np.where(repeated, -1, ids))


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
