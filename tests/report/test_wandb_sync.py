"""The offline wandb run holds what the run folder holds: read back record by record from wandb's own file."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image
from wandb.proto import wandb_internal_pb2

from dualenc.configs import WANDB_PROJECT
from dualenc.errors import InputError
from dualenc.report.folder import read_examples
from dualenc.sync import UPLOADED, LiveWandb, Membership, _send, export_offline, main, membership, upload

BLOCK = 32_768
HEADER = 7  # of the file as of every record part


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """The records of a `.wandb` file: LevelDB's log format behind a header of wandb's own, checksums verified."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = HEADER, []
    while position < len(data):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        part = data[position + HEADER : position + HEADER + length]
        assert zlib.crc32(part, zlib.crc32(bytes([kind]))) == checksum
        parts.append(part)
        position += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def read_back(folder: Path) -> dict:
    """History lines, summary, config, metric definitions, id and artifact files of an offline run."""
    [path] = folder.glob("*.wandb")
    found: dict = {"history": [], "steps": [], "summary": {}, "config": {}, "defined": {}, "files": {}}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = record.history.item
            line = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            found["history"].append({key: value for key, value in line.items() if not key.startswith("_")})
            found["steps"].append(line.get("_step", record.history.step.num))
        elif kind == "summary":
            found["summary"] |= {
                i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update
            }
        elif kind == "run":
            found["id"], found["group"], found["project"] = record.run.run_id, record.run.run_group, record.run.project
            found["tags"] = list(record.run.tags)
            found["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "metric":
            found["defined"][record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "request" and record.request.HasField("log_artifact"):
            contents = record.request.log_artifact.artifact.manifest.contents
            found["files"] |= {entry.path: Path(entry.local_path) for entry in contents}
        elif kind == "artifact":
            found["files"] |= {entry.path: Path(entry.local_path) for entry in record.artifact.manifest.contents}
    return found


@pytest.fixture(scope="module")
def run(make_run, tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("sync"))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:24]))  # two evaluations are enough
    return run


@pytest.fixture(scope="module")
def offline(run) -> Path:
    return export_offline(run)


def test_offline_run_holds_every_metric_line(run, offline):
    found = read_back(offline)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected: dict[int, dict] = {}  # lines of one training step are one step of wandb
    for line in lines:
        expected.setdefault(line["step"], {}).update({key: value for key, value in line.items() if value is not None})
    assert found["history"][:-1] == list(expected.values())
    assert found["steps"] == [*expected, lines[-1]["step"] + 1]
    assert found["config"]["run_folder"]["segment"]["git_commit"] == "1a2b3c4"
    assert (found["id"], found["project"]) == ("4f1c09ab", "binding")
    assert found["defined"]["samples"] == ""
    assert found["defined"]["*"] == "samples"
    assert found["config"]["data"] == {"coverage": 0.8}
    assert found["config"]["run_folder"]["dataset"]["hash"] == "c0ffee12"
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    assert {key: found["summary"][key] for key, value in metrics.items() if value is not None} == {
        key: value for key, value in metrics.items() if value is not None
    }


def test_offline_run_holds_the_worst_bound_scenes_without_a_file_for_each(run, offline):
    found = read_back(offline)
    table = json.loads(found["files"]["examples.table.json"].read_text())
    assert len(table["data"]) == 10
    assert "picture" not in table["columns"]
    assert sum(1 for _ in (run / "wandb").rglob("*")) < 16


def test_an_upload_holds_the_worst_bound_scenes_with_pictures(run, tmp_path, monkeypatch):
    """The command is taken in place of a server."""
    found: dict = {}

    def send(command, **_):
        [path] = (Path(part) for part in command if "offline-run-" in part)
        found.update(read_back(path))
        found["files"] = {name: file.read_bytes() for name, file in found["files"].items()}
        found["folder"] = path
        return subprocess.CompletedProcess(command, returncode=0)

    real = subprocess.run
    monkeypatch.setattr("dualenc.sync.subprocess.run", lambda c, **k: send(c, **k) if "sync" in c else real(c, **k))
    before = sorted((run / "wandb").rglob("*"))
    assert upload(run)
    assert sorted((run / "wandb").rglob("*")) == sorted([*before, run / UPLOADED])
    assert not found["folder"].exists()
    assert found["history"][-1]["examples/_type"] == "table-file"
    assert found["history"][-1]["examples/nrows"] == 10
    table = json.loads(found["files"]["examples.table.json"])
    scene = json.loads((run / "examples" / "val.json").read_text())[0]
    row = dict(zip(table["columns"], table["data"][0]))
    for key in ("split", "index", "caption_preferred", "caption_true", "score_preferred", "score_true"):
        assert row[key] == scene[key]
    sent, kept = (
        np.asarray(Image.open(io.BytesIO(png)))
        for png in (found["files"][row["picture"]["path"]], read_examples(run)["val"][0]["image"])
    )
    assert np.array_equal(sent, kept)


