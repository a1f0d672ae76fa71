"""One dataset made by several tasks: each makes its own shards, in any order, and the last call finishes it."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from watching import hashes, wait_until

from data_gen.claims import claimed
from dualenc.files import Claim


def shards(folder: Path) -> set[str]:
    """Names of the tar files that are there."""
    return {path.stem for path in folder.glob("*/*.tar")}


def start(command: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_tasks_and_a_last_call_make_what_one_call_makes(
    data_gen: Any, small_config: Path, small_dataset: Path, tmp_path: Path
) -> None:
    common = (small_config, "data.out=set", "data.num_workers=1")
    processes = [start(data_gen.command(*common, "data.num_tasks=3", f"data.task={k}"), tmp_path) for k in (0, 2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert [out for out, _ in outputs] == ["set\n", "set\n"]
    order = [path.removesuffix(".tar").split("/")[1] for path in hashes(small_dataset) if path.endswith(".tar")]
    names = sorted(order, key=lambda name: (["train", "val", "val_ood", "ood", "mixed"].index(name[:-7]), name))
    assert shards(tmp_path / "set") == {name for k, name in enumerate(names) if k % 3 != 1}
    assert not (tmp_path / "set" / "dataset.json").exists()
    repeated = data_gen.run(*common, "data.num_tasks=3", "data.task=2", cwd=tmp_path)
    assert repeated.returncode == 0
    assert "continuing: 4 of 4 shards are finished" in repeated.stderr
    last = data_gen.run(*common, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert "continuing: 9 of 13 shards are finished" in last.stderr
    assert hashes(tmp_path / "set") == hashes(small_dataset)
    done = data_gen.run(*common, "data.num_tasks=3", "data.task=1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "set\n")
    assert "complete already" in done.stderr


@pytest.fixture(scope="module")
def long_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 60 shards, which takes long enough for processes to meet."""
    path = tmp_path_factory.mktemp("long") / "long.yaml"
    path.write_text(
        "data:\n  num_samples: {train: 3000, val: 0, val_ood: 0, ood: 0, mixed: 0}\n  samples_per_shard: 50\n"
    )
    return path


def test_a_killed_task_leaves_the_others_files_alone_and_is_continued(
    data_gen: Any, long_config: Path, tmp_path: Path
) -> None:
    whole = data_gen.run(long_config, "data.out=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    folder = tmp_path / "set"
    command = data_gen.command(long_config, "data.out=set", "data.num_workers=1", "data.num_tasks=2")
    first, second = (start([*command, f"data.task={k}"], tmp_path) for k in (0, 1))
    wait_until(lambda: len(shards(folder)) >= 4)
    mine, theirs = (folder / "train" / f"train-00005{k}.tar.tmp-1-dead" for k in (8, 9))
    for leftover in (mine, theirs):
        leftover.write_bytes(b"left over")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=20)
    again = data_gen.run(long_config, "data.out=set", "data.num_tasks=2", "data.task=0", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert not mine.exists()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    last = data_gen.run(long_config, "data.out=set", cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert "continuing: 60 of 60 shards are finished" in last.stderr
    assert hashes(folder) == hashes(tmp_path / "whole")


def test_a_task_removes_what_was_left_of_its_own_shards_only(small_config: Path, tmp_path: Path) -> None:
    from data_gen.config import load_config
    from data_gen.make import _own_shards, _remove_leftovers
    from data_gen.shards import plan

    (tmp_path / "train").mkdir()
    names = [f"train-00000{k}.{ending}.tmp-1-x" for k in range(4) for ending in ("tar", "idx.npy")]
    for name in names:
        (tmp_path / "train" / name).write_bytes(b"")
    data = load_config(small_config, ["data.num_tasks=2", "data.task=1"])
    _remove_leftovers(tmp_path, data, _own_shards(data, plan(data)))
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == sorted(
        name for name in names if name.startswith(("train-000000.", "train-000002."))
    )


def test_the_last_call_waits_for_tasks_and_tasks_for_it(data_gen: Any, long_config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    command = data_gen.command(long_config, "data.out=set", "data.num_workers=1")
    task = start([*command, "data.num_tasks=2", "data.task=1"], tmp_path)
    wait_until(lambda: len(shards(folder)) >= 2)
    task.send_signal(signal.SIGSTOP)  # else it may be done before the others look
    last = start(command, tmp_path)
    assert last.stderr is not None
    wait_until(lambda: "waiting for" in last.stderr.readline())
    late = start([*command, "data.num_tasks=2", "data.task=0"], tmp_path)
    assert late.stderr is not None
    wait_until(lambda: "waiting for" in late.stderr.readline())
    assert not any(int(name[-6:]) % 2 == 0 for name in shards(folder)), "both wait"
    task.send_signal(signal.SIGCONT)
    outputs = [process.communicate(timeout=60) for process in (task, last, late)]
    assert [process.returncode for process in (task, last, late)] == [0, 0, 0], outputs
    assert "completed meanwhile" in outputs[2][1]
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "train"]


def test_tasks_of_another_number_wait(tmp_path: Path) -> None:
    """Shards of tasks of different numbers are the same shards; tasks of one number have none in common."""
    with claimed(tmp_path, task=0, num_tasks=2), claimed(tmp_path, task=1, num_tasks=2):
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == [".claim-2-task-0", ".claim-2-task-1"]
        other = Claim(tmp_path / ".claim-2-task-1")
        assert not other._try(), "it is held"
    assert not list(tmp_path.iterdir())


def test_a_claim_of_a_dead_maker_holds_nobody_up(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = os.uname().nodename
    for name in (".claim", ".claim-7-task-3"):
        (tmp_path / name).write_text(f"{host}:{dead.pid}:00000000")
    with claimed(tmp_path, task=2, num_tasks=4):
        assert [path.name for path in tmp_path.iterdir()] == [".claim-4-task-2"]


def test_a_number_of_tasks_without_a_task_is_said_to_have_no_effect(
    data_gen: Any, small_config: Path, tmp_path: Path
) -> None:
    result = data_gen.run(small_config, "data.out=set", "data.num_tasks=4", "data.num_samples.train=20", cwd=tmp_path)
    assert result.returncode == 0
    assert "note: data.num_tasks has no effect without data.task" in result.stderr
    assert (tmp_path / "set" / "dataset.json").exists()
