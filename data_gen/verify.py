"""`python -m data_gen.verify DATASET [num_workers=N]`: is a finished dataset what its dataset.json says?

Every shard is hashed again and every sample parsed again: captions are true and edits false of their scenes, pictures
decode, boxes lie inside them, the index agrees with the tar, `train` shows and names train objects only. Coverage and
rates are counted from the samples and compared. Each discrepancy is one line on stderr that names file and member.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from os import getpid
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_gen import FORMAT_VERSION
from data_gen.check_sample import Rules
from data_gen.check_shard import ShardCheck, ShardReport
from data_gen.make import DESCRIPTION, PROGRESS
from data_gen.progress import Meter
from data_gen.tally import Tally, describe_tally
from dualenc import configs
from dualenc.configs import field, short_hash
from dualenc.errors import InputError, run_cli
from dualenc.files import read_json
from dualenc.processes import become_worker, num_cores
from dualenc.scenes import SPLITS

USAGE = """python -m data_gen.verify DATASET [key=value ...]

Checks a finished dataset against its dataset.json, from the bytes up. Exit code 0: all of it is right, one line on
stdout says so; 1: every discrepancy is a line on stderr; 2: bad input. Keys:
"""

EXIT_DISCREPANCY = 1
HASHED = ("config", "format_version", "generator_version", "device", "versions")

_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass
class VerifyConfig:
    """How the check runs."""

    num_workers: int = field(0, "processes; 0: one for each core", identity=False, minimum=0, maximum=1024)


@dataclass(frozen=True)
class Found:
    """What a check found: the problems, one line each, and how much was looked at."""

    problems: list[str]
    num_problems: int
    num_samples: int
    num_shards: int
    num_bytes: int


@dataclass(frozen=True)
class _Listed:
    """A shard as dataset.json lists it, and where it should be."""

    path: Path
    split: str
    start: int
    told: Mapping[str, Any]


def verify(dataset: Path, options: VerifyConfig) -> Found:
    """Checks the dataset. InputError where there is none, or one of a newer format."""
    description = _read_description(dataset)
    if isinstance(description, str):
        return Found([f"{dataset / DESCRIPTION}: {description}"], 1, 0, 0, 0)
    problems: list[str] = []
    try:
        rules = Rules.of(description)
        shards = list(_listed(dataset, description, problems))
        problems += [f"{dataset / DESCRIPTION}: {problem}" for problem in _check_description(description, rules)]
        problems += [f"{path}: is not in {DESCRIPTION}" for path in _strangers(dataset, shards)]
    except _DAMAGE as error:
        problem = f"{dataset / DESCRIPTION}: is damaged ({type(error).__name__}: {' '.join(str(error).split())})"
        return Found([*problems, problem], len(problems) + 1, 0, 0, 0)
    tallies = {split: Tally() for split in description["splits"]}
    num_problems, num_bytes = len(problems), 0
    unread: set[str] = set()  # splits of which a shard cannot be read: what is counted of the others says nothing
    for shard, report in _reports(rules, shards, options.num_workers or num_cores()):
        problems += report.problems
        hidden = report.num_problems - len(report.problems)
        problems += [f"{shard.path}: {hidden} more problems"] if hidden else []
        num_problems += report.num_problems
        num_bytes += report.num_bytes
        tallies[shard.split].add(report.tally)
        if not report.is_read:
            unread.add(shard.split)
    differences = [
        f"{dataset / DESCRIPTION}: {difference}"
        for split, tally in tallies.items()
        if split not in unread
        for difference in _compare_tally(tally, split, description, rules)
    ]
    num_samples = sum(tally.num_samples for tally in tallies.values())
    return Found([*problems, *differences], num_problems + len(differences), num_samples, len(shards), num_bytes)


def _read_description(dataset: Path) -> dict[str, Any] | str:
    """The content of dataset.json, or what is wrong with it."""
    if (dataset / PROGRESS).exists():
        raise InputError(f"{dataset}: is not finished; run the command that makes it again")
    try:
        description = read_json(dataset / DESCRIPTION)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{dataset}: holds no {DESCRIPTION}; give the folder of a finished dataset") from None
    except ValueError:
        return "is not valid JSON"
    if not isinstance(description, dict) or "format_version" not in description:
        return "is no description of a dataset"
    version = description["format_version"]
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise InputError(
            f"{dataset}: has format version {version!r}, this program reads up to {FORMAT_VERSION}; update it"
        )
    return description


def _check_description(description: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    """Whether dataset.json agrees with itself."""
    config, split, space = description["config"], rules.split, rules.space
    found = short_hash({key: description[key] for key in HASHED})
    if found != description["hash"]:
        yield f"hash: is {description['hash']}, config and versions have {found}"
    expected = {
        "name": config["name"],
        "seed": config["seed"],
        "concepts": config["concepts"],
        "split_kind": config["split"],
        "max_objects": max(map(int, config["objects"])),
        "picture": {key: config["picture"][key] for key in ("size", "format")},
        "num_objects": space.num_objects,
        "coverage": split.coverage,
    }
    told = {key: description[key] for key in expected}
    yield from (f"{key}: is {a}, it should be {b}" for key, a, b in _differences(told, expected))
    listed = np.sort(np.concatenate([split.train, split.val_ood, split.ood]))
    if not np.array_equal(listed, np.arange(space.num_objects)):
        yield "objects: train, val_ood and ood do not divide the objects among them"
    else:
        seen = space.decode(split.train) + space.offsets
        if len(np.unique(seen)) != space.num_values:
            yield "objects: a value occurs in no train object"
    if len(set(description["vocabulary"])) != len(description["vocabulary"]):
        yield "vocabulary: holds a word twice"
    for name in SPLITS:
        asked = config["num_samples"][name]
        if bool(asked) != (name in description["splits"]):
            yield f"splits: the config asks for {asked} scenes of {name}"
        elif asked and asked != description["splits"][name]["num_samples"]:
            yield f"splits.{name}.num_samples: is {description['splits'][name]['num_samples']}, the config has {asked}"


def _listed(dataset: Path, description: Mapping[str, Any], problems: list[str]) -> Iterator[_Listed]:
    """The shards of dataset.json where the config puts them; others are problems."""
    size = description["config"]["samples_per_shard"]
    for split, info in description["splits"].items():
        if split not in SPLITS:
            raise ValueError(f"{split!r} is no split")
        for number, told in enumerate(info["shards"]):
            path = f"{split}/{split}-{number:06d}.tar"
            if told["path"] != path:
                problems.append(f"{dataset / DESCRIPTION}: splits.{split}.shards: {told['path']!r} should be {path!r}")
            yield _Listed(dataset / PurePosixPath(path), split, number * size, told)


def _strangers(dataset: Path, shards: list[_Listed]) -> Iterator[Path]:
    """Files under a dataset's folder that dataset.json does not account for; hidden ones are other programs' notes."""
    known = {dataset / DESCRIPTION}
    for shard in shards:
        known |= {shard.path, shard.path.with_suffix(".idx.npy")}
    for path in sorted(dataset.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(dataset).parts)
        if path.is_file() and not hidden and path not in known:
            yield path


def _reports(rules: Rules, shards: list[_Listed], num_workers: int) -> Iterator[tuple[_Listed, ShardReport]]:
    """Each shard with its report, in order, made by `num_workers` processes."""
    context = get_context("fork")
    pool = ProcessPoolExecutor(min(num_workers, max(len(shards), 1)), context, become_worker, (getpid(),))
    with pool, Meter(sum(shard.told["num_samples"] for shard in shards)) as meter:
        futures: dict[Future[ShardReport], int] = {}
        try:
            for number, shard in enumerate(shards):
                check = ShardCheck(rules, shard.path, shard.split, start=shard.start)
                futures[pool.submit(check.run, shard.told)] = number
            reports = {}
            for future in as_completed(futures):
                reports[futures[future]] = future.result()
                meter.add(shards[futures[future]].told["num_samples"])
        except BrokenProcessPool:
            raise InputError("num_workers: a worker was killed (out of memory?); use fewer") from None
        finally:
            for future in futures:
                future.cancel()
    yield from ((shard, reports[number]) for number, shard in enumerate(shards))


def _compare_tally(tally: Tally, split: str, description: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    told = {key: value for key, value in description["splits"][split].items() if key != "shards"}
    if not tally.num_samples:
        yield f"splits.{split}: no sample of it can be read"
        return
    counted = describe_tally(tally, rules.split, split, description["config"])
    for key, said, found in _differences(told, counted, f"splits.{split}."):
        yield f"{key}: is {said}, the samples have {found}"


def _differences(told: Any, found: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two trees of plain values differ: key, what is told, what is found (None where a key is missing)."""
    if isinstance(told, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*told, *found]):
            yield from _differences(told.get(key), found.get(key), f"{prefix}{key}.")
    elif told != found:
        yield prefix.rstrip("."), told, found


def main(arguments: list[str]) -> int:
    """Runs the command with these arguments and returns its exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(f"{USAGE}\n{configs.help_text(VerifyConfig)}")
        return 0
    if not arguments or "=" in arguments[0]:
        raise InputError("no dataset given; say: python -m data_gen.verify DATASET [key=value ...]")
    dataset = Path(arguments[0])
    found = verify(dataset, configs.load(VerifyConfig, None, arguments[1:]))
    if found.problems:
        with contextlib.suppress(BrokenPipeError):
            print(*found.problems, sep="\n", file=sys.stderr)
            print(f"error: {dataset}: {found.num_problems} discrepancies", file=sys.stderr)
        return EXIT_DISCREPANCY
    print(
        f"{dataset}: right: {found.num_samples:,} samples in {found.num_shards} shards, {found.num_bytes / 1e6:,.1f} MB"
    )
    return 0


if __name__ == "__main__":
    run_cli(main)
