"""A split as arrays: everything that training and evaluation ask of a sample, except its picture."""

import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dualenc.files import atomic_path
from dualenc.scenes import ANY, EDIT_NAMES, NONE, OPPOSITE_KINDS, ConceptSpace, Scenes

SEEN, HELD_OUT = 0, 1  # status of an edit: all objects it makes are train objects, or some is held out


@dataclass(frozen=True, eq=False)
class Table:
    """N samples of one split. Most of a sample: m objects, K rows in a form, T words, E edits, A further captions,
    P positives (other texts that mean the same as the caption).

    shard: int32 [N]; image: int64 [N, 2], offset and size in the shard; index: int64 [N], the scene's number;
    objects: int64 [N, m]; positions: float32 [N, m, 2]; partner: int64 [N], the swap partner's number or -1;
    tokens: int16 [N, T] and forms: int32 [N, K, 1 + C] of the caption;
    edit_operator: int8 [N, E], index into EDIT_NAMES or -1; edit_status: int8 [N, E];
    edit_tokens: int16 [N, E, T]; edit_forms: int32 [N, E, K + 1, 1 + C]; edit_made: int64 [N, E, K + 1], the objects
    that an edit names in full and its scene does not show, -1 for none;
    further_tokens: int16 [N, A, T] and further_forms: int32 [N, A, K, 1 + C], 0 and NONE where there is none;
    positive_tokens: int16 [N, P, T] and positive_forms: int32 [N, P, K, 1 + C], likewise;
    opposite: int8 [N], index into OPPOSITE_KINDS or -1; opposite_image, opposite_objects, opposite_positions,
    opposite_tokens, opposite_forms: as of the sample itself; padding where there is none.
    """

    shard: np.ndarray
    image: np.ndarray
    index: np.ndarray
    objects: np.ndarray
    positions: np.ndarray
    partner: np.ndarray
    tokens: np.ndarray
    forms: np.ndarray
    edit_operator: np.ndarray
    edit_status: np.ndarray
    edit_tokens: np.ndarray
    edit_forms: np.ndarray
    edit_made: np.ndarray
    further_tokens: np.ndarray
    further_forms: np.ndarray
    positive_tokens: np.ndarray
    positive_forms: np.ndarray
    opposite: np.ndarray
    opposite_image: np.ndarray
    opposite_objects: np.ndarray
    opposite_positions: np.ndarray
    opposite_tokens: np.ndarray
    opposite_forms: np.ndarray

    def __len__(self) -> int:
        return len(self.objects)

    def scenes(
        self, space: ConceptSpace, rows: np.ndarray | slice = slice(None), *, relation_margin: float = 0.0
    ) -> Scenes:
        """The scenes of some rows."""
        return Scenes(space, self.objects[rows], self.positions[rows], relation_margin)

    def opposite_scenes(self, space: ConceptSpace, rows: np.ndarray, *, relation_margin: float = 0.0) -> Scenes:
        """The opposite scenes of rows that have one."""
        return Scenes(space, self.opposite_objects[rows], self.opposite_positions[rows], relation_margin)

    def save(self, path: Path) -> None:
        """Writes the arrays as one .npz file, atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Table":
        """Reads what `save` wrote. ValueError where the file is missing or not what was written."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{field.name: arrays[field.name] for field in fields(cls)})
        except (AttributeError, EOFError, LookupError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from None


class TableWidths(NamedTuple):
    """How wide the rows of a table are: m, C, K, E, A, P and T of `Table`."""

    max_objects: int
    num_concepts: int
    num_rows: int
    num_edits: int
    num_further: int
    num_positives: int
    length: int


def stack_rows(rows: list[dict[str, Any]], widths: TableWidths) -> Table:
    """One table of the rows that `SampleChecker.row` made, in their order."""
    n, m, k, columns, length = len(rows), widths.max_objects, widths.num_rows, 1 + widths.num_concepts, widths.length
    table = Table(
        shard=np.array([row["shard"] for row in rows], dtype=np.int32),
        image=_extents(rows, "image"),
        index=np.array([row["index"] for row in rows], dtype=np.int64),
        **_no_scenes("", n, m),
        partner=np.array([row["partner"] for row in rows], dtype=np.int64),
        **_no_texts("", (n,), k, columns, length),
        edit_operator=np.full((n, widths.num_edits), -1, dtype=np.int8),
        edit_status=np.zeros((n, widths.num_edits), dtype=np.int8),
        **_no_texts("edit_", (n, widths.num_edits), k + 1, columns, length),
        edit_made=np.full((n, widths.num_edits, k + 1), -1, dtype=np.int64),
        **_no_texts("further_", (n, widths.num_further), k, columns, length),
        **_no_texts("positive_", (n, widths.num_positives), k, columns, length),
        opposite=np.full(n, -1, dtype=np.int8),
        opposite_image=_extents(rows, "opposite_image"),
        **_no_scenes("opposite_", n, m),
        **_no_texts("opposite_", (n,), k, columns, length),
    )
    for i, row in enumerate(rows):
        _put_scene(table.objects[i], table.positions[i], row)
        _put_text(table.tokens[i], table.forms[i], row)
        for j, edit in enumerate(row["edits"]):
            table.edit_operator[i, j] = EDIT_NAMES.index(edit["operator"])
            _put_text(table.edit_tokens[i, j], table.edit_forms[i, j], edit)
            table.edit_made[i, j, : len(edit["objects"])] = edit["objects"]
        for j, text in enumerate(row["further"]):
            _put_text(table.further_tokens[i, j], table.further_forms[i, j], text)
        for j, text in enumerate(row["positives"]):
            _put_text(table.positive_tokens[i, j], table.positive_forms[i, j], text)
        if row["opposite"] is not None:
            table.opposite[i] = OPPOSITE_KINDS.index(row["opposite"]["kind"])
            _put_scene(table.opposite_objects[i], table.opposite_positions[i], row["opposite"])
            _put_text(table.opposite_tokens[i], table.opposite_forms[i], row["opposite"])
    return table


def _extents(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """int64 [n, 2]: offsets and sizes of pictures."""
    return np.array([row[name] for row in rows], dtype=np.int64).reshape(len(rows), 2)


def _no_scenes(prefix: str, n: int, m: int) -> dict[str, np.ndarray]:
    return {
        f"{prefix}objects": np.full((n, m), -1, dtype=np.int64),
        f"{prefix}positions": np.full((n, m, 2), np.nan, dtype=np.float32),
    }


def _no_texts(prefix: str, shape: tuple[int, ...], num_rows: int, columns: int, length: int) -> dict[str, np.ndarray]:
    forms = np.full((*shape, num_rows, columns), ANY, dtype=np.int32)
    forms[..., 0] = NONE
    return {f"{prefix}tokens": np.zeros((*shape, length), dtype=np.int16), f"{prefix}forms": forms}


def _put_scene(objects: np.ndarray, positions: np.ndarray, scene: dict[str, Any]) -> None:
    objects[: len(scene["objects"])] = scene["objects"]
    positions[: len(scene["objects"])] = scene["positions"]


def _put_text(tokens: np.ndarray, forms: np.ndarray, text: dict[str, Any]) -> None:
    tokens[: len(text["tokens"])] = text["tokens"]
    forms[: len(text["form"])] = text["form"]


def concatenate(tables: list[Table]) -> Table:
    """All rows of tables of the same widths."""
    return Table(**{field.name: np.concatenate([getattr(t, field.name) for t in tables]) for field in fields(Table)})
