"""What scenes hold, counted: the realised coverage and rates of a split in dataset.json.

The maker counts while it draws, `data_gen.verify` counts what it reads; both describe a split with the same function.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dualenc.scenes import ObjectSplit, Scenes


@dataclass
class Tally:
    """What a number of scenes held."""

    num_samples: int = 0
    objects: set[int] = field(default_factory=set)
    pairs: set[tuple[int, int]] = field(default_factory=set)
    values: np.ndarray | int = 0  # int64 [num_values]: objects that have each value, in pooled order
    collisions: int = 0
    edits: Counter[str] = field(default_factory=Counter)  # edits written, by operator
    edited: Counter[str] = field(default_factory=Counter)  # scenes with at least one edit, by operator
    captions: Counter[str] = field(default_factory=Counter)  # scenes by the kind of KEY.txt
    opposites: Counter[str] = field(default_factory=Counter)  # scenes with an opposite, by its kind
    positives: int = 0  # other texts that mean the same as KEY.txt
    moved: int = 0  # scenes that were placed more than once, until the picture showed every object

    def count(self, scenes: Scenes, partners: Sequence[int | None]) -> None:
        """Counts scenes, and the numbers of their swap partners."""
        self.num_samples += len(scenes)
        self.collisions += sum(partner is not None for partner in partners)
        present = scenes.objects >= 0
        self.objects |= set(np.unique(scenes.objects[present]).tolist())
        pooled = (scenes.values + scenes.space.offsets)[present]
        self.values = self.values + np.bincount(pooled.ravel(), minlength=scenes.space.num_values)
        left, right = np.triu_indices(scenes.objects.shape[1], k=1)
        pairs = np.sort(np.stack([scenes.objects[:, left], scenes.objects[:, right]], axis=-1).reshape(-1, 2), axis=1)
        self.pairs |= set(map(tuple, np.unique(pairs[pairs[:, 0] >= 0], axis=0).tolist()))

    def add(self, other: "Tally") -> None:
        """Counts the scenes of `other` too."""
        self.num_samples += other.num_samples
        self.objects |= other.objects
        self.pairs |= other.pairs
        self.values = self.values + other.values
        self.collisions += other.collisions
        self.edits += other.edits
        self.edited += other.edited
        self.captions += other.captions
        self.opposites += other.opposites
        self.positives += other.positives
        self.moved += other.moved

    def count_edits(self, operators: Iterable[str]) -> None:
        """Counts the edits of one scene, each by its operator."""
        number = Counter(operators)
        self.edits += number
        self.edited += Counter(dict.fromkeys(number, 1))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a progress record."""
        return {
            "num_samples": self.num_samples,
            "objects": sorted(self.objects),
            "pairs": sorted(self.pairs),
            "values": np.asarray(self.values).tolist(),
            "collisions": self.collisions,
            "edits": dict(self.edits),
            "edited": dict(self.edited),
            "captions": dict(self.captions),
            "opposites": dict(self.opposites),
            "positives": self.positives,
            "moved": self.moved,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Tally":
        """The inverse of `to_json`."""
        return cls(
            num_samples=plain["num_samples"],
            objects=set(plain["objects"]),
            pairs={(a, b) for a, b in plain["pairs"]},
            values=np.array(plain["values"], dtype=np.int64),
            collisions=plain["collisions"],
            edits=Counter(plain["edits"]),
            edited=Counter(plain["edited"]),
            captions=Counter(plain["captions"]),
            opposites=Counter(plain["opposites"]),
            positives=plain["positives"],
            moved=plain["moved"],
        )


def describe_tally(tally: Tally, split: ObjectSplit, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What dataset.json says of split `name` besides its shards, from what was counted:

    num_samples, collision_rate, edits {operator: {num, rate}} where the rate is the share of scenes with at least one,
    coverage {objects_seen, objects_allowed, pairs_seen, pairs_allowed, values {concept: {value: number of objects
    shown}}}; and where the config asks for them captions {kind: {num, rate}} of KEY.txt, opposites {kind: {num, rate}},
    num_positives, and num_moved, scenes that were placed again because an object was cut or hidden.
    config: the data config as plain values (its identity part), as in dataset.json.
    """
    space, number = split.space, tally.num_samples
    numbers = np.split(np.broadcast_to(np.asarray(tally.values), (space.num_values,)), space.offsets[1:])
    return {
        "num_samples": number,
        "collision_rate": tally.collisions / number,
        "edits": {
            operator: {"num": tally.edits[operator], "rate": tally.edited[operator] / number}
            for operator, asked in config["edits"].items()
            if asked
        },
        "coverage": {
            "objects_seen": len(tally.objects),
            "objects_allowed": _num_allowed(split, name),
            "pairs_seen": len(tally.pairs),
            "pairs_allowed": _num_pairs_allowed(split, name, config),
            "values": {
                concept: dict(zip(values, counts.tolist()))
                for concept, values, counts in zip(space.names, space.values, numbers)
            },
        },
        **_describe_further(tally, config),
    }


def _describe_further(tally: Tally, config: Mapping[str, Any]) -> dict[str, Any]:
    """What only some configs ask for; a config of an earlier version has no such keys."""

    def rates(found: Counter[str], asked: Iterable[str]) -> dict[str, Any]:
        return {kind: {"num": found[kind], "rate": found[kind] / tally.num_samples} for kind in asked}

    captions: Mapping[str, Any] = config["captions"]
    further: dict[str, Any] = {}
    if set(captions.get("kinds", ["list"])) != {"list"}:
        further["captions"] = rates(tally.captions, dict.fromkeys(["list", *captions["kinds"]]))
    if config.get("opposites"):
        further["opposites"] = rates(tally.opposites, config["opposites"])
    if captions.get("positives"):
        further["num_positives"] = tally.positives
    if config["style"] == "clevr":
        further["num_moved"] = tally.moved
    return further


def _num_allowed(split: ObjectSplit, name: str) -> int:
    parts = {"val_ood": [split.val_ood], "ood": [split.ood], "mixed": [split.train, split.ood]}
    return sum(map(len, parts.get(name, [split.train])))


def _num_pairs_allowed(split: ObjectSplit, name: str, config: Mapping[str, Any]) -> int:
    """Unordered pairs of objects that one scene of a split may hold, identical ones where the config allows them."""
    number, most = _num_allowed(split, name), max(map(int, config["objects"]))
    if most < 2:
        return 0
    if name == "mixed" and config["sampling"] == "random" and most == 2:
        return len(split.train) * len(split.ood)
    identical = config["duplicates"] or config["sampling"] == "exhaustive"
    return number * (number - 1) // 2 + (number if identical and name != "mixed" else 0)
