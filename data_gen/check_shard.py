"""One shard against everything that dataset.json and its own samples promise; used by `python -m data_gen.verify`.

Nothing here trusts what wrote the shard or what reads it in training: the tar is opened with the standard library,
texts are parsed anew, pictures decoded, and truth is computed from the objects that a sample says it shows.
"""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.check_sample import (
    Rules,
    Said,
    check_caption,
    check_mask,
    check_named,
    check_objects,
    check_opposite,
    check_picture,
    check_shown,
    check_spans,
    is_exchange,
    parse,
    read_record,
)
from data_gen.members import MEMBERS, REQUIRED, listed_columns, member_of
from data_gen.tally import Tally
from dualenc.errors import InputError, one_line
from dualenc.scenes import CAPTION_OPERATORS, ConceptSpace, Scenes, stack_forms, truth_of_own, undecided_of_own

_SHOWN = 20  # problems of one shard that are told in full
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, OSError, SyntaxError)


@dataclass
class ShardReport:
    """What is wrong with a shard, one line each, the first _SHOWN of num_problems, and what it holds.

    is_read: whether its tar could be read to the end; if not, no sample of it is checked, and the tally is empty.
    """

    problems: list[str] = field(default_factory=list)
    num_problems: int = 0
    is_read: bool = True
    tally: Tally = field(default_factory=Tally)
    num_bytes: int = 0


@dataclass(frozen=True)
class _Sample:
    key: str
    members: dict[str, tuple[str, bytes]]  # name in MEMBERS -> ending, content
    offsets: np.ndarray  # int64 [len(MEMBERS), 2]

    def name(self, member: str) -> str:
        """The file name of a member."""
        return f"{self.key}.{self.members[member][0]}" if member in self.members else f"{self.key}.{member}"


@dataclass(frozen=True)
class _Claim:
    """A text that must be true, or false, of a scene; where and problem say what to tell if it is not."""

    scene: int
    form: list[list[int]]
    is_true: bool
    where: str
    problem: str


