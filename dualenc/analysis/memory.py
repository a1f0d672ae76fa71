"""How much memory is free, for what grows with the number of objects."""

from pathlib import Path

_UNKNOWN = 2**30
_sharers = 1


def share_memory(number: int) -> None:
    """From now on this process takes itself for one of so many, each of which may take as much."""
    global _sharers
    _sharers = number


def available_memory() -> int:
    """Bytes that this process may still take: what the system calls available, or less inside a container; its share
    of these (see `share_memory`)."""
    return _available() // _sharers


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return _UNKNOWN
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):
        return free
    return min(free, max(limit - used, 0))


def in_words(size: float) -> str:
    """A number of bytes for a reader."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
