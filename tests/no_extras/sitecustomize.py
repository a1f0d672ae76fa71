"""Read by every Python that has this folder on its path: what only extras bring seems not to be installed.

So a training started by a test is that of an ordinary installation. It also starts sooner: torchmetrics imports these,
for metrics that nobody here uses, wherever they are installed.
"""

import importlib.metadata
import importlib.util
from typing import Any

_GONE = ("transformers", "scipy", "sklearn", "scikit-learn")
_find_spec, _version = importlib.util.find_spec, importlib.metadata.version


def _find_spec_of_others(name: str, package: str | None = None) -> Any:
    return None if name.partition(".")[0] in _GONE else _find_spec(name, package)


def _version_of_others(name: str) -> str:
    if name in _GONE:
        raise importlib.metadata.PackageNotFoundError(name)
    return _version(name)


importlib.util.find_spec, importlib.metadata.version = _find_spec_of_others, _version_of_others
