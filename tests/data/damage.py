"""Ways to damage a copy of a dataset, and how it is refused then."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualenc.configs import short_hash
from dualenc.data import Dataset
from dualenc.errors import InputError

Members = dict[str, bytes]  # name in the tar -> bytes
Edit = Callable[[Members], Any]

SHARD = "train/train-000003.tar"
KEY = "train-00000050"


def members_of(path: Path) -> Members:
    """By the standard library, not by our reader."""
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def rewrite(folder: Path, edit: Edit, shard: str = SHARD) -> None:
    """Edits the members of a shard, and dataset.json so that its SHA-256 is right."""
    path = folder / shard
    members = members_of(path)
    edit(members)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    describe(folder, shard, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def describe(folder: Path, shard: str, **changes: Any) -> None:
    meta = json.loads((folder / "dataset.json").read_text())
    [entry] = [entry for entry in meta["splits"][shard.split("/")[0]]["shards"] if entry["path"] == shard]
    entry.update(changes)
    (folder / "dataset.json").write_text(json.dumps(meta))


def change_json(key: str, change: Callable[[dict[str, Any]], Any]) -> Edit:
    def edit(members: Members) -> None:
        record = json.loads(members[f"{key}.json"])
        change(record)
        members[f"{key}.json"] = json.dumps(record).encode()

    return edit


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        Dataset(folder).verify()
    message = str(caught.value)
    assert message.startswith("data.path")
    assert "\n" not in message
    assert not (folder / ".cache" / "stamp.json").exists()
    return message


def checks_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    done = []
    original = Dataset._check_split
    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "_check_split", lambda self, split: done.append(split) or original(self, split))
        Dataset(folder).verify()
    return len(done)


def edit_description(folder: Path, change: Callable[[dict[str, Any]], Any], *, rehash: bool = False) -> None:
    """Changes dataset.json, and its hash with it where asked to."""
    path = folder / "dataset.json"
    meta = json.loads(path.read_text())
    change(meta)
    if rehash:
        keys = ("config", "format_version", "generator_version", "device", "versions")
        meta["hash"] = short_hash({key: meta[key] for key in keys})
    path.write_text(json.dumps(meta))
