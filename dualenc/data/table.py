"""A split as arrays: everything that training and evaluation ask of a sample, except its picture."""

import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dualenc.files import atomic_path
from dualenc.scenes import ANY, NONE, OPERATORS, ConceptSpace, Scenes

SEEN, HELD_OUT = 0, 1  # status of an edit: all objects it makes are train objects, or some is held out


@dataclass(frozen=True, eq=False)
class Table:
    """N samples of one split; E is the largest number of edits of a sample, T the longest text, m and K as in scenes.

    shard: int32 [N]; image: int64 [N, 2], offset and size in the shard; index: int64 [N], the scene's number;
    objects: int64 [N, m]; positions: float32 [N, m, 2]; partner: int64 [N], the swap partner's number or -1;
    tokens: int16 [N, T] and forms: int32 [N, K, 1 + C] of the caption;
    edit_operator: int8 [N, E], index into OPERATORS or -1; edit_status: int8 [N, E];
    edit_tokens: int16 [N, E, T]; edit_forms: int32 [N, E, K + 1, 1 + C]; edit_made: int64 [N, E, 2].
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

    def __len__(self) -> int:
        return len(self.objects)

    def scenes(self, space: ConceptSpace, rows: np.ndarray | slice = slice(None)) -> Scenes:
        """The scenes of some rows."""
        return Scenes(space, self.objects[rows], self.positions[rows])

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
    """How wide the rows of a table are: m, C, E and T of `Table`."""

    max_objects: int
    num_concepts: int
    num_edits: int
    length: int


def stack_rows(rows: list[dict[str, Any]], widths: TableWidths) -> Table:
    """One table of the rows that `SampleChecker.row` made, in their order."""
    n, (max_objects, num_concepts, num_edits, length) = len(rows), widths
    table = Table(
        shard=np.array([row["shard"] for row in rows], dtype=np.int32),
        image=np.array([row["image"] for row in rows], dtype=np.int64).reshape(n, 2),
        index=np.array([row["index"] for row in rows], dtype=np.int64),
        objects=np.full((n, max_objects), -1, dtype=np.int64),
        positions=np.full((n, max_objects, 2), np.nan, dtype=np.float32),
        partner=np.array([row["partner"] for row in rows], dtype=np.int64),
        tokens=np.zeros((n, length), dtype=np.int16),
        forms=_no_forms(n, max_objects, 1 + num_concepts),
        edit_operator=np.full((n, num_edits), -1, dtype=np.int8),
        edit_status=np.zeros((n, num_edits), dtype=np.int8),
        edit_tokens=np.zeros((n, num_edits, length), dtype=np.int16),
        edit_forms=_no_forms(n, num_edits, max_objects + 1, 1 + num_concepts),
        edit_made=np.full((n, num_edits, 2), -1, dtype=np.int64),
    )
    for i, row in enumerate(rows):
        table.objects[i, : len(row["objects"])] = row["objects"]
        table.positions[i, : len(row["objects"])] = row["positions"]
        table.tokens[i, : len(row["tokens"])] = row["tokens"]
        table.forms[i, : len(row["form"])] = row["form"]
        for j, edit in enumerate(row["edits"]):
            table.edit_operator[i, j] = OPERATORS.index(edit["operator"])
            table.edit_tokens[i, j, : len(edit["tokens"])] = edit["tokens"]
            table.edit_forms[i, j, : len(edit["form"])] = edit["form"]
            table.edit_made[i, j, : len(edit["objects"])] = edit["objects"]
    return table


def concatenate(tables: list[Table]) -> Table:
    """All rows of tables of the same widths."""
    return Table(**{field.name: np.concatenate([getattr(t, field.name) for t in tables]) for field in fields(Table)})


def _no_forms(*shape: int) -> np.ndarray:
    forms = np.full(shape, ANY, dtype=np.int32)
    forms[..., 0] = NONE
    return forms
