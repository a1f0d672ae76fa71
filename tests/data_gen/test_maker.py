"""Making datasets: the same bytes always, also after interruptions; one maker; refusals before anything is written."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from watching import hashes, wait_until

from dualenc.errors import InputError


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def records(folder: Path) -> list[Path]:
    """Progress records of finished shards."""
    return [path for path in folder.glob(".progress/*-*.json") if ".tmp-" not in path.name]


def test_one_and_four_workers_write_the_same_bytes(
    data_gen: Any, small_config: Path, small_dataset: Path, tmp_path: Path
) -> None:
    result = data_gen.run(small_config, "data.num_workers=4", f"data.root={tmp_path / 'sets'}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.splitlines()[-1])
    description = json.loads((folder / "dataset.json").read_text())
    assert folder.name == f"flat-{description['hash']}"
    assert hashes(folder) == hashes(small_dataset)
    for split in description["splits"].values():
        for shard in split["shards"]:
            assert hashlib.sha256((folder / shard["path"]).read_bytes()).hexdigest() == shard["sha256"]


def test_a_complete_dataset_is_left_alone(data_gen: Any, small_config: Path, small_dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_dataset.rglob("*")}
    result = data_gen.run(small_config, f"data.out={small_dataset}", cwd=small_dataset.parent)
    assert result.returncode == 0
    assert "complete already" in result.stderr
    assert result.stdout == f"{small_dataset}\n"
    assert {path: path.stat().st_mtime_ns for path in small_dataset.rglob("*")} == before


def test_the_folder_of_another_config_is_refused(
    data_gen: Any, small_config: Path, small_dataset: Path, listing: Callable[[Path], list[str]]
) -> None:
    before = listing(small_dataset)
    result = data_gen.run(small_config, f"data.out={small_dataset}", "data.seed=1", cwd=small_dataset.parent)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: data.out: {small_dataset} holds another dataset")
    assert "data.seed is 0 there and 1 here)" in result.stderr
    assert listing(small_dataset) == before


def test_a_folder_that_cannot_be_made_is_refused_by_its_key(data_gen: Any, small_config: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for key, folder, problem in (
        ("data.out", file / "inner", f"{file} is a file"),
        ("data.root", file, f"{file} is a file"),
        ("data.out", Path("/proc/dataset"), "/proc/dataset cannot be made"),
    ):
        result = data_gen.run(small_config, f"{key}={folder}", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1].startswith(f"error: {key}: {problem}")


@pytest.mark.parametrize("key", ["data.out", "data.root"])
def test_a_folder_in_use_is_refused_by_the_key_that_says_where_it_is(
    small_config: Path, tmp_path: Path, key: str
) -> None:
    from data_gen.config import dataset_folder, load_config
    from data_gen.make import preview

    data = load_config(small_config, [f"{key}={tmp_path / 'set'}"])
    folder = dataset_folder(data)
    folder.mkdir(parents=True)
    for name, content, said in (
        ("mine.txt", "", "holds other files (mine.txt)"),
        ("dataset.json", "{", "is not readable; remove"),
        ("dataset.json", '{"hash": "0", "config": {}}', "holds another dataset (hash 0, this config has"),
    ):
        (folder / name).write_text(content)
        with pytest.raises(InputError) as caught:
            preview(data)
        assert str(caught.value).startswith(f"{key}: {folder}")
        assert said in str(caught.value)


@pytest.fixture(scope="module")
def long_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 80 shards, which takes long enough to be interrupted."""
    path = tmp_path_factory.mktemp("long") / "long.yaml"
    path.write_text(
        "data:\n  num_samples: {train: 4000, val: 0, val_ood: 0, ood: 0, mixed: 0}\n  samples_per_shard: 50\n"
    )
    return path


@pytest.fixture(scope="module")
def uninterrupted(data_gen: Any, long_config: Path) -> dict[str, str]:
    """The hashes of all files of the long dataset, made without interruption."""
    result = data_gen.run(long_config, "data.out=whole", cwd=long_config.parent)
    assert result.returncode == 0, result.stderr
    return hashes(long_config.parent / "whole")


