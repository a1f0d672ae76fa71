"""How large scenes and splits may be, and how a refusal of this package names the keys that a user typed."""

import contextlib
from collections.abc import Iterator, Mapping

from dualenc.errors import InputError

MAX_OBJECTS_OF_SCENE = 12  # exact truth looks at every subset of a caption's conjuncts
MAX_OBJECTS_OF_SPLIT = 10**8  # a split lists every object


def check_scene_size(num_objects: int) -> None:
    """InputError for more objects in a scene than exact truth can be computed for."""
    if num_objects > MAX_OBJECTS_OF_SCENE:
        raise InputError(
            f"objects: {num_objects} objects in a scene are too many for exact truth; use at most "
            f"{MAX_OBJECTS_OF_SCENE}"
        )


@contextlib.contextmanager
def keys_under(prefix: str, names: Mapping[str, str]) -> Iterator[None]:
    """Names keys in full in what this package refuses: `coverage: ...` becomes `PREFIX.coverage: ...`, or whatever
    `names` has for "coverage"."""
    try:
        yield
    except InputError as error:
        key, colon, rest = str(error).partition(":")
        raise InputError(f"{names.get(key, f'{prefix}.{key}')}{colon}{rest}") from None
