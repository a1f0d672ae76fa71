"""Reads a run folder, the only truth about a run: configuration, metric lines, summary, examples, confusion."""

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dualenc.configs import read_yaml
from dualenc.errors import InputError

SPLITS = ("val", "ood", "mixed", "val_ood")  # the order of every table: what is reported first, the chooser last
_PNG = "data:image/png;base64,"
_BLOCK = 2**16  # bytes read at once where a file is read backwards


@dataclass(frozen=True)
class Run:
    """What one run folder holds. Files that a run may lack are empty here, never missing attributes.

    rows: the lines of `metrics.jsonl` in order; summary: `summary.json`, empty while the run is not finished;
    examples: split -> worst-bound scenes, `image` as PNG bytes or None; confusion: split -> concept -> {"names",
    "matrix"} where matrix[i][j] counts objects of value i for which the object query of value j was preferred;
    embeddings: singular values and histograms of cosines of val scenes and their queries; analyses: study -> what
    `python -m dualenc.analyze` has found.
    """

    path: Path
    name: str
    hash: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    segments: list[dict[str, Any]]
    examples: dict[str, list[dict[str, Any]]]
    confusion: dict[str, dict[str, dict[str, Any]]]
    embeddings: dict[str, Any]
    analyses: dict[str, dict[str, Any]]

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Metrics of the last weights: from the summary, or, while the run goes on, the newest value of each key."""
        if "metrics" in self.summary:
            return self.summary["metrics"]
        return {key: value for row in self.rows for key, value in row.items() if "/" in key}

    @property
    def samples(self) -> int:
        """Training scenes seen at the end, or so far."""
        newest = max((row["samples"] for row in self.rows if "samples" in row), default=0)
        return int(self.summary.get("samples", newest))

    @property
    def splits(self) -> tuple[str, ...]:
        """The evaluated splits, in the fixed order of the tables."""
        return measured_splits(self.metrics)

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """`(samples, values)` of one metric over training, nulls left out; both empty where it was never logged."""
        points = [(row["samples"], row[key]) for row in self.rows if row.get(key) is not None and "samples" in row]
        return [point[0] for point in points], [point[1] for point in points]


def read_run(path: Path) -> Run:
    """The run in the folder `path`; `InputError` where there is none, where a file is damaged, or before any metric."""
    if not path.is_dir():
        raise InputError(f"{path}: no such run folder; give a folder that python -m dualenc.fit has made")
    summary = read_summary(path)
    rows = read_lines(path / "metrics.jsonl")
    if not summary and not rows:
        raise InputError(f"{path}: no metrics yet; train first with python -m dualenc.fit CONFIG")
    name, _, identity = path.resolve().name.rpartition("-")
    return Run(
        path=path,
        name=str(summary.get("name", name or identity)),
        hash=str(summary.get("hash", identity)),
        config=read_yaml(path / "config.yaml") if (path / "config.yaml").exists() else {},
        rows=rows,
        summary=summary,
        segments=read_lines(path / "segments.jsonl"),
        examples=read_examples(path),
        confusion=read_optional(path / "confusion" / "confusion.json", {}),
        embeddings=read_optional(path / "embeddings.json", {}),
        analyses={file.stem: read_optional(file, {}) for file in sorted((path / "analysis").glob("*.json"))},
    )


def read_examples(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Split -> worst-bound scenes of the run in the folder `path`, `image` as PNG bytes or None.

    A run folder of an earlier version names files instead of holding pictures: those scenes have none. InputError where
    a picture is damaged.
    """
    examples = {}
    for split in SPLITS:
        file = path / "examples" / f"{split}.json"
        if scenes := read_optional(file, []):
            examples[split] = [{**scene, "image": _png_of(scene.get("image"), file)} for scene in scenes]
    return examples


def data_uri(png: bytes) -> str:
    """PNG bytes as text: an address that carries the picture itself."""
    return f"{_PNG}{base64.b64encode(png).decode()}"


def _png_of(uri: str | None, file: Path) -> bytes | None:
    if not uri or not uri.startswith(_PNG):
        return None
    try:
        return base64.b64decode(uri.removeprefix(_PNG), validate=True)
    except binascii.Error as error:
        raise InputError(f"{file}: a picture in it is damaged ({error}); remove the file") from None


def run_folders(given: Sequence[Path]) -> list[Path]:
    """The run folders among `given` and directly inside them. InputError for what does not exist, or without any."""
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            raise InputError(f"{path}: no such run folder; give a folder that python -m dualenc.fit has made")
        inside = sorted(child for child in path.iterdir() if (child / "config.yaml").is_file())
        found += [path] if (path / "config.yaml").is_file() else inside
    if not found:
        raise InputError(f"{given[0]}: holds no run; give a folder that python -m dualenc.fit has made")
    return list(dict.fromkeys(found))


def measured_splits(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits that `metrics` says something about, in the fixed order of the tables."""
    return tuple(s for s in SPLITS if any(key.startswith(f"{s}/") for key in metrics))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"run": {"seed": 1}}` as `{"run.seed": 1}`: the keys as they are written on the command line."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_optional(path: Path, default: Any) -> Any:
    """A JSON file of a run or a sweep; `default` where there is none. InputError where it is damaged."""
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); restore the file, or run again what wrote it") from error


def read_summary(folder: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """`summary.json` of a run folder; empty while the run is not finished.

    InputError where it is damaged, or holds no metrics by name or not all of `keys`.
    """
    path = folder / "summary.json"
    summary = read_optional(path, {})
    if not path.is_file():
        return {}
    lacking = [key for key in ("metrics", *keys) if not isinstance(summary, dict) or key not in summary]
    if lacking or not isinstance(summary["metrics"], dict):
        raise InputError(
            f"{path}: holds no {', '.join(lacking) or 'metrics by name'}; restore the file, or remove it and run the "
            "same python -m dualenc.fit again"
        )
    return summary


def read_lines(path: Path, keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; none where it is missing. A last line without its newline was torn by a kill
    and is left out. InputError names another line that is damaged, or that holds not all of `keys`.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            raise InputError(f"{path} line {number}: not valid JSON; remove the line") from None
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise InputError(f"{path} line {number}: not an object{' with ' * bool(keys)}{', '.join(keys)}; remove it")
        rows.append(row)
    return rows


def newest(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The newest value of each of `keys` in a JSON-lines file, read from its end; nulls and what no line has are left
    out, and so are lines that are damaged or torn."""
    found: dict[str, Any] = {}
    for line in _lines_from_the_end(path):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found = {key: row[key] for key in keys if row.get(key) is not None} | found
        if len(found) == len(keys):
            break
    return found


def _lines_from_the_end(path: Path) -> Iterator[bytes]:
    """Backwards and piece by piece: logs grow long, and what is asked for stands near the end."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        position, rest = file.seek(0, os.SEEK_END), b""
        while position:
            start = max(0, position - _BLOCK)
            file.seek(start)
            lines = (file.read(position - start) + rest).split(b"\n")
            yield from reversed(lines[1:] if start else lines)
            position, rest = start, lines[0]