def run_in_slices(group: int, until: Callable[[], bool]) -> None:
    """Stops a process group every 50 ms to look, so that it cannot be far beyond `until` then; leaves it stopped."""

    def looked() -> bool:
        os.killpg(group, signal.SIGCONT)
        time.sleep(0.05)
        os.killpg(group, signal.SIGSTOP)
        return until()

    try:
        wait_until(looked)
    except BaseException:
        os.killpg(group, signal.SIGKILL)  # nobody else would end what is stopped
        raise


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_maker_leaves_no_process_and_is_continued(
    data_gen: Any, long_config: Path, uninterrupted: dict[str, str], tmp_path: Path, death: signal.Signals
) -> None:
    folder = tmp_path / "parts"
    process = subprocess.Popen(
        data_gen.command(long_config, f"data.out={folder}", "data.num_workers=2"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    run_in_slices(process.pid, until=lambda: len(records(folder)) >= 3)
    workers = children(process.pid)
    (folder / "train" / "train-000079.tar.tmp-1-dead").write_bytes(b"left over")
    os.kill(process.pid, death)  # the maker alone, not its workers
    os.killpg(process.pid, signal.SIGCONT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == (130 if death == signal.SIGINT else -signal.SIGKILL), told
    wait_until(lambda: not any(map(is_alive, workers)), 5)
    assert not (folder / "dataset.json").exists()
    if death == signal.SIGINT:
        assert not list(folder.rglob("*.tmp-*"))
        assert not (folder / ".claim").exists()
    finished = [folder / "train" / f"{record.stem}.tar" for record in records(folder)]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished}
    assert 3 <= len(before) < 40

    other = data_gen.run(long_config, f"data.out={folder}", "data.seed=1", cwd=tmp_path)
    assert other.returncode == 2
    assert "holds another dataset" in other.stderr

    again = data_gen.run(long_config, f"data.out={folder}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"continuing: {len(before)} of 80 shards are finished" in again.stderr
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished} == before
    assert hashes(folder) == uninterrupted


def test_workers_in_the_middle_of_a_long_shard_end_with_their_parent(data_gen: Any, tmp_path: Path) -> None:
    (tmp_path / "endless.yaml").write_text("data:\n  num_samples: {train: 400000}\n  samples_per_shard: 200000\n")
    command = data_gen.command("endless.yaml", "data.out=set", "data.num_workers=2")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: sum(cpu_seconds(worker) > 0.8 for worker in children(process.pid)) == 2)
    workers = children(process.pid)
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_alive, workers)), 3)
    assert not list(tmp_path.rglob("*.tar"))


@pytest.mark.parametrize("platform", ["linux", "other"])
def test_a_worker_that_hears_nothing_ends_with_its_parent(platform: str) -> None:
    """By the kernel on Linux, by the watchdog thread elsewhere."""
    child = (
        "import os, sys, time\n"
        f"sys.platform = {platform!r}\n"
        "from dualenc import processes\n"
        "processes._WATCH_SECONDS = 30 if sys.platform == 'linux' else 0.1\n"
        "processes.die_with(int(sys.argv[1]))\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, str(os.getpid())])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    assert is_alive(worker)
    process.kill()
    process.wait()
    wait_until(lambda: not is_alive(worker), 3)
    process.stdout.close()


def test_a_second_maker_waits_and_finds_the_dataset_complete(data_gen: Any, long_config: Path, tmp_path: Path) -> None:
    command = data_gen.command(long_config, "data.out=set", "data.num_workers=1", "data.num_samples.train=1000")
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **pipes)
    wait_until(lambda: records(tmp_path / "set"))
    first.send_signal(signal.SIGSTOP)  # else it may be done before the second looks
    second = subprocess.Popen(command, **pipes)
    assert second.stderr is not None
    assert "waiting for" in second.stderr.readline()
    first.send_signal(signal.SIGCONT)
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert [out for out, _ in outputs] == ["set\n", "set\n"]
    assert "completed meanwhile" in outputs[1][1]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["dataset.json", "train"]


