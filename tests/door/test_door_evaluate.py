"""`python -m dualenc.evaluate`: the run's own numbers again, and other datasets."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualenc import embed, evaluate, export
from dualenc.analysis.studies import StudyOptions
from dualenc.analysis.targets import RunTarget, open_target
from dualenc.build import build_source, model_spec
from dualenc.data import Dataset, Source
from dualenc.errors import InputError
from dualenc.loading import LoadedModel
from dualenc.reopen import reopen

CopyOf = Callable[[Path], Path]


def run_evaluate(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> tuple[dict[str, Any], str, Path]:
    """The result, what was printed, and the path of the result's file."""
    evaluate.main([str(argument) for argument in arguments])
    printed = capsys.readouterr().out
    file = Path(printed.splitlines()[-1])
    return json.loads(file.read_text()), printed, file


def refusal(*arguments: Path | str) -> str:
    """The one line with which a command is refused."""
    with pytest.raises(InputError) as refused:
        evaluate.main([str(argument) for argument in arguments])
    assert "\n" not in str(refused.value)
    return str(refused.value)


def edit_json(file: Path, **changes: Any) -> None:
    """Replaces keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def measured(summary: dict[str, Any]) -> dict[str, Any]:
    """The metrics that come from evaluation, not from training."""
    return {name: value for name, value in summary.items() if not name.startswith("coverage/")}


@pytest.mark.parametrize("which", ["flat_run", "symbolic_run"])
def test_the_own_data_gives_the_summary_s_metrics(
    which: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run = request.getfixturevalue(which)
    before = (run / "summary.json").read_bytes()
    summary = json.loads(before)
    last, printed, last_file = run_evaluate(capsys, run)
    assert last["metrics"] == measured(summary["metrics"])
    assert last["dataset"] == summary["dataset"]
    assert (last["weights"], last["samples"], last["run"]) == ("last", summary["samples"], run.name)
    assert last_file.parent == run / "evaluations"
    assert last_file.name.startswith(summary["dataset"]["name"] + "-")
    assert "bag level" in printed
    best, _, best_file = run_evaluate(capsys, run, "weights=best")
    assert best["metrics"] == summary["best"]["metrics"]
    assert (best["weights"], best["samples"]) == ("best", summary["best"]["samples"])
    assert best_file != last_file
    assert (run / "summary.json").read_bytes() == before


def test_best_and_last_weights_differ(flat_run: Path) -> None:
    """Else the test above would not tell them apart."""
    summary = json.loads((flat_run / "summary.json").read_text())
    assert summary["best"]["samples"] < summary["samples"]
    assert summary["best"]["metrics"] != measured(summary["metrics"])


def test_another_dataset_is_read_in_the_model_s_vocabulary(
    flat_run: Path, flat_data: Path, copy_of: CopyOf, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = copy_of(flat_data)
    shutil.rmtree(other / ".cache", ignore_errors=True)
    meta = json.loads((other / "dataset.json").read_text())
    edit_json(other / "dataset.json", vocabulary=meta["vocabulary"][::-1], name="reversed")
    out = tmp_path / "result.json"
    result, _, file = run_evaluate(capsys, flat_run, f"data.path={other}", f"out={out}")
    assert file == out
    assert (result["dataset"]["name"], result["dataset"]["hash"]) == ("reversed", meta["hash"])
    assert result["metrics"] == measured(json.loads((flat_run / "summary.json").read_text())["metrics"])


def test_a_model_keeps_the_vocabulary_of_its_dataset(flat_model: LoadedModel, flat_data: Path, copy_of: CopyOf) -> None:
    other = copy_of(flat_data)
    words = json.loads((other / "dataset.json").read_text())["vocabulary"][::-1]
    edit_json(other / "dataset.json", vocabulary=words)
    spec = model_spec(flat_model.config, build_source(flat_model.config, Dataset(other)))
    assert spec.vocabulary == ["[PAD]", "[EOS]", *words]
    assert spec.coder.tokenizer.encode(words[0]) == [2, 1]  # type: ignore[union-attr]


def test_a_dataset_that_the_model_cannot_read_is_refused(flat_run: Path, flat_data: Path, copy_of: CopyOf) -> None:
    other = copy_of(flat_data)
    meta = json.loads((other / "dataset.json").read_text())
    concepts, path = meta["concepts"], f"data.path={other}"

    def with_(**changes: Any) -> str:
        edit_json(other / "dataset.json", **{**meta, **changes})
        return refusal(flat_run, path)

    shapes = [*concepts["shape"][:-1], "heart"]
    message = with_(concepts={**concepts, "shape": shapes})
    assert "shape has other values: it lacks star and heart is new" in message
    assert "order" in with_(concepts={"shape": concepts["shape"], "color": concepts["color"]})
    assert "another order" in with_(concepts={**concepts, "color": concepts["color"][::-1]})
    assert "mauve" in with_(vocabulary=[*meta["vocabulary"], "mauve"])
    assert "data.picture.size=24" in with_(picture={**meta["picture"], "size": 32})
    assert "no dataset.json" in refusal(flat_run, "data.path=nowhere")
    assert not list(other.glob("**/*.tmp-*"))


def test_more_than_the_model_reads_is_refused(
    flat_run: Path, symbolic_run: Path, flat_data: Path, flat_model: LoadedModel
) -> None:
    assert "the model knows k0, k1, k2, in this order" in refusal(symbolic_run, f"data.path={flat_data}")

    def reopened_with(**changes: Any) -> Source:
        spec = replace(flat_model.spec, **changes)
        return reopen(LoadedModel(flat_run, spec, flat_model.model, weights="last", samples=0), str(flat_data))

    towers = flat_model.spec.model
    tokens = replace(towers, scene=replace(towers.scene, kind="symbolic"))
    assert reopened_with(model=tokens, max_objects=2).num_samples("ood") == 40
    with pytest.raises(InputError, match="scenes of 2 objects, the model reads 1"):
        reopened_with(model=tokens, max_objects=1)
    assert reopened_with(max_objects=1).num_samples("ood") == 40
    with pytest.raises(InputError, match="texts of 12 tokens, the model reads 9"):
        reopened_with(max_objects=0)


def test_data_that_is_no_longer_what_the_run_saw_is_refused(flat_run: Path, copy_of: CopyOf) -> None:
    folder = copy_of(flat_run)
    summary = json.loads((folder / "summary.json").read_text())
    edit_json(folder / "summary.json", dataset={**summary["dataset"], "hash": "0000000000"})
    message = refusal(folder)
    assert "was trained on 0000000000" in message
    assert "data.path=" in message


def test_data_that_lie_elsewhere_now_can_be_given(flat_run: Path, flat_data: Path, copy_of: CopyOf) -> None:
    folder = copy_of(flat_run)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace(str(flat_data), "gone"))
    assert "comes from gone, which is not here" in refusal(folder)
    options = StudyOptions()
    options.data.path = str(flat_data)
    target = open_target(str(folder), options)
    assert isinstance(target, RunTarget)
    assert target.train.tolist() == Dataset(flat_data).split.train.tolist()
    summary = json.loads((folder / "summary.json").read_text())
    edit_json(folder / "summary.json", dataset={**summary["dataset"], "hash": "0000000000"})
    with pytest.raises(InputError, match="comes from gone"):  # what training showed, another dataset does not tell
        open_target(str(folder), options)


def test_a_place_that_cannot_be_written_is_refused_first(
    flat_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dualenc.load", lambda *_: pytest.fail("loaded"))
        assert "out: " in refusal(flat_run, f"out={tmp_path / 'nowhere' / 'result.json'}", "data.path=nowhere")
        assert f"out: {tmp_path} is a folder" in refusal(flat_run, f"out={tmp_path}")
        patched.setattr("dualenc.errors.os.access", lambda *_: False)
        assert f"out: {flat_run}" in refusal(flat_run)


def test_a_refused_evaluation_leaves_nothing_behind(flat_run: Path, copy_of: CopyOf) -> None:
    folder = copy_of(flat_run)
    shutil.rmtree(folder / "evaluations", ignore_errors=True)
    before = sorted(folder.rglob("*"))
    assert "no dataset.json" in refusal(folder, "data.path=nowhere")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "part"),
    [("{", "not valid JSON"), ('{"name": "x"}', "holds no metrics, "), ('{"metrics": {}}', "holds no .*dataset")],
)
def test_a_damaged_summary_is_refused_by_every_tool(
    flat_run: Path, copy_of: CopyOf, tmp_path: Path, content: str, part: str
) -> None:
    folder = copy_of(flat_run)
    (folder / "summary.json").write_text(content)
    for tool, arguments in ((evaluate, []), (embed, ["val", tmp_path / "out"]), (export, [tmp_path / "out"])):
        with pytest.raises(InputError, match=rf"summary\.json: {part}") as refused:
            tool.main([str(folder), *map(str, arguments)])
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_run_is_refused_before_torch_is_imported(python: Callable[..., Any]) -> None:
    script = """
