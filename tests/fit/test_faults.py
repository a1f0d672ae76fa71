"""Trainings of two processes of which one dies, fails or is told to stop, and disks that are full."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from faults import die_while_saving, fail_at, hang_at, leave_it_to_a_child, never_look_for_checkpoints
from fit_commands import environment
from kill_twenty import TRAINING, differences, only_run, position, rows, segment_starts
from warm import WarmFit, wait_until, warm_processes

from dualenc.weights import newest_checkpoint

SAMPLES = 640
PAIR = [*TRAINING, f"trainer.max_samples={SAMPLES}", "eval.every=320", "eval.num_scenes=20"]
WITHOUT_DROPOUT = [*PAIR, "trainer.accelerator=cpu", "model.scene.dropout=0", "model.query.dropout=0"]
DIED = (
    r"error: process {rank} \(host \S+, pid {pid}\) died; run the same command again, which continues from the newest"
)


def assert_says_who_died(stderr: str, rank: int, pid: int) -> None:
    assert len(re.findall(DIED.format(rank=rank, pid=pid), stderr)) == 1, stderr
    assert stderr.count("error: ") == 1, stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for process in warm_processes(PAIR, folder):
        assert process.wait() == 0, process.stderr
    return only_run(folder / "runs")


def test_whatever_one_of_two_processes_suffers_the_run_ends_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: Path
) -> None:
    # Process 1 is killed while process 0 waits for something that never comes, as a collective of NCCL does.
    processes = warm_processes(PAIR, tmp_path, prepare={0: partial(hang_at, 160)})
    wait_until(lambda: position(tmp_path) >= 160 or processes[0].poll() is not None)
    processes[1].kill()
    began = time.monotonic()
    assert processes[0].wait() == 75, processes[0].stderr
    assert time.monotonic() - began < 60
    assert_says_who_died(processes[0].stderr, 1, processes[1].pid)
    # Process 0 dies with half a checkpoint written.
    processes = warm_processes(PAIR, tmp_path, prepare={0: die_while_saving})
    assert [process.wait() for process in processes] == [-signal.SIGKILL, 75], processes[1].stderr
    assert_says_who_died(processes[1].stderr, 0, processes[0].pid)
    checkpoints = only_run(tmp_path / "runs") / "checkpoints"
    assert len(list(checkpoints.glob("*.tmp-*"))) == 1
    # Process 1 alone is told to stop: both save and leave.
    before = newest_checkpoint(checkpoints)[1]["samples"]
    processes = warm_processes(PAIR, tmp_path, prepare={1: never_look_for_checkpoints})
    wait_until(lambda: len(segment_starts(tmp_path)) == 3 and position(tmp_path) >= before + 64)
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait() for process in processes] == [130, 130], processes[0].stderr
    assert newest_checkpoint(checkpoints)[1]["samples"] >= before + 64
    assert not list(checkpoints.glob("*.tmp-*"))
    for process in warm_processes(PAIR, tmp_path):
        assert process.wait() == 0, process.stderr
    # Process 0 was killed at the very end, before the summary.
    (only_run(tmp_path / "runs") / "summary.json").unlink()
    for process in warm_processes(PAIR, tmp_path):
        assert process.wait() == 0, process.stderr
    starts = segment_starts(tmp_path)
    assert len(starts) == 5
    assert starts[0] == 0 < starts[1]
    assert starts[-1] == SAMPLES
    assert starts == sorted(starts)
    assert differences(only_run(tmp_path / "runs"), undisturbed) == []


def test_what_one_process_cannot_go_on_with_ends_the_others_with_its_message_and_code(tmp_path: Path) -> None:
    processes = warm_processes(PAIR, tmp_path, prepare={1: partial(fail_at, 64)})
    assert [process.wait() for process in processes] == [2, 2], processes[0].stderr
    assert processes[1].stderr.splitlines()[-1] == "error: shard 7 is damaged"
    told = rf"error: process 1 \(host \S+, pid {processes[1].pid}\) ended: shard 7 is damaged"
    assert re.fullmatch(told, processes[0].stderr.splitlines()[-1])
    assert "Traceback" not in processes[0].stderr + processes[1].stderr


class Started:
    """A command line that starts the processes of a training, with all that comes of it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / f"{self.mark}.err"
        with open(self.log, "w") as log:
            self.command = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env={**environment(), "MARK_OF_THIS_TEST": self.mark},
                stderr=log,
                stdout=subprocess.DEVNULL,
            )

    def living(self) -> dict[int, dict[str, str]]:
        """Process id -> environment."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                pairs = (pair.partition("=") for pair in (path / "environ").read_text().split("\0"))
                variables = {name: value for name, _, value in pairs}
                if variables.get("MARK_OF_THIS_TEST") == self.mark:
                    found[int(path.name)] = variables
            except (OSError, UnicodeDecodeError):  # gone meanwhile, or another's
                continue
        return found

    def process_of(self, rank: int) -> int:
        """The process id of a rank: the first that was told so, as its loader workers look the same."""
        wait_until(lambda: any(found.get("RANK") == str(rank) for found in self.living().values()), what="no such rank")
        return min(pid for pid, found in self.living().items() if found.get("RANK") == str(rank))

    def ended(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code and what was said, once nothing is left of it. AssertionError where something stays."""
        try:
            code = self.command.wait(seconds)
            wait_until(lambda: not self.living(), seconds=seconds, what="processes were left behind")
            return code, self.log.read_text()
        finally:
            for pid in self.living():
                os.kill(pid, signal.SIGKILL)
            self.command.wait()


