"""The hash of the dataset that a run would read, before that dataset exists: without it no run folder has a name.

Only the generator knows what decides its bytes, so it is asked, as a process of its own (`python -m data_gen.hashes`),
once for all runs. Its answers are kept in RUN.DIR/sweeps/datasets.json, under a key that holds everything they depend
on: the config file's content, the overrides, the generator's code and the versions of its libraries.
"""

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dualenc import configs
from dualenc.config import Config
from dualenc.data.open import generator_arguments
from dualenc.errors import InputError
from dualenc.files import read_json, write_json

_LIBRARIES = ("numpy", "pillow", "simplejpeg", "warp-lang")
_MAX_KEPT = 20_000

Answer = dict[str, str]
"""{"hash": ...}, or {"error": ...} in one line."""


def dataset_hashes(wanted: list[Config], cache: Path) -> list[Answer]:
    """For each config the hash of its dataset, or why there is none; `cache` keeps the generator's answers."""
    requests = [generator_arguments(config.data) if config.data.generate else None for config in wanted]
    generated = _generated([list(row) for row in dict.fromkeys(tuple(row) for row in requests if row)], cache)
    return [_answer(config, row, generated) for config, row in zip(wanted, requests)]


def _answer(config: Config, request: list[str] | None, generated: dict[tuple[str, ...], Answer]) -> Answer:
    if config.data.kind == "symbolic":
        return {"hash": "symbolic"}
    if request is not None:
        return generated[tuple(request)]
    assert config.data.path is not None
    try:
        return {"hash": read_json(Path(config.data.path) / "dataset.json")["hash"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"error": f"data.path: {config.data.path} holds no readable dataset.json; name a folder of data_gen's"}


def _generated(requests: list[list[str]], cache: Path) -> dict[tuple[str, ...], Answer]:
    """The generator's answers to lists of arguments, from the cache where it knows them."""
    if not requests:
        return {}
    kept = _read(cache)
    code = _code_digest()
    keys = {tuple(row): _digest(code, Path(row[0]), row) for row in requests}
    asked = [row for row in requests if keys[tuple(row)] not in kept]
    if asked:
        answers = dict(zip((keys[tuple(row)] for row in asked), _ask(asked)))
        kept |= answers
        known = {key: answer for key, answer in kept.items() if "hash" in answer}
        if len(known) <= _MAX_KEPT:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(cache, known, indent=None)
    return {arguments: kept[key] for arguments, key in keys.items()}


def _read(cache: Path) -> dict[str, Any]:
    """What the cache holds; a damaged one holds nothing."""
    try:
        return dict(read_json(cache))
    except (OSError, ValueError, TypeError):
        return {}


def _ask(requests: list[list[str]]) -> list[Answer]:
    command = [sys.executable, "-m", "data_gen.hashes"]
    ended = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise InputError(f"data.generate: {' '.join(command)} ended with {ended.returncode}: {ended.stderr[-500:]}")
    return json.loads(ended.stdout)


def _code_digest() -> str:
    """Digest of all that decides a hash besides the config: code and libraries."""
    digest = hashlib.sha256()
    found = find_spec("data_gen")
    folders = [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []
    own = Path(configs.__file__)
    for path in sorted([own, *(own.parent / "scenes").glob("*.py"), *(p for f in folders for p in f.rglob("*.py"))]):
        digest.update(path.read_bytes())
    digest.update(" ".join(version(library) for library in _LIBRARIES).encode())
    return digest.hexdigest()


def _digest(code: str, config: Path, arguments: list[str]) -> str:
    """The key of a request: a data config may have a base beside it, which counts too."""
    content = b""
    if config.is_file():
        content = config.read_bytes()
        base = configs.read_yaml(config).get(configs.BASE_KEY)
        if isinstance(base, str) and (config.parent / base).is_file():
            content += (config.parent / base).read_bytes()
    return hashlib.sha256(content + json.dumps([code, arguments]).encode()).hexdigest()[:24]
