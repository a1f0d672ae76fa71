"""Files that appear whole or not at all, and claims that let one process at a time make a thing (laws 4 and 7)."""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"  # every unfinished file's name holds this, so that leftovers can be told from data


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is fsynced and renamed to `path`, else it is removed."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, os.fspath(temporary)):
            error.filename = os.fspath(path)  # a full disk names no file by itself
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: str | os.PathLike) -> None:
    """Makes renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) so that `path` holds either what it held before or all of `data`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: str | os.PathLike, value: Any, *, indent: int | None = 2) -> None:
    """Writes `value` as JSON, atomically; NaN and infinities are refused (law 5)."""
    atomic_write(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def probe_folder(path: Path) -> None:
    """Raises OSError where `path` cannot be made or written into; leaves nothing behind.

    A folder that does not exist yet is not made for the probe: another process of the same run may be probing it too,
    and would find it gone or filled. What it will be made in is written to instead.
    """
    try:
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def sha256_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Claim:
    """An exclusive claim on making something, as a file: `with Claim(path): ...` waits while another owner lives.

    The file is created with O_EXCL and holds host, process id and a token of the owner, who touches it as a
    heartbeat. A claim whose owner is gone (a dead process on this host, or one of any host without a heartbeat for
    `stale_after` seconds of the waiter's own clock) is taken over. Works across hosts on a shared file system; looking
    and taking over is one step under a short lock of the folder, where the file system can lock folders.
    """

    def __init__(self, path: str | os.PathLike, *, stale_after: float = 60.0, poll: float = 0.5) -> None:
        self.path = Path(path)
        self.stale_after, self.poll = stale_after, poll
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._seen = (-1, 0.0)  # the last heartbeat, and when this process first saw it

    def __enter__(self) -> "Claim":
        announced = False
        while not self._try():
            if not announced:
                print(f"waiting for {self._holder()}, who holds {self.path}", file=sys.stderr)
                announced = True
            time.sleep(self.poll)
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(FileNotFoundError), _locked_folder(self.path.parent):  # the folder may be gone
            if self._holder() == self.owner:
                self.path.unlink()

    def _try(self) -> bool:
        with _locked_folder(self.path.parent):
            if self._is_stale():
                self.path.unlink(missing_ok=True)
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            with os.fdopen(descriptor, "w") as file:
                file.write(self.owner)
            return True

    def _holder(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.path.read_text()
        return ""

    def _is_stale(self) -> bool:
        try:
            beat = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if beat != self._seen[0]:
            self._seen = (beat, time.monotonic())
        if _is_gone(self._holder()):
            return True
        return time.monotonic() - self._seen[1] > self.stale_after

    def _beat(self) -> None:
        while not self._stop.wait(self.stale_after / 6):
            if self._holder() == self.owner:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(self.path)


def is_claimed(path: Path, *, stale_after: float = 60.0) -> bool:
    """Whether someone holds the claim `path`, by one look at it: an owner of another host shows by the age of the
    heartbeat, so clocks that differ by about `stale_after` seconds deceive it."""
    try:
        age = time.time() - path.stat().st_mtime
        return age < stale_after and not _is_gone(path.read_text())
    except FileNotFoundError:
        return False


def _is_gone(owner: str) -> bool:
    """Whether the owner of a claim was a process of this host that has ended."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    return host == socket.gethostname() and pid.isdigit() and not _alive(int(pid))


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Holds the advisory lock of a folder; it ends with the process. Without effect where folders have none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _alive(pid: int) -> bool:
    """Whether a process of this host runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