def assert_same_curve(folder: Path, other: Path) -> None:
    """The same samples, and the same numbers up to the order of sums."""
    ours, theirs = rows(only_run(folder / "runs")), rows(only_run(other / "runs"))
    assert [row["samples"] for row in ours] == [row["samples"] for row in theirs]
    for a, b in zip(ours, theirs):
        for name in ("train/samples_crc32", "coverage/objects_seen", "coverage/pairs_seen"):
            assert a[name] == b[name]
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-4)
        assert a["train/grad_norm"] == pytest.approx(b["train/grad_norm"], rel=1e-3)


def test_one_process_continues_what_two_began_and_two_what_one_began(tmp_path: Path) -> None:
    """Both launchers: `trainer.devices=2`, where a process dies, and torchrun, where one is told to stop."""
    folders = [tmp_path / name for name in ("one", "two-one", "one-two")]
    for folder in folders:
        folder.mkdir()
    alone, first, second = folders
    assert WarmFit(WITHOUT_DROPOUT, alone).wait() == 0
    started = Started(["dualenc.fit", *WITHOUT_DROPOUT, "trainer.devices=2"], first)
    wait_until(lambda: position(first) >= 200 or started.command.poll() is not None)
    victim = started.process_of(1)
    os.kill(victim, signal.SIGKILL)
    code, said = started.ended()
    assert code == 75, said
    assert_says_who_died(said, 1, victim)
    assert WarmFit(WITHOUT_DROPOUT, first).wait() == 0
    assert_same_curve(first, alone)

    begun = WarmFit(WITHOUT_DROPOUT, second)
    wait_until(lambda: position(second) >= 200 or begun.poll() is not None)
    begun.kill()
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    started = Started([*torchrun, "dualenc.fit", *WITHOUT_DROPOUT], second)
    wait_until(lambda: len(segment_starts(second)) == 2 and position(second) >= 320)
    os.kill(started.process_of(0), signal.SIGTERM)
    code, said = started.ended()
    assert code == 1, said
    assert "interrupted, with a checkpoint saved" in said
    assert len(re.findall(r"exitcode +: 130 ", said)) == 2, said
    assert WarmFit(WITHOUT_DROPOUT, second).wait() == 0
    assert_same_curve(second, alone)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_at_the_very_start_ends_the_other(rank: int, tmp_path: Path) -> None:
    started = Started(["dualenc.fit", *PAIR, "trainer.devices=2"], tmp_path)
    victims = {0: started.command.pid, 1: started.process_of(1)}
    os.kill(victims[rank], signal.SIGKILL)
    code, said = started.ended()
    assert code == (75 if rank else -signal.SIGKILL), said
    assert_says_who_died(said, rank, victims[rank])


def test_a_process_whose_launcher_is_gone_saves_and_leaves(tmp_path: Path) -> None:
    """As torchrun's agent would be; a process that waits for its child stands for it, which starts faster."""
    elastic = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    launcher = WarmFit(PAIR, tmp_path, further=elastic, prepare=leave_it_to_a_child)
    wait_until(lambda: position(tmp_path) >= 160 or launcher.poll() is not None)
    launcher.kill()
    wait_until(lambda: "interrupted, with a checkpoint saved" in launcher.stderr)
    assert "Traceback" not in launcher.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a disk of its own, of 32 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, *, left: int) -> Path:
    """A file that leaves `left` bytes of the disk free."""
    path = disk / "filler"
    with open(path, "wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(2**16)):
                pass
        file.truncate(max(file.tell() - left, 0))
    return path


def test_a_full_disk_ends_the_run_with_one_line_and_costs_nothing_but_time(small_disk: Path, tmp_path: Path) -> None:
    alone = WarmFit(PAIR, tmp_path)
    never = "trainer.checkpoint_seconds=1000"
    # After the first validation, so that best.safetensors is there; SIGTERM makes the checkpoint the next file.
    cases = (PAIR, 330, 1_000_000, "checkpoints/last.ckpt"), ([*PAIR, never], 480, 0, "metrics.jsonl")
    for arguments, after, left, file in cases:
        lives = len(segment_starts(small_disk))
        process = WarmFit(arguments, small_disk)
        wait_until(lambda: len(segment_starts(small_disk)) > lives and position(small_disk) >= after)  # noqa: B023
        filler = fill(small_disk, left=left)
        if left:
            process.send_signal(signal.SIGTERM)
        assert process.wait() == 2, process.stderr
        run = only_run(small_disk / "runs")
        told = f"error: runs/{run.name}/{file}: No space left on device; check the path, its permissions and the free "
        assert process.stderr.splitlines()[-1].startswith(told), process.stderr
        assert "Traceback" not in process.stderr
        assert newest_checkpoint(run / "checkpoints")[0].name == "last.ckpt"
        assert not list(run.rglob("*.tmp-*"))
        filler.unlink()
    process = WarmFit(PAIR, small_disk)
    assert process.wait() == 0, process.stderr
    assert alone.wait() == 0, alone.stderr
    assert differences(only_run(small_disk / "runs"), only_run(tmp_path / "runs")) == []
