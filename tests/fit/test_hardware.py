"""What a training process sets up for itself before it starts."""

import os
import subprocess
import sys

import pytest
from fit_commands import environment

PROGRAM = """
import resource, torch
from dualenc.config import Config
from dualenc.hardware import set_up_torch

set_up_torch(Config())
assert torch.are_deterministic_algorithms_enabled()

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**23 + 2**20).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(*[new_pages() for _ in range(30)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_memory_of_freed_tensors_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    pages = list(map(int, done.stdout.split()))
    assert pages[-1] < 0.01 * max(pages)


def test_a_training_that_a_test_starts_sees_no_extras():
    code = (
        "from importlib.util import find_spec; print([name for name in ('scipy', 'transformers') if find_spec(name)])"
    )
    for variables, found in ((environment(), "[]"), (os.environ, "['scipy', 'transformers']")):
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == found