def test_export_stays_inside_the_run_folder(make_run, tmp_path):
    run = make_run(tmp_path / "runs", pictures=False)
    (run / "metrics.jsonl").write_text('{"step": 1, "samples": 8, "train/loss": 2.5}\n')
    home = tmp_path / "home"
    home.mkdir()
    elsewhere = {f"WANDB_{kind}": str(home / kind.lower()) for kind in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR")}
    hostile = {
        "HOME": str(home),
        "WANDB_MODE": "disabled",
        "WANDB_RUN_ID": "other",
        "WANDB_RUN_GROUP": "other",
        **elsewhere,
    }
    code = "import sys, pathlib, dualenc.sync; print(dualenc.sync.export_offline(pathlib.Path(sys.argv[1])))"
    call = [sys.executable, "-c", code, str(run)]
    environment = {**os.environ, **hostile}
    done = subprocess.run(call, cwd=home, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    assert list(home.iterdir()) == []
    found = read_back(Path(done.stdout.strip()))
    assert found["history"][0] == {"step": 1, "samples": 8, "train/loss": 2.5}
    assert (found["id"], found["group"]) == ("4f1c09ab", "")


def test_exporting_again_replaces_the_earlier_run_unless_it_fails(make_run, tmp_path, monkeypatch):
    run = make_run(tmp_path, pictures=False)
    metrics = run / "metrics.jsonl"
    metrics.write_text('{"step": 1, "samples": 8, "train/loss": 2.5}\n')
    first = export_offline(run)
    leftover = run / "wandb" / ".export-killed"
    leftover.mkdir()
    with open(metrics, "a") as file:
        file.write('{"step": 2, "samples": 16, "train/loss": 2.25}\n')
    again = export_offline(run)
    names = sorted(path.name for path in (run / "wandb").iterdir())
    assert len(names) == 2
    assert names[0].startswith("artifacts-")
    assert names[1] == again.name
    assert not leftover.exists()
    assert first.parent == again.parent
    assert [line["train/loss"] for line in read_back(again)["history"] if "train/loss" in line] == [2.5, 2.25]
    monkeypatch.setattr("dualenc.sync._CHILD", "raise SystemExit('no space')")
    with pytest.raises(InputError, match=r"could not write the offline run: no space$"):
        export_offline(run)
    assert sorted(path.name for path in (run / "wandb").iterdir()) == names


def test_live_logging_writes_the_same_kind_of_run(tmp_path, monkeypatch):
    for kind in ("DATA", "CACHE"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / "wandb"))
    wandb.setup()  # from here on wandb has read its environment, as it has when anything else used it before
    monkeypatch.setenv("WANDB_RUN_GROUP", "some")
    monkeypatch.setenv("WANDB_TAGS", "data.coverage=0.5,run.seed=3")
    live = LiveWandb(tmp_path, {"run": {"seed": 3}}, run_id="beef", mode="offline")
    live.log({"samples": 8, "train/loss": 2.5, "val/binding_gain": None})
    live.log({"samples": 16, "train/loss": 2.25})
    live.finish({"val/binding_gain": 0.5})
    [folder] = (tmp_path / "wandb").glob("offline-run-*-beef")
    found = read_back(folder)
    assert found["history"] == [{"samples": 8, "train/loss": 2.5}, {"samples": 16, "train/loss": 2.25}]
    assert found["config"]["run"] == {"seed": 3}
    assert (found["group"], found["tags"]) == ("some", ["data.coverage=0.5", "run.seed=3"])
    assert found["summary"]["val/binding_gain"] == 0.5
    assert found["defined"]["*"] == "samples"


def append(run: Path, *samples: int) -> None:
    with open(run / "metrics.jsonl", "a") as file:
        file.writelines(f'{{"step": {i // 8}, "samples": {i}, "train/loss": {i / 8}}}\n' for i in samples)


def test_an_upload_sends_what_is_new_and_nothing_twice(make_run, tmp_path, monkeypatch):
    """The command is taken in place of a server: what it would send is read back, and the first attempt fails."""
    run = make_run(tmp_path, pictures=False, splits=[], finished=False)
    (run / "metrics.jsonl").write_text("")
    append(run, 8, 16)
    sent, commands, cwd = [], [], []

    def fake(command, **kwargs):
        if "sync" not in command:
            return real(command, **kwargs)
        commands.append(command[:5] + command[6:])
        cwd.append(kwargs["cwd"])
        assert Path(command[5]).is_relative_to(cwd[-1])
        sent.append(read_back(Path(command[5])))
        return subprocess.CompletedProcess(command, returncode=len(commands) == 1)

    real = subprocess.run
    monkeypatch.setattr("dualenc.sync.subprocess.run", fake)
    monkeypatch.setattr("dualenc.sync.RETRY_SECONDS", (0.0,))
    assert upload(run, project="other")
    assert commands == [[sys.executable, "-m", "wandb", "sync", "--yes", "--project", "other"]] * 2
    assert not any(folder.exists() for folder in cwd)
    assert sent[0] == sent[1]
    assert [line["samples"] for line in sent[1]["history"]] == [8, 16]
    assert not upload(run, project="other")
    assert len(commands) == 2

    append(run, 24, 32)
    assert upload(run, project="other")
    assert [line["samples"] for line in sent[2]["history"]] == [24, 32]
    assert sent[2]["steps"] == [3, 4]  # a continuation, not a run that begins again
    assert upload(run)  # to the project of its config, which has seen nothing of it
    assert [line["samples"] for line in sent[3]["history"]] == [8, 16, 24, 32]
    assert "--project" not in commands[3]


def test_an_upload_that_fails_again_and_again_is_one_line(make_run, tmp_path, monkeypatch):
    run = make_run(tmp_path, pictures=False, splits=[], finished=False)
    monkeypatch.setattr("dualenc.sync.RETRY_SECONDS", (0.0, 0.0))
    with pytest.raises(InputError, match="wandb login"):
        _send([sys.executable, "-c", "import sys; sys.exit(1)"], run, cwd=tmp_path)
    assert not (run / UPLOADED).exists()


def test_runs_of_a_sweep_are_grouped_and_tagged(make_run, tmp_path):
    run = make_run(tmp_path, pictures=False, splits=[], finished=False)
    (run / "metrics.jsonl").write_text("")
    append(run, 8)
    results = tmp_path / "sweeps" / "some" / "sweep.json"
    results.parent.mkdir(parents=True)
    values = {"data.coverage": 0.5, "data.names": ["x" * 80]}
    listed = [{"hash": "other", "values": {}}, {"hash": "4f1c09ab", "values": values}]
    results.write_text(json.dumps({"name": "some", "runs": listed}))
    assert membership(run) == Membership("some", values)
    found = read_back(export_offline(run))
    assert found["group"] == "some"
    assert found["tags"] == ["data.coverage=0.5", f"data.names=[{'x' * 52}"]
    assert found["config"]["sweep"] == {"sweep": "some", "values": values}


def test_a_run_that_was_logged_live_is_left_alone(make_run, tmp_path, capsys):
    run = make_run(tmp_path, pictures=False, splits=[], finished=False)
    (run / "config.yaml").write_text("logging: {wandb: online}\n")
    main([str(run)])
    assert capsys.readouterr().out == f"{run}: has been logged live\n"
    assert not (run / "wandb").exists()


BAD_PROJECTS = ("a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "", "x" * 129)


def test_the_project_names_that_wandb_takes():
    for project in ("a b", "dualenc", "x" * 128, "ü"):
        assert re.fullmatch(WANDB_PROJECT, project)
        wandb.Settings(project=project)
    for project in BAD_PROJECTS:
        assert not re.fullmatch(WANDB_PROJECT, project)
        if project:
            with pytest.raises(wandb.Error):
                wandb.Settings(project=project)
        with pytest.raises(InputError, match=r"^project: "):
            main(["nowhere-1", f"project={project}"])


def test_a_wandb_failure_is_one_line(make_run, tmp_path):
    run = make_run(tmp_path, pictures=False, splits=[])
    (run / "config.yaml").write_text("logging: {project: a/b}\n")
    with pytest.raises(InputError, match="Invalid project name 'a/b'") as refused:
        export_offline(run)
    assert "\n" not in str(refused.value)
    assert not list((run / "wandb").iterdir())
    with pytest.raises(InputError, match="Invalid project name 'a/b'") as refused:
        LiveWandb(tmp_path, {}, run_id="beef", project="a/b", mode="offline")
    assert "logging.wandb=disabled" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_command_line_refuses_bad_input_in_one_line(tmp_path):
    for arguments in ([], ["nowhere-1"]):
        call = [sys.executable, "-m", "dualenc.sync", *arguments]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
