"""`python -m data_gen.browse DATASET [out=FILE] [split=SPLIT] [num=N]`: a dataset as one self-contained HTML page.

The page shows, for every split, its first pictures with captions, what else is true of them, hard negatives (changed
words marked), opposites, masks, object status and the scene as a table, filters by concept value, and above them which
objects are trained on and which held out.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data_gen import FORMAT_VERSION
from data_gen.browse_page import Shown, page
from data_gen.make import DESCRIPTION
from dualenc import configs
from dualenc.configs import field
from dualenc.errors import InputError, run_cli
from dualenc.files import atomic_write, read_json

USAGE = """python -m data_gen.browse DATASET [key=value ...]

Writes a self-contained HTML page of a dataset's pictures. The last line on stdout is its path. Keys:
"""


@dataclass
class BrowseConfig:
    """What the page shows and where it goes."""

    out: str | None = field(None, "file to write; null: DATASET.html beside the dataset", identity=False)
    split: str | None = field(None, "the one split to show; null: all", identity=False)
    num: int = field(24, "scenes shown of each split", identity=False, minimum=1, maximum=5000)


def browse(dataset: Path, options: BrowseConfig) -> Path:
    """Writes the page and returns its path. Raises InputError where the dataset is missing, newer or damaged."""
    description = _read_description(dataset)
    try:
        text = _page(dataset, description, options)
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(f"{dataset / DESCRIPTION}: is damaged ({problem}); make the dataset again") from None
    out = Path(options.out) if options.out else dataset.with_name(f"{dataset.name}.html")
    if out.is_dir():
        raise InputError(f"out: {out} is a folder; give the path of a file")
    atomic_write(out, text)
    return out


def _page(dataset: Path, description: dict[str, Any], options: BrowseConfig) -> str:
    splits = list(description["splits"])
    if options.split is not None and options.split not in splits:
        raise InputError(f"split: {options.split!r} is not in {dataset}; use one of {', '.join(splits)}")
    shown = {
        split: list(_first_samples(dataset, description["splits"][split], options.num))
        for split in ([options.split] if options.split else splits)
    }
    return page(description, shown)


def _read_description(dataset: Path) -> dict[str, Any]:
    try:
        description = read_json(dataset / DESCRIPTION)
        version = description["format_version"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{dataset}: holds no {DESCRIPTION}; give the folder of a finished dataset") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{dataset / DESCRIPTION}: is damaged; make the dataset again") from None
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise InputError(
            f"{dataset}: has format version {version!r}, this program reads up to {FORMAT_VERSION}; update it"
        )
    return description


def _first_samples(dataset: Path, info: dict[str, Any], num: int) -> Iterator[Shown]:
    """The first `num` samples of a split, in order."""
    for shard in info["shards"]:
        if num <= 0:
            return
        relative = PurePosixPath(shard["path"])
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"the shard {shard['path']!r} lies outside the dataset's folder")
        path = dataset / relative
        try:
            with tarfile.open(path, "r:") as tar:
                members: dict[str, dict[str, bytes]] = {}
                for member in tar:
                    key, _, ending = member.name.partition(".")
                    if key not in members and len(members) == num:
                        break
                    content = tar.extractfile(member)
                    assert content is not None
                    members.setdefault(key, {})[ending] = content.read()
            yield from (_shown(sample) for sample in members.values())
        except (tarfile.TarError, KeyError, TypeError, ValueError, AssertionError):
            raise InputError(f"{path}: is damaged; remove it with its folder and make the dataset again") from None
        num -= len(members)


def _shown(members: dict[str, bytes]) -> Shown:
    ending = "jpg" if "jpg" in members else "png"
    opposite = members.get(f"opposite.{ending}")
    return Shown(
        image=members[ending],
        image_format=ending,
        text=members["txt"].decode(),
        record=json.loads(members["json"]),
        negatives=[json.loads(line) for line in members.get("neg.txt", b"").decode().splitlines()],
        opposite=None if opposite is None else (opposite, members["opposite.txt"].decode()),
        mask=members.get("mask.png"),
    )


def main(arguments: list[str]) -> int:
    """Runs the command with these arguments and returns its exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(f"{USAGE}\n{configs.help_text(BrowseConfig)}")
        return 0
    if not arguments or "=" in arguments[0]:
        raise InputError("no dataset given; say: python -m data_gen.browse DATASET [key=value ...]")
    print(browse(Path(arguments[0]), configs.load(BrowseConfig, None, arguments[1:])))
    return 0


if __name__ == "__main__":
    run_cli(main)
