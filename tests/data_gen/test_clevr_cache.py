"""The compiled kernels: kept where the environment says, announced once, safe when two processes start at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Draws one picture with kernels compiled without optimisation, which takes a third of the time.
SCRIPT = """
import hashlib
import numpy as np
import warp as wp
from data_gen.config import PictureConfig
from data_gen.render.clevr import device, kernels
from data_gen.render.clevr.renderer import ClevrRenderer
from dualenc.scenes import ConceptSpace, Scenes
wp.get_module(kernels.__name__).options["optimization_level"] = 0
space = ConceptSpace.named({"shape": ["sphere", "cube"]})
renderer = ClevrRenderer(space, PictureConfig(size=32), max_objects=2, seed=0)
device.prepare()
scenes = Scenes(space, np.array([[0, 1]]), np.array([[[0.3, 0.3], [0.7, 0.7]]], dtype=np.float32))
(pixels, _), = renderer.draw(scenes, "train", 0)
print(hashlib.sha256(pixels.tobytes()).hexdigest())
"""


def start(environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_cold_processes_share_the_configured_cache_and_leave_the_home_alone(tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    environment = {**kept, "HOME": str(home), "WARP_CACHE_PATH": str(cache), "OMP_NUM_THREADS": "1"}
    both = [start(environment) for _ in range(2)]
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    announced = f"compiling the 3-D renderer, once: kept in {cache}\n"
    assert {stderr for _, stderr in outputs} <= {announced, ""}
    assert announced in {stderr for _, stderr in outputs}
    assert list(cache.rglob("*.o"))
    again = start(environment)
    assert (*again.communicate(timeout=100), again.returncode) == (outputs[0][0], "", 0), "cached: nothing to announce"
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"WARP_CACHE_PATH": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/dualenc/warp"),
        ({"HOME": "/c"}, "/c/.cache/dualenc/warp"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_gen.render.clevr.device import cache_folder

    for name in ("WARP_CACHE_PATH", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)
