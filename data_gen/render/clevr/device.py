"""Where the kernels run and where their compiled form is kept: the one place that sets Warp up.

Compiled kernels are kept in the folder that the environment variable WARP_CACHE_PATH (Warp's own) names, else in
dualenc/warp under XDG_CACHE_HOME, else in ~/.cache/dualenc/warp. Warp builds in a folder named after process and thread
and renames it when it is whole, so two processes that compile at once do not break each other's cache.

The device is `DEVICE` of this package. The kernels are written for CUDA as well ("cuda:0"), but only the CPU has been
run. Pictures of two devices are different data.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import warp as wp

from data_gen.render.clevr import DEVICE

_CACHE_VARIABLE = "WARP_CACHE_PATH"
_KERNELS = "data_gen.render.clevr.kernels"


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    if os.environ.get(_CACHE_VARIABLE):
        return Path(os.environ[_CACHE_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dualenc" / "warp"


@cache
def start() -> None:
    """Sets Warp up, once in a process: quiet, its cache in `cache_folder`."""
    wp.config.log_level = wp.LOG_ERROR
    wp.config.kernel_cache_dir = str(cache_folder())
    with _quiet():
        wp.init()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stderr: Warp's library warns there, past Python, where a machine has no CUDA driver."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@cache
def prepare() -> None:
    """Compiles the kernels, unless they are in the cache, and loads them: in the parent before it starts workers.

    A compilation is announced in one line on stderr.
    """
    start()
    module = wp.get_module(_KERNELS)
    block_dim = 1 if DEVICE == "cpu" else 256
    folder = Path(str(wp.config.kernel_cache_dir)) / module.get_module_identifier(block_dim)
    if not folder.is_dir():
        print(f"compiling the 3-D renderer, once: kept in {cache_folder()}", file=sys.stderr, flush=True)
    wp.load_module(_KERNELS, device=DEVICE, block_dim=block_dim)
