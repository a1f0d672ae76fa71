"""What tests of every room share."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: models of tests are too small for more, and threads of tests side by side wait for each other."""
    torch = sys.modules.get("torch")  # most tests of scenes, sweeps and data_gen need none
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
