"""Whole files or none, and one owner at a time, with real processes that are really killed."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dualenc.errors import InputError, one_line
from dualenc.files import Claim, atomic_path, atomic_write, probe_folder, read_json, sha256_file, write_json

DEADLINE = 30.0


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def wait_until_says(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert read_json(path) == {"a": 1}
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    atomic_write(path, "äöü")
    assert path.read_bytes() == "äöü".encode()
    assert sha256_file(path) == hashlib.sha256("äöü".encode()).hexdigest()


def test_a_killed_writer_leaves_no_file_that_looks_finished(tmp_path: Path) -> None:
    code = """
import sys, time
from dualenc.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
    process = start(code, tmp_path / "x.bin")
    wait_until_says(process, "half")
    process.kill()
    process.communicate()
    assert [".tmp-" in path.name for path in tmp_path.iterdir()] == [True]


HOLD = """
import sys
from dualenc.files import Claim
with Claim(sys.argv[1], poll=0.02):
    print("mine", flush=True)
    sys.stdin.readline()
    print("done", flush=True)
"""


def test_a_claim_waits_while_its_owner_lives(tmp_path: Path) -> None:
    first = start(HOLD, tmp_path / "claim")
    wait_until_says(first, "mine")
    second = start(HOLD, tmp_path / "claim")
    assert second.stderr is not None
    assert f":{first.pid}:" in second.stderr.readline()
    time.sleep(0.3)
    assert (tmp_path / "claim").read_text().split(":")[1] == str(first.pid)
    assert first.communicate("\n", timeout=DEADLINE) == ("done\n", "")
    assert second.communicate("\n", timeout=DEADLINE) == ("mine\ndone\n", "")
    assert (first.returncode, second.returncode) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_killed_owner_is_taken_over_at_once(tmp_path: Path) -> None:
    first = start(HOLD, tmp_path / "claim")
    wait_until_says(first, "mine")
    os.kill(first.pid, signal.SIGKILL)  # and not waited for: a zombie holds nothing
    second = start(HOLD, tmp_path / "claim")
    output, _ = second.communicate("\n", timeout=DEADLINE)
    assert output == "mine\ndone\n"
    first.communicate()
    assert list(tmp_path.iterdir()) == []


