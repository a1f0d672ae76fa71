"""The run folder: logs that survive a full disk and a kill, and a clear no to a folder that is another run's."""

import json
import os
from pathlib import Path

import pytest

from dualenc import config as configuration
from dualenc.config import Config
from dualenc.errors import InputError
from dualenc.run import MetricsLog, RunFolder, append_line, read_config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A small config whose run folder lies in `tmp_path`."""
    return configuration.load(None, ["data.path=nowhere", f"run.dir={tmp_path}"])


@pytest.fixture
def run(config: Config) -> RunFolder:
    """The opened folder of `config`, with one line in each log."""
    run = RunFolder.of(config, "c0ffee")
    run.open(config)
    run.metrics.append(step=1, samples=8, values={"train/loss": 2.5})
    run.add_segment({"start_samples": 0})
    return run


def test_the_same_config_opens_the_same_folder_again(run: RunFolder, config: Config) -> None:
    run.open(config)
    assert run.metrics.read() == [{"step": 1, "samples": 8, "train/loss": 2.5}]
    assert read_config(run.path) == config
    assert RunFolder.of(config, "decaf").path != run.path


@pytest.mark.parametrize("room", [0, 7])
def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    before = run.metrics.path.read_bytes()
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr("dualenc.run.os.write", lambda descriptor, data: write(descriptor, data[:room]))
        with pytest.raises(OSError, match="No space left on device") as error:
            run.metrics.append(step=2, samples=16, values={})
    assert error.value.filename == str(run.metrics.path)
    assert run.metrics.path.read_bytes() == before
    run.metrics.append(step=2, samples=16, values={})
    assert [row["samples"] for row in run.metrics.read()] == [8, 16]


@pytest.mark.parametrize("torn", [b'{"samp', b'{"step": 2, "samples": 16}', b"\0\0\0", b"\xff"])
def test_a_torn_last_line_is_dropped_on_opening(run: RunFolder, config: Config, torn: bytes) -> None:
    for log in (run.metrics.path, run.segments):
        with open(log, "ab") as file:
            file.write(torn)
    run.open(config)
    append_line(run.metrics.path, {"step": 2, "samples": 16})
    append_line(run.segments, {"start_samples": 16})
    assert [row["samples"] for row in run.metrics.read()] == [8, 16]
    assert [json.loads(line)["start_samples"] for line in run.segments.read_text().splitlines()] == [0, 16]


def test_cutting_back_drops_a_torn_last_line_too(run: RunFolder) -> None:
    run.metrics.append(step=2, samples=16, values={})
    with open(run.metrics.path, "a") as file:
        file.write('{"step": 3')
    run.metrics.cut_back(8)
    assert run.metrics.path.read_text() == '{"step": 1, "samples": 8, "train/loss": 2.5}\n'


@pytest.mark.parametrize("bad", ["{", "3", '{"step": 1}', "", "\0"])
def test_a_damaged_line_in_the_middle_is_named(run: RunFolder, config: Config, bad: str) -> None:
    with open(run.metrics.path, "a") as file:
        file.write(f'{bad}\n{{"step": 3, "samples": 24}}\n')
    before = run.metrics.path.read_bytes()
    for refused in (run.metrics.read, lambda: run.metrics.cut_back(8), lambda: run.open(config)):
        with pytest.raises(InputError, match=r"metrics\.jsonl line 2: ") as error:
            refused()
        assert "\n" not in str(error.value)
    assert run.metrics.path.read_bytes() == before


def test_a_damaged_segment_is_named_before_training(run: RunFolder, config: Config) -> None:
    run.segments.write_text("{\n{}\n")
    with pytest.raises(InputError, match=r"segments\.jsonl line 1: "):
        run.open(config)


def test_a_run_without_logs_has_no_rows(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.read() == []
    log.cut_back(0)
    assert not log.path.exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"# hash: 0123456789\n", "a run of another config"),
        (b"# hash: \n", "without the hash"),
        (b"", "without the hash"),
        (b"run: {name: mine}\n", "without the hash"),
        (b"\xff\xfe\0", "without the hash"),
    ],
)
def test_another_config_in_the_folder_is_refused_and_kept(
    run: RunFolder, config: Config, content: bytes, part: str
) -> None:
    stored = run.path / "config.yaml"
    stored.write_bytes(content)
    with pytest.raises(InputError, match=part) as error:
        run.open(config)
    assert str(error.value).startswith("run.dir: ")
    assert "\n" not in str(error.value)
    assert stored.read_bytes() == content


def test_checkpoints_without_a_config_are_refused(run: RunFolder, config: Config) -> None:
    (run.path / "config.yaml").unlink()
    (run.checkpoints / "last.ckpt").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds checkpoints but no config\.yaml"):
        run.open(config)