def test_a_full_disk_is_one_line_and_keeps_finished_shards(data_gen: Any, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the small shard fits under it, the large one does not."""
    (tmp_path / "full.yaml").write_text(
        "data:\n  num_samples: {train: 20, val: 400, val_ood: 0, ood: 0, mixed: 0}\n  samples_per_shard: 400\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))

    command = data_gen.command("full.yaml", "data.out=set", "data.num_workers=1")
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "val-000000.tar" in errors[0]
    assert "File too large" in errors[0]
    assert not list(tmp_path.rglob("*.tmp-*"))
    kept = tmp_path / "set" / "train" / "train-000000.tar"
    before = kept.stat().st_ino, kept.stat().st_mtime_ns
    again = data_gen.run("full.yaml", "data.out=set", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == before


BAD_INPUT = [
    ("data.num_sampels.train=3", "data.num_sampels: unknown key; did you mean data.num_samples"),
    ("data.num_samples.ttrain=3", "data.num_samples.ttrain: unknown key; did you mean data.num_samples.train"),
    ("data.coverage=1.3", "data.coverage: 1.3 is out of range"),
    ("data.coverage=0", "data.coverage: 0.0 is out of range"),
    ("data.coverage=0.05", "data.coverage: 0.05 gives 3 training objects"),
    ("data.coverage=0.99", "data.coverage: 0.99 holds out"),
    ("data.coverage=lots", "data.coverage: 'lots' is not valid; expected float"),
    ("data.task=1", "data.task: 1 is out of range; the tasks of data.num_tasks=1 are 0 to 0"),
    ("data.objects={0: 1}", "data.objects: 0 objects in a scene are too few"),
    ("data.objects={}", "data.objects: is empty"),
    ("data.objects={2: -1}", "data.objects.2: -1.0 is out of range"),
    ("data.objects={1: 1}", "data.num_samples.mixed: scenes of one object cannot mix"),
    ("data.concepts={color: 99}", "data.concepts.color: 99 is out of range"),
    ("data.concepts={colour: 3}", "data.concepts.colour: the flat style has no such concept"),
    ("data.concepts.color=[red, bleu]", "data.concepts.color: the flat style cannot draw 'bleu'; did you mean blue"),
    ("data.concepts.color=[red, red]", "data.concepts.color: ['red', 'red'] must be a list of different values"),
    ("data.split=random", "data.split: 'random' is not valid; expected uniform | checkerboard | block"),
    ("data.collision_rate=2", "data.collision_rate: 2.0 is out of range"),
    ("data.sampling=exhaustive", "data.num_samples.train: there are only 2601 scenes to list"),
    ("data.samples_per_shard=7", "data.samples_per_shard: 7 would part swap partners"),
    ("data.picture.format=gif", "data.picture.format: 'gif' is not valid; expected jpg | png"),
    ("data.picture.object_size=0.8", "data.objects: 2 objects at least"),
    ("data.picture.background=[1, 0]", "data.picture.background: [1.0, 0.0] is no range"),
    ("data.objects={9: 1}", "data.picture.size: 32 makes the smallest objects"),
    ("data.captions.templates=['look: {}']", "data.captions.templates: 'look: {}' is no template of the grammar"),
    ("data.objects={13: 1}", "data.objects: 13 objects in a scene are too many for exact truth; use at most 12"),
    ("data.name=a/b", "data.name: 'a/b' is no folder name; use 1 to 100 of the characters A-Z a-z 0-9 . - _"),
    ("data.name=.hidden", "data.name: '.hidden' is no folder name"),
    ("data.name='a b'", "data.name: 'a b' is no folder name"),
    ('data.name="a\\nb"', "data.name: 'a\\nb' is no folder name"),
    (f"data.name={'a' * 101}", f"data.name: '{'a' * 101}' is no folder name"),
    ("data.out=bad.yaml", "data.out: bad.yaml is a file"),
    ("data.out=/proc/here", "data.out: /proc/here cannot be made"),
    ("data.out=.", "data.out: . holds other files"),
    ("data", "data: expected key=value"),
]


@pytest.mark.parametrize(("override", "message"), BAD_INPUT, ids=[override for override, _ in BAD_INPUT])
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    listing: Callable[[Path], list[str]],
    override: str,
    message: str,
) -> None:
    from data_gen.__main__ import main
    from dualenc.errors import run_cli

    (tmp_path / "bad.yaml").write_text("data: {name: bad}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["data_gen", "bad.yaml", override])
    with pytest.raises(SystemExit) as left:
        run_cli(main)
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1
    assert listing(tmp_path) == ["bad.yaml"]


def test_bad_input_is_refused_fast_without_torch(data_gen: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("data: {num_sampels: {train: 3}}\n")
    start = time.monotonic()
    result = data_gen.run("bad.yaml", cwd=tmp_path)
    assert time.monotonic() - start < 5
    assert result.returncode == 2
    assert result.stderr == "error: data.num_sampels: unknown key; did you mean data.num_samples\n"
    assert data_gen.run("absent.yaml", cwd=tmp_path).stderr.startswith("error: absent.yaml: no such config file")
    assert data_gen.run(cwd=tmp_path).returncode == 2


def test_help_names_every_key(data_gen: Any, tmp_path: Path) -> None:
    from data_gen.config import Config
    from dualenc.configs import leaf_keys

    result = data_gen.run("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert all(key in result.stdout for key in leaf_keys(Config))


def test_only_what_changes_the_bytes_is_in_the_hash() -> None:
    from data_gen.config import Config
    from dualenc.configs import leaf_keys

    free = {key for key, identity in leaf_keys(Config).items() if not identity}
    assert free == {"data.out", "data.root", "data.num_workers", "data.num_tasks", "data.task"}


def test_a_count_and_the_list_it_stands_for_are_the_same_dataset(tmp_path: Path) -> None:
    from data_gen.config import config_hash, load_config

    (tmp_path / "c.yaml").write_text("data: {concepts: {color: 2, shape: 4}, coverage: 0.5}\n")
    by_count = load_config(tmp_path / "c.yaml")
    by_list = load_config(tmp_path / "c.yaml", ["data.concepts.color=[gray, red]", "data.out=elsewhere"])
    assert config_hash(by_count) == config_hash(by_list)
    assert config_hash(by_count) != config_hash(load_config(tmp_path / "c.yaml", ["data.concepts.color=[red, gray]"]))