def test_many_processes_never_own_a_claim_together(tmp_path: Path) -> None:
    """Owners overlap nowhere, although some are killed and all the others race to take their claim over."""
    code = """
import os, signal, sys, time
from dualenc.files import Claim
path, log, doomed = sys.argv[1:]
for turn in range(6):
    with Claim(path, poll=0.001):
        with open(log, "a") as file:
            file.write(f"+{os.getpid()}\\n")
            file.flush()
            time.sleep(0.003)
            if doomed == "True" and turn == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(f"-{os.getpid()}\\n")
"""
    log = tmp_path / "log"
    running = [start(code, tmp_path / "claim", log, k % 2 == 0) for k in range(8)]
    for process in running:
        process.communicate(timeout=DEADLINE)
    codes = [process.returncode for process in running]
    assert codes == [-signal.SIGKILL if k % 2 == 0 else 0 for k in range(8)]
    lines = log.read_text().split()
    killed, owner = {str(process.pid) for process in running[::2]}, None
    for line in lines:
        if line[0] == "+":
            assert owner is None or owner in killed
            owner = line[1:]
        else:
            assert owner == line[1:]
            owner = None
    assert lines.count("-" + str(running[1].pid)) == 6
    with Claim(tmp_path / "claim"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_takers_who_judged_the_same_dead_owner_do_not_evict_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between one waiter's look at a stale claim and its takeover no other takes it over."""
    path = tmp_path / "claim"
    dead = start("pass")
    dead.communicate()
    path.write_text(f"{os.uname().nodename}:{dead.pid}:x")
    first, second = Claim(path), Claim(path)
    judged, looked = threading.Event(), first._is_stale

    def look_and_dawdle() -> bool:
        stale = looked()
        judged.set()
        time.sleep(0.3)
        return stale

    monkeypatch.setattr(first, "_is_stale", look_and_dawdle)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(first._try)
        assert judged.wait(DEADLINE)
        assert not second._try()
        assert slow.result(DEADLINE)
    assert path.read_text() == first.owner


def test_an_owner_elsewhere_is_judged_by_its_heartbeat_not_by_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    path.write_text("elsewhere:1:x")
    os.utime(path, (1, 1))  # a clock far behind ours
    claim = Claim(path, stale_after=0.4, poll=0.01)
    assert not claim._try()
    for beat in range(4):
        time.sleep(0.2)
        os.utime(path, (2 + beat, 2 + beat))
        assert not claim._try()
    begin = time.monotonic()
    with claim:
        assert time.monotonic() - begin > 0.3
        assert path.read_text() == claim.owner


def test_a_lost_claim_is_neither_kept_alive_nor_removed(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    with Claim(path, stale_after=0.06):
        path.write_text("elsewhere:1:x")
        os.utime(path, (1, 1))
        time.sleep(0.1)
        assert path.stat().st_mtime == 1
    assert path.read_text() == "elsewhere:1:x"


def test_a_claim_whose_folder_was_removed_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with Claim(tmp_path / "folder" / "claim"):
        shutil.rmtree(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_live_owner_beats(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    with Claim(path, stale_after=0.12):
        os.utime(path, (1, 1))
        limit = time.monotonic() + DEADLINE
        while path.stat().st_mtime == 1 and time.monotonic() < limit:
            time.sleep(0.02)
        assert path.stat().st_mtime > 1


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        ("InputError('data.x: wrong;\\n use 3')", 2, "error: data.x: wrong; use 3\n"),
        ("PermissionError(13, 'Permission denied', '/x/y')", 2, "error: /x/y: Permission denied; check"),
        ("KeyboardInterrupt()", 130, "interrupted; the same command continues\n"),
    ],
)
def test_entry_points_say_no_in_one_line(failure: str, code: int, said: str) -> None:
    program = f"""
from dualenc.errors import InputError, run_cli
def main(argv):
    raise {failure}
run_cli(main)
"""
    process = start(program)
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    assert errors.startswith(said)
    assert errors.count("\n") == 1
    assert output == ""


def test_a_reader_who_leaves_first_hears_no_complaint() -> None:
    process = start(
        "from dualenc.errors import run_cli\n"
        "def main(argv):\n"
        "    for line in range(100_000):\n"
        "        print(line)\n"
        "run_cli(main)"
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.wait(DEADLINE) == 141
    assert process.stderr.read() == ""


def test_a_wrong_input_is_said_although_nobody_reads_the_output() -> None:
    process = start(
        "import sys\n"
        "from dualenc.errors import InputError, run_cli\n"
        "def main(argv):\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.read()\n"
        "    raise InputError('data.x: wrong; use 3')\n"
        "run_cli(main)"
    )
    wait_until_says(process, "begun")
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(DEADLINE) == 2
    assert process.stderr.read() == "error: data.x: wrong; use 3\n"


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    process = start("from dualenc.errors import run_cli\nrun_cli(lambda argv: 1 // 0)")
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "Traceback" in errors
    assert one_line(InputError("a\nb")) == "a b"


def test_a_folder_is_probed_without_being_made(tmp_path: Path) -> None:
    probe_folder(tmp_path / "runs" / "a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/nowhere/runs")):
        with pytest.raises(OSError) as raised:
            probe_folder(path)
        assert raised.value.filename == str(path)


def test_another_process_may_fill_the_folder_while_it_is_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary_file = tempfile.TemporaryFile

    def after_another_process(dir: Path) -> object:
        (tmp_path / "runs" / "a").mkdir(parents=True)
        return temporary_file(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", after_another_process)
    probe_folder(tmp_path / "runs")
    assert (tmp_path / "runs" / "a").exists()