import sys
import dualenc
from dualenc import embed, evaluate, export
from dualenc.errors import InputError
calls = (
    lambda: dualenc.load("nowhere-1"),
    lambda: evaluate.main(["nowhere-1"]),
    lambda: embed.main(["nowhere-1", "val", "out"]),
    lambda: export.main(["nowhere-1", "out"]),
)
for call in calls:
    try:
        call()
    except InputError as error:
        print(error)
    assert "torch" not in sys.modules
"""
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    assert [line.partition(";")[0] for line in done.stdout.splitlines()] == ["nowhere-1: no such run folder"] * 4


@pytest.mark.parametrize(
    ("tool", "positional"),
    [("evaluate", ["RUN"]), ("embed", ["RUN", "val", "OUT"]), ("export", ["RUN", "OUT"])],
)
def test_the_command_line(tool: str, positional: list[str], python: Callable[..., Any]) -> None:
    for arguments, part in (
        ([*positional, "weight=best"], "did you mean weights"),
        (positional[:-1], f"{'RUN' if tool == 'evaluate' else 'OUT'}: it is missing"),
        (["weights=best"], "RUN"),
        (
            [],
            f"usage: python -m dualenc.{tool} {' '.join('SPLIT' if name == 'val' else name for name in positional)} [",
        ),
        (positional, "RUN: no such run folder"),
    ):
        done = python("-m", f"dualenc.{tool}", *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr.startswith("error: ")
        assert part in done.stderr
        assert done.stderr.count("\n") == 1
    helped = python("-m", f"dualenc.{tool}", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert f"python -m dualenc.{tool} RUN" in helped.stdout
    assert "weights" in helped.stdout
