"""The run folder, the only truth about a run: what is written where, and when two commands mean the same run."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualenc import configs
from dualenc.config import Config, identity
from dualenc.errors import InputError
from dualenc.files import atomic_write, write_json


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
        """Makes the folder, or checks that the one that exists is this run's. InputError where it is another's."""
        self.path.mkdir(parents=True, exist_ok=True)
        stored = self.path / "config.yaml"
        if stored.exists():
            if _stored_hash(stored) not in (None, self.hash):
                raise InputError(
                    f"run.dir: {self.path} holds a run of another config; move it away, or choose another run.name"
                )
        elif any(self.checkpoints.glob("*.ckpt")):
            raise InputError(f"run.dir: {self.path} holds checkpoints but no config.yaml; move the folder away")
        self.checkpoints.mkdir(exist_ok=True)
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
    def metrics(self) -> "MetricsLog":
        """The line-by-line log."""
        return MetricsLog(self.path / "metrics.jsonl")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Marks the run complete."""
        write_json(self.summary, summary)

    def add_segment(self, segment: Mapping[str, Any]) -> None:
        """Notes where, with which code and from which position a part of the run was computed."""
        append_line(self.path / "segments.jsonl", segment)


def _stored_hash(path: Path) -> str | None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# hash: ").strip() if first.startswith("# hash: ") else None


class MetricsLog:
    """metrics.jsonl: one object for each event, in the order of `samples`; append-only, one write a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *, step: int, samples: int, values: Mapping[str, Any]) -> None:
        """Adds one event. NaN and infinities are refused (law 5)."""
        append_line(self.path, {"step": step, "samples": samples, **values})

    def read(self) -> list[dict[str, Any]]:
        """All whole lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]]

    def cut_back(self, samples: int) -> None:
        """Drops a torn last line and every event after `samples`, so that a resumed run logs nothing twice."""
        if self.path.exists():
            kept = [json.dumps(row) + "\n" for row in self.read() if row["samples"] <= samples]
            atomic_write(self.path, "".join(kept))


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Appends `value` to a JSON-lines file in one write."""
    line = json.dumps(value, allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_config(run: Path) -> Config:
    """The resolved config of a run folder. InputError where there is none."""
    path = Path(run) / "config.yaml"
    if not path.exists():
        raise InputError(f"{run}: no such run folder; give a folder that python -m dualenc.fit has made")
    return configs.load(Config, path)
