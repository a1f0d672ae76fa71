"""How far a study has come."""

from collections.abc import Iterable, Sized
from typing import TypeVar

T = TypeVar("T")


def track(what: str, items: Iterable[T], *, total: int | None = None) -> Iterable[T]:
    """The items, with a progress bar on a terminal; `total`: how many, where they do not tell."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    number = len(items) if isinstance(items, Sized) else total
    return track(items, description=f"{what:16}", total=number, console=console, disable=not console.is_terminal)
