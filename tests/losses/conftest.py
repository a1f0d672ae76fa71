"""One set of processes for all tests of losses."""

from collections.abc import Iterator

import pytest
from gloo import Workers


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Four gloo processes; `run` says how to use them."""
    workers = Workers()
    yield workers
    workers.close()