class ShardCheck:
    """The check of one shard: collects scenes and what is claimed of them, then asks for the truth of all at once.

    path: the tar file; it begins with scene `start` of `split`.
    """

    def __init__(self, rules: Rules, path: Path, split: str, *, start: int) -> None:
        self.rules, self.path, self.split, self.start = rules, path, split, start
        self.report = ShardReport()
        self._records: list[dict[str, Any]] = []
        self._scenes: list[list[Mapping[str, Any]]] = []
        self._claims: list[_Claim] = []
        self._edits: list[list[str]] = []

    def run(self, told: Mapping[str, Any]) -> ShardReport:
        """The report; told: size, sha256 and num_samples of the shard in dataset.json."""
        try:
            content = self.path.read_bytes()
            self.report.num_bytes = len(content)
            samples = self._read_tar(content)
        except (tarfile.TarError, OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._problem("", f"cannot be read ({reason})")
            self.report.is_read = False
            return self.report
        if len(content) != told["size"]:
            self._problem("", f"has {len(content)} bytes, dataset.json says {told['size']}")
        if hashlib.sha256(content).hexdigest() != told["sha256"]:
            self._problem("", "its SHA-256 is not the one in dataset.json")
        if len(samples) != told["num_samples"]:
            self._problem("", f"holds {len(samples)} samples, dataset.json says {told['num_samples']}")
        self._check_index(samples)
        expected = self.start
        for sample in samples:
            number = self._number_of(sample, expected)
            self._check_sample(number, sample)
            expected = number + 1
        self._check_partners()
        self._check_claims()
        self._count()
        return self.report

    def _problem(self, where: str, text: str) -> None:
        self.report.num_problems += 1
        if len(self.report.problems) < _SHOWN:
            self.report.problems.append(": ".join(filter(None, [str(self.path), where, text])))

    @contextmanager
    def _naming(self, where: str) -> Iterator[None]:
        """Whatever a damaged member raises is a problem of it, and the check goes on."""
        try:
            yield
        except InputError as error:
            self._problem(where, one_line(error))
        except _DAMAGE as error:
            self._problem(where, f"is damaged ({type(error).__name__}: {one_line(error)})")

    # The tar and its index.

    def _read_tar(self, content: bytes) -> list[_Sample]:
        """The samples of the tar, or an exception where a header is damaged: then it is not known what follows."""
        samples: list[_Sample] = []
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for info in tar:
                self._read_member(info, content, samples)
            end = content[tar.offset :]  # tarfile stops without a word at a header that it does not understand
            if len(end) < 2 * tarfile.BLOCKSIZE or end.strip(b"\0"):
                raise tarfile.ReadError(f"no sound header at byte {tar.offset} of the tar")
        for key, number in Counter(sample.key for sample in samples).items():
            if number > 1:
                self._problem(key, "its members do not stand together")
        return samples

    def _read_member(self, info: tarfile.TarInfo, content: bytes, samples: list[_Sample]) -> None:
        key, _, ending = info.name.partition(".")
        member = member_of(ending)
        if not info.isfile() or member is None:
            self._problem(info.name, "is no member of a sample")
            return
        if not samples or samples[-1].key != key:
            samples.append(_Sample(key, {}, np.full((len(MEMBERS), 2), -1, dtype=np.int64)))
        sample = samples[-1]
        if member in sample.members:
            self._problem(info.name, f"is a second {member} of its sample")
        sample.members[member] = ending, content[info.offset_data : info.offset_data + info.size]
        sample.offsets[MEMBERS.index(member)] = info.offset_data, info.size

    def _check_index(self, samples: list[_Sample]) -> None:
        path = self.path.with_suffix(".idx.npy")
        offsets = np.array([sample.offsets for sample in samples], dtype=np.int64).reshape(len(samples), -1)
        try:
            index = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            self._problem("", f"its index {path.name} cannot be read ({type(error).__name__})")
            return
        if index.dtype != np.int64 or not np.array_equal(index, listed_columns(offsets)):
            self._problem("", f"its index {path.name} is not what the tar says")

    # One sample.

    def _number_of(self, sample: _Sample, expected: int) -> int:
        """The number in a sample's key, which should be the expected one."""
        should = f"{self.split}-{expected:08d}"
        if sample.key == should:
            return expected
        self._problem(sample.key, f"stands where {should} should")
        split, _, digits = sample.key.rpartition("-")
        return int(digits) if split == self.split and digits.isdecimal() else expected

    def _check_sample(self, number: int, sample: _Sample) -> None:
        missing = [member for member in REQUIRED if member not in sample.members]
        for member in missing:
            self._problem(sample.key, f"has no {member}")
        if missing:
            return
        with self._naming(sample.name("image")):
            ending, data = sample.members["image"]
            self._tell(sample.name("image"), check_picture(data, ending, self.rules))
        with self._naming(sample.name("json")):
            self._check_record(number, sample)

    def _tell(self, where: str, problems: Iterator[str]) -> None:
        for problem in problems:
            self._problem(where, problem)

    def _check_record(self, number: int, sample: _Sample) -> None:
        where = sample.name("json")
        record = read_record(sample.members["json"][1])
        if (record["index"], record["split"]) != (number, self.split):
            self._problem(where, f"says it is scene {record['index']} of {record['split']}")
        if record["provenance"]["seed"] != self.rules.config["seed"]:
            self._problem(where, f"was made with seed {record['provenance']['seed']}")
        self._tell(where, check_objects(record["objects"], self.rules))
        ids = [entry["id"] for entry in record["objects"]]
        self._tell(where, check_shown(ids, self.split, self.rules))
        scene = self._add_scene(record["objects"])
        self._records.append(record)
        self._edits.append([])
        with self._naming(sample.name("txt")):
            text = sample.members["txt"][1].decode()
            self._check_caption(scene, sample.name("txt"), text, record["caption"], sample.name("json"))
        self._check_further(scene, sample, record)
        self._check_mask(sample, record)
        self._check_opposite(scene, sample, record)
        if "neg.txt" in sample.members:
            with self._naming(sample.name("neg.txt")):
                self._check_negatives(scene, sample, set(ids))

    def _check_further(self, scene: int, sample: _Sample, record: Mapping[str, Any]) -> None:
        """Further captions and positives: true of the scene as well."""
        for key in ("captions", "positives"):
            for number, entry in enumerate(record.get(key, [])):
                where = f"{sample.name('json')} {key} {number}"
                with self._naming(where):
                    if key == "captions":
                        self._check_caption(scene, where, entry["text"], entry, where)
                    else:
                        said = self._parse(where, entry["text"], entry["form"])
                        self._claims.append(_Claim(scene, said.form, True, where, "is false of its scene"))

    def _check_mask(self, sample: _Sample, record: Mapping[str, Any]) -> None:
        if ("mask.png" in sample.members) != bool(self.rules.config["picture"].get("masks")):
            self._problem(sample.key, "has a mask, or has none, against the config")
        elif "mask.png" in sample.members:
            with self._naming(sample.name("mask.png")):
                mask = sample.members["mask.png"][1]
                self._tell(sample.name("mask.png"), check_mask(mask, record["objects"], self.rules.image_size))

    def _check_opposite(self, scene: int, sample: _Sample, record: Mapping[str, Any]) -> None:
        """The opposite picture and caption: the caption is false here, the sample's own is false there."""
        names = ("opposite.image", "opposite.txt")
        there, told = [name in sample.members for name in names], record.get("opposite")
        if any(there) != all(there) or all(there) != (told is not None):
            self._problem(sample.key, "has a part of an opposite: picture, text and record belong together")
            return
        if told is None:
            return
        with self._naming(sample.name("opposite.image")):
            ending, data = sample.members["opposite.image"]
            self._tell(sample.name("opposite.image"), check_picture(data, ending.removeprefix("opposite."), self.rules))
        where = f"{sample.name('json')} opposite"
        with self._naming(where):
            self._tell(where, check_objects(told["objects"], self.rules))
            self._tell(where, check_opposite(record["objects"], told, self.split, self.rules))
            other = self._add_scene(told["objects"])
            text, name = sample.members["opposite.txt"][1].decode(), sample.name("opposite.txt")
            with self._naming(name):
                self._check_caption(other, name, text, told["caption"], where)
                form = self.rules.grammar.parse(text).tolist()
                self._claims.append(_Claim(scene, form, False, name, "is not false of the sample's own scene"))
            own = self.rules.grammar.parse(sample.members["txt"][1].decode()).tolist()
            said = "the sample's caption is not false of the opposite scene"
            self._claims.append(_Claim(other, own, False, name, said))

    def _parse(self, where: str, text: str, form: Any) -> Said:
        said = parse(text, form, self.rules)
        self._tell(where, check_named(said, self.split, self.rules))
        return said

    def _check_caption(self, scene: int, where: str, text: str, caption: Mapping[str, Any], record: str) -> None:
        """Checks a text, which stands at `where`, and its description, which stands at `record`."""
        said = self._parse(where, text, caption["form"])
        self._tell(record, check_caption(caption, text, said, self.rules))
        self._claims.append(_Claim(scene, said.form, True, where, "the caption is false of its scene"))

    def _add_scene(self, objects: list[Mapping[str, Any]]) -> int:
        """Keeps a scene, so that truth can be asked of it; only what was checked to be ids gets so far."""
        self.rules.space.decode(np.array([entry["id"] for entry in objects]))
        self._scenes.append(objects)
        return len(self._scenes) - 1

    def _check_negatives(self, scene: int, sample: _Sample, shown: set[int]) -> None:
        where = sample.name("neg.txt")
        lines, caption = sample.members["neg.txt"][1].decode().splitlines(), sample.members["txt"][1].decode()
        if not lines:
            self._problem(where, "is empty")
        for number, line in enumerate(lines, start=1):
            with self._naming(f"{where} line {number}"):
                self._check_negative(scene, f"{where} line {number}", read_record(line.encode()), shown, caption)

    def _check_negative(self, scene: int, where: str, edit: dict[str, Any], shown: set[int], caption: str) -> None:
        said = self._parse(where, edit["text"], edit["form"])
        self._tell(where, check_spans(edit["spans"], edit["text"], caption))
        made = said.named - shown
        if set(edit["objects"]) != made or len(edit["objects"]) != len(set(edit["objects"])):
            self._problem(where, f"its objects {edit['objects']} are not those that its words add, {sorted(made)}")
        operators, depth = str(edit["operator"]).split("+"), edit["depth"]
        if not set(operators) <= set(CAPTION_OPERATORS):
            self._problem(where, f"its operator {edit['operator']!r} is unknown")
        if not isinstance(depth, int) or depth < len(operators):
            self._problem(where, f"its depth {depth} is no number of operations")
        self._edits[-1].append(edit["operator"] if depth == 1 else f"depth{depth}")
        self._claims.append(_Claim(scene, said.form, False, where, "the edit is true of its scene"))

    # What several samples say together.

    def _check_partners(self) -> None:
        """Scenes 2j and 2j + 1 name each other as partners, or neither does, and partners differ by one exchange."""
        by_index = {record["index"]: record for record in self._records}
        for record in self._records:
            where = f"{self.split}-{record['index']:08d}.json"
            partner, beside = record["partner"], by_index.get(record["index"] ^ 1)
            if partner is None:
                continue
            if partner != record["index"] ^ 1 or beside is None or beside["partner"] != record["index"]:
                self._problem(where, f"its partner {partner} does not name it in turn")
            elif not is_exchange(record["objects"], beside["objects"]):
                self._problem(where, f"its partner {partner} does not differ from it by one exchanged value")

    def _check_claims(self) -> None:
        if not self._claims:
            return
        scenes = _as_scenes(self.rules.space, [self._scenes[claim.scene] for claim in self._claims])
        scenes = replace(scenes, relation_margin=self.rules.config.get("relation_margin", 0.0))
        forms = stack_forms([claim.form for claim in self._claims], self.rules.space.num_concepts)
        true, open_ = truth_of_own(forms, scenes), undecided_of_own(forms, scenes)
        for claim, is_true, is_open in zip(self._claims, true.tolist(), open_.tolist()):
            if is_open:
                self._problem(claim.where, "is neither true nor false of the scene: a relation lies inside the margin")
            elif is_true != claim.is_true:
                self._problem(claim.where, claim.problem)

    def _count(self) -> None:
        if not self._records:
            return
        scenes = _as_scenes(self.rules.space, [record["objects"] for record in self._records])
        self.report.tally.count(scenes, [record["partner"] for record in self._records])
        tally = self.report.tally
        for record in self._records:
            tally.captions[record["caption"].get("kind", "list")] += 1
            tally.positives += len(record.get("positives", []))
            if record.get("opposite"):
                tally.opposites[record["opposite"]["kind"]] += 1
        self.report.tally.moved = sum(record.get("attempt", 0) > 0 for record in self._records)
        for edits in self._edits:
            self.report.tally.count_edits(edits)


def _as_scenes(space: ConceptSpace, listed: list[list[Mapping[str, Any]]]) -> Scenes:
    most = max(map(len, listed))
    objects = np.full((len(listed), most), -1, dtype=np.int64)
    positions = np.full((len(listed), most, 2), np.nan, dtype=np.float32)
    for i, entries in enumerate(listed):
        objects[i, : len(entries)] = [entry["id"] for entry in entries]
        positions[i, : len(entries)] = [entry["position"] for entry in entries]
    return Scenes(space, objects, positions)
