"""What tests of running makers share: waiting for something to happen, and the hashes of what was made."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def hashes(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of a dataset."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true result of `condition`, asked again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")
