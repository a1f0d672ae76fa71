"""The run folder, the only truth about a run: what is written where, and when two commands mean the same run."""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualenc import configs
from dualenc.config import Config, identity
from dualenc.errors import InputError
from dualenc.files import TEMPORARY, atomic_write, write_json
from dualenc.report.folder import read_lines

SPEC = "model.json"  # what is needed to build the model: structure, concepts, vocabulary
METRIC_KEYS = ("step", "samples")  # of every line of metrics.jsonl


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run folder `runs/NAME-HASH`."""

    path: Path
    hash: str

    @classmethod
    def of(cls, config: Config, dataset_hash: str) -> "RunFolder":
        """The folder of a config; the same identity always gives the same one."""
        digest = configs.short_hash(identity(config, dataset_hash))
        return cls(Path(config.run.dir) / f"{config.run.name}-{digest}", digest)

    def open(self, config: Config) -> None:
        """Makes the folder, or checks that the one that exists is this run's; drops what a kill has left half-written.

        InputError where it is another's or cannot be told from another's, or where a line of its logs is damaged.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        stored = self.path / "config.yaml"
        if stored.exists():
            if (found := _stored_hash(stored)) != self.hash:
                held = "a run of another config" if found else "a config.yaml without the hash of its run"
                raise InputError(f"run.dir: {self.path} holds {held}; move it away, or choose another run.name")
        elif any(self.checkpoints.glob("*.ckpt")):
            raise InputError(f"run.dir: {self.path} holds checkpoints but no config.yaml; move the folder away")
        self.checkpoints.mkdir(exist_ok=True)
        for unfinished in self.checkpoints.glob(f"*{TEMPORARY}*"):  # of a process that was killed while saving
            unfinished.unlink()
        for log, keys in ((self.metrics.path, METRIC_KEYS), (self.segments, ())):
            read_lines(log, keys)
            drop_torn_line(log)
        atomic_write(stored, f"# hash: {self.hash}\n{configs.to_yaml(config)}")

    @property
    def checkpoints(self) -> Path:
        """last.ckpt, previous.ckpt and best.safetensors."""
        return self.path / "checkpoints"

    @property
    def summary(self) -> Path:
        """Final metrics; exists once the run is complete."""
        return self.path / "summary.json"

    @property
    def segments(self) -> Path:
        """One line for each part of the run that was computed without interruption."""
        return self.path / "segments.jsonl"

    @property
    def metrics(self) -> "MetricsLog":
        """The line-by-line log."""
        return MetricsLog(self.path / "metrics.jsonl")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Marks the run complete."""
        write_json(self.summary, summary)

    def add_segment(self, segment: Mapping[str, Any]) -> None:
        """Notes where, with which code and from which position a part of the run was computed."""
        append_line(self.segments, segment)


def _stored_hash(path: Path) -> str | None:
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.removeprefix("# hash: ").strip() if first.startswith("# hash: ") else None


class MetricsLog:
    """metrics.jsonl: one object for each event, in the order of `samples`; append-only, one write a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *, step: int, samples: int, values: Mapping[str, Any]) -> None:
        """Adds one event. NaN and infinities are refused (law 5)."""
        append_line(self.path, {"step": step, "samples": samples, **values})

    def read(self) -> list[dict[str, Any]]:
        """All whole lines. InputError names a damaged one."""
        return read_lines(self.path, METRIC_KEYS)

    def cut_back(self, samples: int) -> None:
        """Drops a torn last line and every event after `samples`, so that a resumed run logs nothing twice."""
        if self.path.exists():
            kept = [json.dumps(row) + "\n" for row in self.read() if row["samples"] <= samples]
            atomic_write(self.path, "".join(kept))


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Appends `value` to a JSON-lines file in one write. OSError where not all of it fits; nothing is added then."""
    line = (json.dumps(value, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def drop_torn_line(path: Path) -> None:
    """Cuts a JSON-lines file back to its last whole line, where a kill has torn the one after it."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        atomic_write(path, whole)


def check_run(folder: Path, *, weights: str) -> None:
    """Refuses, without torch, a folder that is neither a run nor an export, and weights of an unknown kind."""
    if weights not in ("last", "best"):
        raise InputError(f"weights: {weights!r} is unknown; use last or best")
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such run folder; give one that python -m dualenc.fit or dualenc.export has made"
        )
    if not (folder / SPEC).exists():
        raise InputError(f"{folder}: holds no {SPEC}, so it is no run; give a folder like runs/NAME-HASH")


def read_config(run: Path) -> Config:
    """The resolved config of a run folder. InputError where there is none."""
    path = Path(run) / "config.yaml"
    if not path.exists():
        raise InputError(f"{run}: no such run folder; give a folder that python -m dualenc.fit has made")
    return configs.load(Config, path)
